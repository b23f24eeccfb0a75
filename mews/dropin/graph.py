"""An ensemble's graph as steps: every column is followed to the step, or the request, that it comes from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from etl.errors import CompileError, ConfigError, MewsError, Problem
from etl.graph import Column, FeatureGraph
from etl.requests import RequestForm
from mews.dropin.features import features_step, labels
from mews.dropin.models import Loaded
from mews.dropin.operators import PLUMBING, REFUSED, RULES, UNKNOWN, operator_name, unwrapped
from mews.dropin.steps import REQUEST, Made, Read, Source, Step

TARGET = "Triton ensemble"
_REFUSED = "?"
"""The role of columns that a refused step would make."""


def is_ensemble(source: Any) -> bool:
    """Return whether `source` is a merlin.systems.dag.Ensemble."""
    return any(
        cls.__name__ == "Ensemble" and cls.__module__.startswith("merlin.systems") for cls in type(source).__mro__
    )


def read_ensemble(
    ensemble: Any,
    label_columns: Collection[str] = (),
    forms: Mapping[str, RequestForm] | None = None,
    onnx: Mapping[str, Path] | None = None,
) -> Read:
    """Return an ensemble's steps and outputs; the ensemble is not changed.

    `label_columns` are raw columns that a request does not have; `forms` say how others arrive; `onnx` has files to
    take for models, by one of their output columns. Raises CompileError with every operator that cannot be served,
    ConfigError for columns that do not fit.
    """
    walk = Walk([*label_columns, *ensemble.label_columns], forms or {}, onnx or {})
    node = ensemble.graph.output_node
    _refuse_all(node)
    made = walk.columns_of(node)
    if walk.problems:
        raise CompileError(walk.problems)
    walk.check_given()
    if plain := [name for name, source in made.items() if source.role == REQUEST]:
        hint = "Leave it out of the ensemble's outputs: the client has it."
        raise ConfigError(
            f"outputs {', '.join(plain)}", expected="columns that a step makes", received="raw columns", hint=hint
        )
    return Read(tuple(walk.steps), made)


def _refuse_all(node: Any) -> None:
    """CompileError with every operator that has no rule, wherever it is."""
    problems = [
        _problem(each, reason, instead)
        for each in nodes(node)
        if (found := _reason(each.op))
        for reason, instead in [found]
    ]
    if problems:
        raise CompileError(problems)


def _reason(op: Any) -> tuple[str, str] | None:
    name = operator_name(op)
    if op.is_subgraph:
        again = ("loop_until repeats a graph as often as the data asks for.", "Unroll it, or loop in the client.")
        return again if op.loop_until is not None else None
    return None if name in RULES or name in PLUMBING else REFUSED.get(name, UNKNOWN)


def _problem(node: Any, reason: str, instead: str) -> Problem:
    names = () if node.output_schema is None else tuple(node.output_schema.column_names)
    return Problem(operator_name(node.op), names, TARGET, reason, instead)


def nodes(node: Any, seen: set[int] | None = None) -> list[Any]:
    """Return every node that `node` needs, those of subgraphs too, each once, in the order in which they run."""
    seen = set() if seen is None else seen
    if id(node) in seen:
        return []
    seen.add(id(node))
    found = [each for above in node.parents_with_dependencies for each in nodes(above, seen)]
    if node.op.is_subgraph:
        found += nodes(node.op.graph.output_node, seen)
    return [*found, node]


class Walk:
    """Collects steps and problems while columns are followed from the output to the request."""

    def __init__(
        self, label_columns: Collection[str], forms: Mapping[str, RequestForm], onnx: Mapping[str, Path]
    ) -> None:
        self.steps: list[Step] = []
        self.problems: list[Problem] = []
        self._labels, self._forms, self._onnx = label_columns, forms, onnx
        self._used: set[str] = set()
        self._roles: list[str] = []
        self._done: dict[int, Made] = {}
        self._workflows: dict[tuple[int, tuple[tuple[str, Source], ...]], Made] = {}
        self._root: Made | None = None

    def role(self, kind: str) -> str:
        """A new role that begins with `kind`: model, model2, model3."""
        same = sum(role.startswith(kind) for role in self._roles)
        self._roles.append(kind + (str(same + 1) if same else ""))
        return self._roles[-1]

    def given(self, op: Any, outputs: list[str]) -> Path | None:
        """The ONNX file that was given for the operator with these outputs."""
        name = next((name for name in outputs if name in self._onnx), None)
        if name is None:
            return None
        self._used.add(name)
        return Path(self._onnx[name])

    def check_given(self) -> None:
        """ConfigError for ONNX files that belong to no model."""
        if unused := sorted(set(self._onnx) - self._used):
            raise ConfigError(f"onnx: {', '.join(unused)}", expected="output columns of the ensemble's models")

    def features(self, workflow: Any, above: Made) -> Made:
        """Add a workflow as a step, the same one over the same columns once; what it makes."""
        key = (id(workflow), tuple(sorted((name, source) for name, source in above.items() if source.role)))
        if key not in self._workflows:
            self._workflows[key] = self._features(workflow, above)
        return self._workflows[key]

    def _features(self, workflow: Any, above: Made) -> Made:
        from etl.reader import read

        whole = read(workflow)
        graph = whole.remove_inputs(labels(whole, [name for name in self._labels if name in _inputs(whole)]))
        return self.add_graph(graph, whole, above, workflow)

    def add_graph(self, graph: FeatureGraph, whole: FeatureGraph, above: Made, workflow: Any | None) -> Made:
        """Add the features `graph`, a part of `whole`, as a step; what it makes."""
        reads = {column.name: above.get(column.name, Source(REQUEST, column.name, column)) for column in graph.inputs}
        for column in graph.inputs:
            self._check_type(column, reads[column.name])
        forms = {name: form for name, form in self._forms.items() if name in reads}
        step = features_step(self.role("features"), graph, whole, reads, workflow, forms)
        self.steps.append(step)
        return {column.name: Source(step.role, column.name, column) for column in graph.output_columns}

    def _check_type(self, wanted: Column, source: Source) -> None:
        """ConfigError when a workflow behind another step is given another type, or a ragged list."""
        found = source.column
        same = (found.dtype, found.is_list, found.length) == (wanted.dtype, wanted.is_list, wanted.length)
        if source.role != REQUEST and (not same or (wanted.is_list and wanted.length is None)):
            raise ConfigError(
                f"column {wanted.name!r} of a workflow behind {source.role}",
                expected=_spelled(wanted),
                received=_spelled(found),
                hint="Fit the workflow on the columns that the step before it makes, lists of a fixed length.",
            )

    def columns_of(self, node: Any) -> Made:
        """Return what a node makes, with everything above it read first."""
        if id(node) not in self._done:
            above: Made = {}
            for upstream in node.parents_with_dependencies:
                self._join(node, above, self.columns_of(upstream))
            self._done[id(node)] = self._make(node, above)
        return self._done[id(node)]

    def _join(self, node: Any, above: Made, more: Made) -> None:
        for name, source in more.items():
            if name in above and (above[name].role, above[name].name) != (source.role, source.name):
                reason = f"two columns are called {name!r}, and Merlin would drop the first."
                instead = (
                    f"Rename one before they meet: ... >> nvtabular.ops.Rename(postfix='_{source.role or 'raw'}')."
                )
                self.problems.append(Problem(operator_name(node.op), (name,), TARGET, reason, instead))
            above[name] = source

    def _make(self, node: Any, above: Made) -> Made:
        if node.op.is_subgraph:
            return self._subgraph(node, above)
        op = unwrapped(node.op)
        names = list(node.input_schema.column_names)
        if operator_name(op) in PLUMBING:
            names = list(node.output_schema.column_names)
        found = {name: above.get(name) or self._raw(node, name) for name in names}
        if operator_name(op) in PLUMBING:
            return found
        if all(source.role != _REFUSED for source in found.values()):
            try:
                return self._keep(RULES[operator_name(op)](op, found, self))
            except CompileError as error:
                self.problems += error.problems
            except MewsError as error:
                self.problems.append(_problem(node, str(error), ""))
        # What is behind a refused step is not told as well.
        return {name: Source(_REFUSED, name, Column(name, "float32")) for name in node.output_schema.column_names}

    def _keep(self, found: Loaded | Made) -> Made:
        if isinstance(found, dict):
            return found
        step, made = found
        self.steps.append(step)
        return made

    def _raw(self, node: Any, name: str) -> Source:
        from etl.reader.columns import from_merlin

        if self._root is not None and name in self._root:
            return self._root[name]
        return Source(REQUEST, name, from_merlin(node.input_schema[name]))

    def _subgraph(self, node: Any, above: Made) -> Made:
        outer, self._root = self._root, {**(self._root or {}), **above}
        try:
            return self.columns_of(node.op.graph.output_node)
        finally:
            self._root = outer


def _inputs(graph: FeatureGraph) -> set[str]:
    return {column.name for column in graph.inputs}


def _spelled(column: Column) -> str:
    return f"{column.dtype}[{column.length or ''}]" if column.is_list else column.dtype

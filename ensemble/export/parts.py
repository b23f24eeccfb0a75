"""A plan with its graphs open: what hangs together how, and the check that it does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ensemble.export.plan import Plan
from ensemble.graphs.external import copy_graph, save_graph
from ensemble.graphs.fuse import Link
from ensemble.graphs.onnx_file import OnnxFile
from ensemble.spec import RequestSchema, TensorSpec
from etl.errors import ArtifactError

_ROLE = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Part:
    """One graph of an export; `wiring` as in a Piece. `changed` graphs are not what their path holds any more."""

    role: str
    graph: OnnxFile
    wiring: Mapping[str, str]
    changed: bool = False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs that are wired; the others have values in the graph."""
        return tuple(spec for spec in self.graph.inputs if spec.name in self.wiring)

    @property
    def outputs(self) -> dict[str, TensorSpec]:
        """Outputs by `<role>/<output>`."""
        return {f"{self.role}/{spec.name}": spec for spec in self.graph.outputs}

    @property
    def link(self) -> Link:
        """The same for what works on graphs."""
        return Link(self.role, self.graph.model, self.wiring)

    def write(self, target: Path) -> None:
        """Write the graph, with the tensors that lie beside it."""
        save_graph(self.graph.model, target) if self.changed else copy_graph(self.graph.path, target)


@dataclass(frozen=True)
class Deployment:
    """Parts in the order in which they run, and the ensemble's outputs: `{name: "<role>/<output>"}`."""

    parts: tuple[Part, ...]
    outputs: Mapping[str, str]

    @classmethod
    def open(cls, plan: Plan) -> Deployment:
        """Open the graphs of a plan; ArtifactError when one cannot be served."""
        return cls(tuple(Part(p.role, OnnxFile.open(p.graph), p.wiring) for p in plan.pieces), plan.outputs)

    @property
    def roles(self) -> tuple[str, ...]:
        """The parts' roles."""
        return tuple(part.role for part in self.parts)

    @property
    def made(self) -> dict[str, TensorSpec]:
        """Every tensor that a part makes, by `<role>/<output>`."""
        return {name: spec for part in self.parts for name, spec in part.outputs.items()}

    @property
    def used(self) -> frozenset[str]:
        """Every tensor that a part or the client reads."""
        return frozenset((*self.outputs.values(), *(s for part in self.parts for s in part.wiring.values())))

    @property
    def response(self) -> tuple[TensorSpec, ...]:
        """The ensemble's outputs."""
        made = self.made
        return tuple(replace(made[source], name=name) for name, source in self.outputs.items())


def check(
    deployment: Deployment, request: RequestSchema, expected: Sequence[TensorSpec] = (), *, batched: bool = True
) -> None:
    """ArtifactError with everything that does not fit: wires, their types and sizes, raw columns, outputs.

    `expected` are outputs that the ensemble must have just so; `batched` where Triton makes batches.
    """
    problems = [*_roles(deployment), *_wires(deployment, request), *_outputs(deployment, expected)]
    if batched:
        problems += _flat(deployment)
    if problems:
        listed = "".join(f"\n  - {problem}" for problem in problems)
        paths = " and ".join(str(part.graph.path) for part in deployment.parts)
        raise ArtifactError(f"{paths} do not fit together:{listed}")


def _roles(deployment: Deployment) -> Iterator[str]:
    for role in dict.fromkeys(deployment.roles):
        if deployment.roles.count(role) > 1:
            yield f"two parts are called {role}"
        if not _ROLE.fullmatch(role):
            yield f"{role!r} is no role: lower-case letters, digits and underscores, a letter first"


def _wires(deployment: Deployment, request: RequestSchema) -> Iterator[str]:
    raw = {spec.name: spec for spec in request.tensors}
    made: dict[str, TensorSpec] = {}
    for part in deployment.parts:
        unread = dict.fromkeys(part.wiring)
        for spec in part.graph.inputs:
            source = part.wiring.get(spec.name)
            unread.pop(spec.name, None)
            if source is not None:
                yield from _wire(part, spec, source, raw, made)
            elif not spec.optional:
                yield f"the {part.role} needs {spec}, which nothing is wired to"
        yield from (f"the {part.role} has no input {name!r}, which {part.wiring[name]} is wired to" for name in unread)
        made |= part.outputs
    readers = " and ".join(f"the {part.role}" for part in deployment.parts if set(part.wiring.values()) & set(raw))
    unused = (spec for name, spec in raw.items() if name not in deployment.used)
    yield from (f"the request has {spec}, which {readers or 'no part'} does not read" for spec in unused)


def _wire(
    part: Part, spec: TensorSpec, source: str, raw: Mapping[str, TensorSpec], made: Mapping[str, TensorSpec]
) -> Iterator[str]:
    found = made.get(source, raw.get(source))
    role, inner, _ = source.partition("/")
    giver = f"the {role}" if inner and source not in raw else "the request"
    if found is None:
        yield f"the {part.role} needs {spec}, which {giver} lacks"
    elif found.dtype != spec.dtype or found.optional != spec.optional or not _same_dims(found.dims, spec.dims):
        yield f"the {part.role} needs {spec}, {giver} has {replace(found, name=spec.name)}"


def _outputs(deployment: Deployment, expected: Sequence[TensorSpec]) -> Iterator[str]:
    made, parts = deployment.made, {part.role: part for part in deployment.parts}
    wanted = {spec.name: spec for spec in expected}
    for name, source in deployment.outputs.items():
        role, _, output = source.partition("/")
        found, spec = made.get(source), wanted.get(name)
        if role not in parts:
            yield f"the output {name} is of {role!r}, of which there is no part"
        elif found is None or (spec is not None and replace(found, name=name) != spec):
            has = ", ".join(map(str, parts[role].graph.outputs))
            yield f"the {role} must have an output {spec or output}, it has {has}"
    sources = list(deployment.outputs.values())
    for source in sorted({source for source in sources if sources.count(source) > 1}):
        yield f"{source} is the output {' and '.join(n for n, s in deployment.outputs.items() if s == source)}"


def _flat(deployment: Deployment) -> Iterator[str]:
    """Tensors [batch]: where Triton makes batches, what is left of them would have no dimension."""
    for part in deployment.parts:
        made = (spec for source, spec in part.outputs.items() if source in deployment.used)
        for spec in (*part.inputs, *made):
            if not spec.dims:
                yield f"{spec.name} of the {part.role} is [batch], and Triton batches [batch, 1]; or max_batch_size: 0"


def _same_dims(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    return len(left) == len(right) and all(a == b or -1 in (a, b) for a, b in zip(left, right, strict=True))

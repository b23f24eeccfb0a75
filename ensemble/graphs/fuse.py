"""Several graphs as one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import onnx.inliner
import onnxruntime as ort

from ensemble.graphs.edges import needed_for, rename
from ensemble.graphs.external import check, lift, outside, restore
from ensemble.graphs.opsets import same_opsets
from etl.errors import ArtifactError
from etl.names import FINGERPRINT

# Optimising writes and reads the graph once more; beyond this size (bytes) it costs more than it gains.
_LARGEST_OPTIMISED = 512 * 2**20


@dataclass(frozen=True)
class Link:
    """A graph among others: `wiring` says for each of its inputs a raw tensor, or `<role>/<output>` of one before."""

    role: str
    model: onnx.ModelProto
    wiring: Mapping[str, str]


def fuse(features: onnx.ModelProto, model: onnx.ModelProto, wiring: Mapping[str, str]) -> onnx.ModelProto:
    """Join two graphs: `wiring` names, for each input of `model`, the output of `features` that feeds it.

    The result has the inputs of `features` and the outputs of `model`; the rest is as in `join`.
    """
    first = Link("features", features, {value.name: value.name for value in features.graph.input})
    second = Link("model", model, {name: f"features/{output}" for name, output in wiring.items()})
    return join((first, second), {value.name: f"model/{value.name}" for value in model.graph.output})


def join(links: Sequence[Link], outputs: Mapping[str, str]) -> onnx.ModelProto:
    """Join graphs into one whose inputs are the raw tensors that they read.

    `outputs` maps the result's outputs to `<role>/<output>`. Inner names get their role as a prefix, so nothing
    clashes; nodes for outputs that nobody reads are left out; metadata_props of all are kept, the first's first.
    Tensors that lie outside stay where they are. ArtifactError when the graphs cannot be joined.
    """
    raw = {source for link in links for source in link.wiring.values() if not _is_made(source, links)}
    if clash := raw & set(outputs):
        raise ArtifactError(
            "the graphs cannot be joined",
            expected="raw columns and outputs of different names",
            received=", ".join(sorted(clash)),
        )
    models = same_opsets([onnx.inliner.inline_local_functions(m) if m.functions else m for m in _models(links)])
    joined = onnx.ModelProto(
        ir_version=max(model.ir_version for model in models), producer_name="mews", opset_import=_opsets(models)
    )
    joined.graph.name = "mews"
    used = {*outputs.values(), *(source for link in links for source in link.wiring.values())}
    edges: dict[str, str] = {}
    for link, model in zip(links, models, strict=True):
        edges |= _add(joined.graph, replace(link, model=model), used, edges, outputs)
    _answer(joined.graph, edges, outputs)
    onnx.helper.set_model_props(joined, {p.key: p.value for m in reversed(models) for p in m.metadata_props})
    try:
        check(joined)
    except (ValueError, onnx.checker.ValidationError) as error:
        raise ArtifactError("the graphs cannot be joined", received=str(error)) from error
    return joined


def optimise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` after ONNX Runtime's basic optimisations, or as it was when the result would not run everywhere.

    Basic means constant folding and the removal of what is redundant: no operators of one runtime or one processor.
    Tensors that lie outside stay there.
    """
    if not (tables := outside(model)):
        return _optimise(model)
    optimised = _optimise(lift(model)[0])
    restore(optimised, tables)
    return optimised


def _optimise(model: onnx.ModelProto) -> onnx.ModelProto:
    if model.ByteSize() > _LARGEST_OPTIMISED:
        return model
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "optimised.onnx")
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 3
        try:
            ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            optimised = onnx.load(target)
        except Exception:  # ONNX Runtime's errors have no common base; whether the graph runs is checked elsewhere
            return model
    used = {node.domain for node in optimised.graph.node}
    if used - {node.domain for node in model.graph.node} or optimised.functions:
        return model
    if _interface(optimised) != _interface(model) or _defaults(optimised) != _defaults(model):
        return model
    if optimised.ByteSize() > 2 * model.ByteSize() + 2**20:
        return model
    opsets = [entry for entry in optimised.opset_import if entry.domain in used | {""}]
    del optimised.opset_import[:]
    optimised.opset_import.extend(opsets)
    optimised.ir_version = min(optimised.ir_version, max(model.ir_version, 8))
    del optimised.metadata_props[:]
    optimised.metadata_props.extend(model.metadata_props)
    return optimised


def fingerprint(model: onnx.ModelProto) -> str:
    """Return the graph fingerprint in a model's metadata, or nothing."""
    return next((prop.value for prop in model.metadata_props if prop.key == FINGERPRINT), "")


def _interface(model: onnx.ModelProto) -> list[tuple[str, int]]:
    return [(value.name, value.type.tensor_type.elem_type) for value in (*model.graph.input, *model.graph.output)]


def _defaults(model: onnx.ModelProto) -> set[str]:
    """Names of the inputs that may be left out."""
    return {value.name for value in model.graph.input} & {tensor.name for tensor in model.graph.initializer}


def _is_made(source: str, links: Sequence[Link]) -> bool:
    role, _, output = source.partition("/")
    return any(link.role == role and output in {v.name for v in link.model.graph.output} for link in links)


def _models(links: Iterable[Link]) -> Iterable[onnx.ModelProto]:
    return (link.model for link in links)


def _opsets(models: Iterable[onnx.ModelProto]) -> list[onnx.OperatorSetIdProto]:
    versions = {entry.domain: entry.version for model in models for entry in model.opset_import}
    return [onnx.helper.make_opsetid(domain, version) for domain, version in versions.items()]


def _add(
    graph: onnx.GraphProto, link: Link, used: set[str], edges: Mapping[str, str], outputs: Mapping[str, str]
) -> dict[str, str]:
    """Add a graph's nodes to `graph`; return what its outputs are called there, by `<role>/<output>`."""
    part = keep_outputs(link.model, {value.name for value in link.model.graph.output if _source(link, value) in used})
    names = {name: edges.get(source, source) for name, source in link.wiring.items()}
    answers = {source: name for name, source in outputs.items()}
    results = list(part.graph.output)
    for value in results:
        names.setdefault(value.name, answers.get(_source(link, value), f"{link.role}/{value.name}"))
    found = {_source(link, value): names[value.name] for value in results}
    inner = {name for name, source in link.wiring.items() if source in edges}
    rename(part.graph, lambda name: names.get(name, f"{link.role}/{name}"))
    made = {names[name] for name in inner}
    known = {value.name for value in (*graph.input, *graph.initializer)}
    raw = {names[name] for name in link.wiring} - made - known
    graph.input.extend(value for value in part.graph.input if value.name in raw)
    graph.initializer.extend(value for value in part.graph.initializer if value.name not in made | known)
    graph.sparse_initializer.extend(part.graph.sparse_initializer)
    graph.node.extend(part.graph.node)
    graph.output.extend(value for value in part.graph.output if value.name in outputs)
    return found


def _source(link: Link, value: onnx.ValueInfoProto) -> str:
    return f"{link.role}/{value.name}"


def _answer(graph: onnx.GraphProto, edges: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Put the outputs in order; one that is another tensor too is a copy of it."""
    values = {value.name: value for value in graph.output}
    ordered = []
    for name, source in outputs.items():
        if edges[source] != name:
            graph.node.append(onnx.helper.make_node("Identity", [edges[source]], [name]))
            known = {value.name: value for value in (*graph.input, *values.values())}[edges[source]]
            values[name] = onnx.ValueInfoProto(name=name, type=known.type)
        ordered.append(values[name])
    del graph.output[:]
    graph.output.extend(ordered)


def keep_outputs(model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """Return a copy without the outputs, and the nodes for them alone, that nobody reads; inputs stay."""
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    graph = kept.graph
    outputs = [value for value in graph.output if value.name in names]
    nodes, needed = needed_for(graph, {value.name for value in outputs}, set())
    needed |= {value.name for value in graph.input}  # what an optional input is when it is left out
    initializers = [tensor for tensor in graph.initializer if tensor.name in needed]
    sparse = [tensor for tensor in graph.sparse_initializer if tensor.values.name in needed]
    for field, values in (
        (graph.output, outputs), (graph.node, nodes), (graph.initializer, initializers),
        (graph.sparse_initializer, sparse), (graph.value_info, []), (graph.quantization_annotation, []),
    ):  # fmt: skip
        del field[:]
        field.extend(values)
    return kept

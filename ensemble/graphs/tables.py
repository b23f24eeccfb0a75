"""Sub-networks that depend on one entity alone, computed once for every entity and kept as a table.

An item tower reads the item's features, and those follow from the item's id. So its output for each id can be looked
up: `tabulate` finds the part of a graph that reads nothing but the entity's features, runs it for all of them, and puts
one look-up in its place. The rest of the graph, the inputs that do not belong to the entity, and the output stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from ensemble.graphs.edges import needed_for, reads
from ensemble.graphs.external import check, outside
from etl.errors import ArtifactError

Array = npt.NDArray[Any]
TOLERANCE = 1e-6
"""Largest difference between a score of the whole graph and of the one with tables."""

_BATCH = 65_536
_COMPARED = 1024


def tabulate(
    model: onnx.ModelProto, entity: str, features: Mapping[str, Array], others: Mapping[str, Array]
) -> onnx.ModelProto:
    """Return the graph with everything that follows from the integer input `entity` looked up by it.

    `features` hold the entity's features by input, [ids, width], for the ids 0 to ids - 1 in order; `entity` itself is
    among them if the graph reads it. They are no inputs any more, `entity` [batch, 1] int64 is. An id outside the table
    is an error of ONNX Runtime. `others` are rows of the other inputs, to compare both graphs with.

    ArtifactError when no node reads these features alone, when a table is not the same for an id in any batch, or when
    a score differs by more than 1e-6 from the whole graph's.
    """
    features = {name: np.asarray(values) for name, values in features.items()}
    _check_inputs(model, entity, features, others)
    static = _static(model.graph, set(features))
    held = _held_by_row(model, static, features)
    frontier = _frontier(model.graph, held, set(features))
    if not set(frontier) - set(features):
        raise ArtifactError(
            f"nothing to look up by {entity!r}",
            expected=f"a node that reads only {', '.join(sorted(features))}",
            received="none",
        )
    tables = _outputs(model, frontier, features)
    made = _rewritten(model, entity, features, tables)
    _check_equal(model, made, entity, features, others)
    return made


def _check_inputs(
    model: onnx.ModelProto, entity: str, features: Mapping[str, Array], others: Mapping[str, Array]
) -> None:
    inputs = {value.name for value in model.graph.input}
    if outside(model):
        raise ArtifactError("the graph's tables", expected="in the graph's own file", received="beside it")
    lengths = {len(values) for values in features.values()}
    if unknown := sorted(set(features) - inputs):
        raise ArtifactError("features", expected="inputs of the graph", received=", ".join(unknown))
    if missing := sorted(inputs - set(features) - set(others)):
        raise ArtifactError("rows of the other inputs", expected=", ".join(missing), received="none")
    if entity in inputs and entity not in features:
        raise ArtifactError(f"features of {entity!r}", expected="the entity itself among them", received="not there")
    if len(lengths) != 1:
        raise ArtifactError("features", expected="one row an id", received=f"lengths {sorted(lengths)}")


def _static(graph: onnx.GraphProto, inputs: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes that read an input in `inputs`, directly or not, and no other."""
    foreign = {value.name for value in graph.input} - inputs
    ours, found = set(inputs), []
    for node in graph.node:
        read = reads(node)
        if read & foreign:
            foreign |= set(node.output)
        elif read & ours:
            ours |= set(node.output)
            found.append(node)
    return found


def _held_by_row(model: onnx.ModelProto, nodes: list[onnx.NodeProto], features: Mapping[str, Array]) -> set[str]:
    """Return those outputs of `nodes` that have one row an id, whichever ids are beside it."""
    names = [name for node in nodes for name in node.output if name]
    ids = np.unique(np.linspace(0, len(next(iter(features.values()))) - 1, 7).astype(int))
    together = _outputs(model, names, {name: values[ids] for name, values in features.items()}) if names else {}
    held = set(names)
    for place, number in enumerate(ids):
        alone = _outputs(model, names, {name: values[number : number + 1] for name, values in features.items()})
        for name in tuple(held):
            whole, single = together[name], alone[name]
            by_row = whole.ndim and single.ndim and len(whole) == len(ids) and len(single) == 1
            if not by_row or not _same(whole[place], single[0]):
                held.discard(name)
    return held


def _same(left: Array, right: Array) -> bool:
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    if left.dtype.kind != "f":
        return bool(np.array_equal(left, right))
    return bool(np.allclose(left, right, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))


def _frontier(graph: onnx.GraphProto, held: set[str], features: set[str]) -> list[str]:
    """Return the values by row, features among them, that somebody reads who is not looked up."""
    _, needed = needed_for(graph, {value.name for value in graph.output}, held)
    kept = [node for node in graph.node if set(node.output) & needed - held]
    read = {name for node in kept for name in reads(node)} | {value.name for value in graph.output}
    made = [name for node in graph.node for name in node.output]
    return [name for name in (*sorted(features), *made) if name in read & (held | features)]


def _outputs(model: onnx.ModelProto, names: Iterable[str], features: Mapping[str, Array]) -> dict[str, Array]:
    """Return inner values of the graph, for every row of `features`."""
    names = list(names)
    from_inputs = {name: features[name] for name in names if name in features}
    inner = [name for name in names if name not in features]
    if not inner:
        return from_inputs
    part = _part(model, inner, set(features))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    read = [value.name for value in session.get_inputs()]
    rows = len(next(iter(features.values())))
    pieces = [
        session.run(inner, {name: features[name][start : start + _BATCH] for name in read})
        for start in range(0, rows, _BATCH)
    ]
    joined = [arrays[0] if len(arrays) == 1 else np.concatenate(arrays) for arrays in zip(*pieces, strict=True)]
    return {**from_inputs, **dict(zip(inner, joined, strict=True))}


def _part(model: onnx.ModelProto, outputs: list[str], inputs: set[str]) -> onnx.ModelProto:
    """Return the part of the graph that makes `outputs` from `inputs`."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    graph = part.graph
    nodes, needed = needed_for(model.graph, set(outputs), set())
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    given = [value for value in model.graph.input if value.name in inputs and value.name in needed]
    for field in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        del field[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    graph.input.extend(given)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return part


def _rewritten(
    model: onnx.ModelProto,
    entity: str,
    features: Mapping[str, Array],
    tables: Mapping[str, Array],
) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    nodes, needed = needed_for(model.graph, {value.name for value in graph.output}, set(tables))
    row, shape = f"{entity}/row", f"{entity}/flat"
    look_ups = [helper.make_node("Reshape", [entity, shape], [row], row)]
    tensors = [numpy_helper.from_array(np.array([-1], np.int64), shape)]
    renamed = {}
    for name, values in tables.items():
        target = f"{name}/looked_up" if name == entity else name
        renamed[name] = target
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), f"{name}/table"))
        look_ups.append(helper.make_node("Gather", [f"{name}/table", row], [target], f"{name}/look_up", axis=0))
    tensors += [tensor for tensor in model.graph.initializer if tensor.name in needed]
    inputs = [value for value in model.graph.input if value.name not in features]
    inputs.append(helper.make_tensor_value_info(entity, onnx.TensorProto.INT64, ["batch", 1]))
    for field in (graph.node, graph.initializer, graph.input, graph.value_info):
        del field[:]
    graph.node.extend([*look_ups, *nodes])
    graph.initializer.extend(tensors)
    graph.input.extend(inputs)
    for node in graph.node[len(look_ups) :]:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    check(made)
    return made


def _check_equal(
    model: onnx.ModelProto,
    made: onnx.ModelProto,
    entity: str,
    features: Mapping[str, Array],
    others: Mapping[str, Array],
) -> None:
    rows = min([_COMPARED, *(len(values) for values in others.values())])
    ids = np.random.default_rng(0).integers(0, len(next(iter(features.values()))), (rows, 1))
    fed = {name: values[:rows] for name, values in others.items()}
    whole = _run(model, {**fed, **{name: values[ids[:, 0]] for name, values in features.items()}})
    looked_up = _run(made, {**fed, entity: ids})
    for wanted, found in zip(whole, looked_up, strict=True):
        if not np.allclose(wanted, found, rtol=0, atol=TOLERANCE, equal_nan=True):
            raise ArtifactError(
                f"the graph with tables by {entity!r} does not answer like the whole",
                expected=f"a difference of at most {TOLERANCE:g}",
                received=f"{float(np.abs(wanted - found).max()):.2g}",
            )


def _run(model: onnx.ModelProto, feed: Mapping[str, Array]) -> list[Array]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, {value.name: feed[value.name] for value in session.get_inputs()})
    return found

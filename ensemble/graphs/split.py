"""A model cut into its sub-networks, so that each can be placed and scaled by itself.

Left to itself, a model is cut into two towers, if it has them: two groups of inputs, each with layers of its own, that
meet once. Otherwise into what codes go through (`embeddings`), what numbers go through (`bottom`), and the rest. The
rest is called `top`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import onnx
import onnx.shape_inference

from ensemble.graphs.edges import needed_for
from ensemble.graphs.external import check, lift, restore
from ensemble.graphs.fuse import Link
from ensemble.graphs.sources import Sources
from etl.errors import ArtifactError
from etl.names import TAGS

TOP = "top"
_SIDES = ("user", "item")
_INTEGERS = frozenset(
    getattr(onnx.TensorProto, name)
    for name in ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
)


def cut(model: onnx.ModelProto, cuts: Mapping[str, Sequence[str]]) -> tuple[tuple[Link, ...], dict[str, str]]:
    """Cut a graph: each role makes its tensors from inputs and from tensors of roles before it, `top` the rest.

    Returns the parts in order, and for each output of the graph the `<role>/<tensor>` that it is. Wiring names the
    graph's own inputs, or `<role>/<tensor>`. Nodes that two parts need are in both. ArtifactError for a tensor that
    the graph does not make, whose type is not known, or that is not one row for each row.
    """
    values = _values(model)
    known = {value.name: value.name for value in model.graph.input}
    links = []
    rest = [value.name for value in model.graph.output]
    for role, tensors in (*cuts.items(), (TOP, rest)):
        wanted = [name for name in tensors if role != TOP or "/" not in known.get(name, "")]
        if role == TOP and not wanted:
            break
        _check_made(model, role, wanted, known)
        part = _part(model, wanted, set(known), values)
        links.append(Link(role, part, {value.name: known[value.name] for value in part.graph.input}))
        known |= {name: f"{role}/{name}" for name in wanted}
    return tuple(links), {name: known[name] for name in rest}


def cuts_of(model: onnx.ModelProto, wanted: Mapping[str, Sequence[str]] | None = None) -> dict[str, list[str]]:
    """Return where to cut: what `wanted` names, or what the graph's own form says; nothing if it has no such form.

    A role of `wanted` names tensors, or inputs: it then makes all that depends on these inputs alone.
    """
    sources = Sources(model.graph)
    if wanted is None:
        groups = _towers(model, sources) or _kinds(model)
        found = {role: sources.frontier(group) for role, group in groups.items()}
        return {role: tensors for role, tensors in found.items() if tensors}
    inputs = {value.name for value in model.graph.input}
    return {
        role: sources.frontier(frozenset(names)) if set(names) <= inputs else list(names)
        for role, names in wanted.items()
    }


def _towers(model: onnx.ModelProto, sources: Sources) -> dict[str, frozenset[str]]:
    """Return the inputs of both towers, or nothing: each has layers of its own, and ends in one tensor."""
    made = {name: sources.inputs[name] for name in sources.multiplied}
    for sides in sources.meetings():
        ends = [sources.frontier(side) for side in sides]
        if all(len(end) == 1 and end[0] in made for end in ends) and not _is_kinds(model, sides):
            return dict(zip(_names(model, sides), sides, strict=True))
    return {}


def _names(model: onnx.ModelProto, sides: Sequence[frozenset[str]]) -> tuple[str, str]:
    """Call the towers `user` and `item` by the tags of their inputs, else by their names, else `left` and `right`."""
    said = json.loads(next((prop.value for prop in model.metadata_props if prop.key == TAGS), "{}"))
    inputs = [name for side in sides for name in side]
    for words in ({name: said.get(name, ()) for name in inputs}, {name: name.split("_") for name in inputs}):
        found = [[side for side in _SIDES if any(_says(words[name], side) for name in names)] for names in sides]
        if all(len(one) == 1 for one in found) and found[0] != found[1]:
            return found[0][0], found[1][0]
    return "left", "right"


def _says(words: Sequence[str], side: str) -> bool:
    return side in words or f"{side}_id" in words


def _kinds(model: onnx.ModelProto) -> dict[str, frozenset[str]]:
    codes = frozenset(v.name for v in model.graph.input if v.type.tensor_type.elem_type in _INTEGERS)
    return {"embeddings": codes, "bottom": frozenset(v.name for v in model.graph.input) - codes}


def _is_kinds(model: onnx.ModelProto, sides: Sequence[frozenset[str]]) -> bool:
    return set(sides) == set(_kinds(model).values())


def _values(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Return type and shape of every tensor that they can be found for."""
    try:
        inferred = onnx.shape_inference.infer_shapes(lift(model)[0]).graph
    except (ValueError, RuntimeError, onnx.shape_inference.InferenceError) as error:
        expected = "shapes that can be inferred"
        raise ArtifactError("a model cannot be cut", expected=expected, received=str(error)) from error
    return {value.name: value for value in (*inferred.value_info, *inferred.output, *model.graph.output)}


def _check_made(model: onnx.ModelProto, role: str, names: Sequence[str], known: Mapping[str, str]) -> None:
    made = {name for node in model.graph.node for name in node.output}
    wrong = [name for name in names if name not in made or name in known]
    if wrong or not names:
        raise ArtifactError(
            f"role {role!r} of a split model",
            expected="tensors that the model makes, each in one role",
            received=", ".join(wrong) or "none",
            hint="Name tensors or inputs of the model in export.split.",
        )


def _part(
    model: onnx.ModelProto, outputs: Sequence[str], given: set[str], values: Mapping[str, onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """Return the graph that makes `outputs` from the given tensors that it needs."""
    light, tensors = lift(model)
    nodes, needed = needed_for(light.graph, set(outputs), given - set(outputs))
    held = {tensor.name for tensor in tensors}
    own = [value for value in light.graph.input if value.name in needed and value.name in given | held]
    initializers = [value for value in light.graph.initializer if value.name in needed]
    sparse = [value for value in light.graph.sparse_initializer if value.values.name in needed]
    inner = [_batched(values, name) for name in sorted(needed & given - {value.name for value in own})]
    part = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes, "part", [*inner, *own], [_batched(values, name) for name in outputs], initializers,
            sparse_initializer=sparse,
        ),
        producer_name="mews",
        ir_version=model.ir_version,
        opset_imports=list(model.opset_import),
        functions=list(model.functions),
    )  # fmt: skip
    part.metadata_props.extend(model.metadata_props)
    restore(part, tensors)
    try:
        check(part)
    except (ValueError, onnx.checker.ValidationError) as error:
        raise ArtifactError("a model cannot be cut", received=str(error)) from error
    return part


def _batched(values: Mapping[str, onnx.ValueInfoProto], name: str) -> onnx.ValueInfoProto:
    """Return a tensor's type, with the batch as its first dimension."""
    value = values.get(name)
    shape = [] if value is None else value.type.tensor_type.shape.dim
    if value is None or not value.type.tensor_type.elem_type or not shape:
        raise ArtifactError(
            f"tensor {name!r} of the model",
            expected="a type and a number of dimensions that are known",
            received="neither",
            hint="Name another tensor in export.split.",
        )
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in shape]
    first, *rest = sizes
    if first is not None:
        raise ArtifactError(
            f"tensor {name!r} of the model", expected="one row for each row", received=f"always {first}",
            hint="Name another tensor in export.split.",
        )  # fmt: skip
    dims = ["batch", *(f"{name}_{place}" if size is None else size for place, size in enumerate(rest, 1))]
    return onnx.helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, dims)

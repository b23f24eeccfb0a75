"""Preprocessing and model as one ONNX graph."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx.compose
import onnx.version_converter
import onnxruntime as ort

from etl.errors import ArtifactError
from etl.names import FINGERPRINT

_FEATURES, _MODEL = "features/", "model/"
# Optimising writes and reads the graph once more; beyond this size (bytes) it costs more than it gains.
_LARGEST_OPTIMISED = 512 * 2**20


def fuse(features: onnx.ModelProto, model: onnx.ModelProto, wiring: Mapping[str, str]) -> onnx.ModelProto:
    """Join two graphs: `wiring` names, for each input of `model`, the output of `features` that feeds it.

    The result has the inputs of `features` and the outputs of `model`; metadata_props of both are kept, `features`
    first. Inner names get a prefix, so nothing clashes. ArtifactError when the graphs cannot be joined.
    """
    left, right = _same_versions(_keep_outputs(features, set(wiring.values())), _copy(model))
    raw, answers = [value.name for value in left.graph.input], [value.name for value in right.graph.output]
    if clash := set(raw) & set(answers):
        raise ArtifactError(
            "preprocessing and model cannot be joined",
            expected="raw columns and model outputs of different names",
            received=", ".join(sorted(clash)),
        )
    props = {prop.key: prop.value for graph in (model, features) for prop in graph.metadata_props}
    del left.metadata_props[:], right.metadata_props[:]
    io_map = [(output, name) for name, output in wiring.items()]
    try:
        fused = onnx.compose.merge_models(
            left, right, io_map, prefix1=_FEATURES, prefix2=_MODEL, producer_name="mews", name="mews"
        )
        _rename(fused.graph, {_FEATURES + name: name for name in raw} | {_MODEL + name: name for name in answers})
        onnx.helper.set_model_props(fused, props)
        onnx.checker.check_model(fused)
    except (ValueError, onnx.checker.ValidationError) as error:
        raise ArtifactError("preprocessing and model cannot be joined", received=str(error)) from error
    return fused


def optimise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` after ONNX Runtime's basic optimisations, or as it was when the result would not run everywhere.

    Basic means constant folding and the removal of what is redundant: no operators of one runtime or one processor.
    """
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


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _keep_outputs(model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """Return a copy without the outputs, and the nodes for them alone, that nobody reads; inputs stay."""
    kept = _copy(model)
    graph = kept.graph
    outputs = [value for value in graph.output if value.name in names]
    del graph.output[:]
    graph.output.extend(outputs)
    needed = {value.name for value in outputs}
    nodes = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= _reads(node)
    nodes.reverse()
    needed |= {value.name for value in graph.input}  # what an optional input is when it is left out
    initializers = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers)
    return kept


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename edges, in subgraphs too."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, names)


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, those of its subgraphs (If, Loop) included."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= _reads(inner)
            names |= {value.name for value in graph.output}
    return names


def _same_versions(left: onnx.ModelProto, right: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Raise the older of two graphs to the newer's opset and IR version."""
    newest = max(_opset(left), _opset(right))
    raised = []
    for model in (left, right):
        if _opset(model) < newest:
            model = onnx.version_converter.convert_version(model, newest)
        raised.append(model)
    ir_version = max(model.ir_version for model in raised)
    for model in raised:
        model.ir_version = ir_version
    return raised[0], raised[1]


def _opset(model: onnx.ModelProto) -> int:
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)

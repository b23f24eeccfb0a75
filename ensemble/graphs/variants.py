"""Smaller and faster variants of a model's graph: other number types for its weights and its arithmetic.

Every variant has the inputs, outputs and metadata of the original. What each changes:

    float16         weights and arithmetic; on a CPU, ONNX Runtime computes most of it in float32, and converts
    float16_tables  embedding tables alone, widened after the look-up
    int8            weights of matrix products and tables; values between them at run time, by the batch they are in
    int8_static     the same, with ranges that were found beforehand on calibration rows
    int8_tables     embedding tables alone, each row with a scale of its own
    extended        nothing: nodes are joined for one release of ONNX Runtime on one kind of machine

`int8` takes its ranges from the whole batch, so a row's score depends a little on the rows it is served with.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from ensemble.config import Precision
from ensemble.graphs.external import THRESHOLD, open_graph, outside, read, save_graph
from ensemble.graphs.fuse import optimise
from etl.errors import ArtifactError

Array = npt.NDArray[Any]
Rows = Mapping[str, Array]
"""Inputs of a graph by name, [rows, width]."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_CALIBRATION_ROWS, _CALIBRATION_BATCH = 4096, 256
_QUANTISED = ["MatMul", "Gemm", "Gather"]


def variant(model: Path, precision: Precision, rows: Rows) -> Path:
    """Write the graph `model` in `precision` beside it, `<stem>.<precision>.onnx`, and return that path.

    `rows` are real inputs of the graph; only int8_static reads them. ArtifactError for a graph that has nothing to
    change, or whose tables lie outside it and would all have to be read.
    """
    if precision == "float32":
        return model
    opened = open_graph(model)
    if outside(opened) and not precision.endswith("_tables"):
        raise ArtifactError(
            f"{model} as {precision}",
            expected="a graph in one file",
            received="tables beside it",
            hint="float16_tables and int8_tables take such a graph, one table at a time.",
        )
    made = _MAKERS[precision](opened, rows)
    del made.metadata_props[:]
    made.metadata_props.extend(opened.metadata_props)
    target = model.with_name(f"{model.stem}.{precision}.onnx")
    save_graph(made, target, 0 if outside(opened) else THRESHOLD)
    return target


def _float16(model: onnx.ModelProto, rows: Rows) -> onnx.ModelProto:
    """Inputs and outputs stay float32; so does what is made of integers, for codes do not fit into a float16."""
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    named = _named(model)
    wide = [node.name for node in _made_of_integers(named)]
    converted: onnx.ModelProto = convert_float_to_float16(named, keep_io_types=True, node_block_list=wide)
    ONNXModel(converted).topological_sort()  # the casts were put at the end, which ONNX does not allow
    return converted


def _made_of_integers(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the casts to a float, and what reads them directly."""
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    casts = {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Cast" and types.get(node.input[0]) != TensorProto.FLOAT
    }
    for node in model.graph.node:
        if casts & {*node.output, *node.input}:
            yield node


@dataclass(frozen=True)
class _TableForm:
    """How an embedding table is kept: `split` into arrays by suffix, and the nodes that `join` what is looked up.

    For an edge `x`, the values looked up in the array of a suffix are at `x/<suffix>`.
    """

    split: Callable[[Array], dict[str, Array]]
    join: Callable[[str], list[onnx.NodeProto]]


def _halves(table: Array) -> dict[str, Array]:
    with np.errstate(over="ignore"):
        half = table.astype(np.float16)
    return {"float16": half}


def _scaled_bytes(table: Array) -> dict[str, Array]:
    """int8 values and one float32 scale a row, so that a large row costs the others nothing."""
    values, scales = np.empty(table.shape, np.int8), np.ones((len(table), 1), np.float32)
    for start in range(0, len(table), 1 << 16):  # a table may be larger than memory
        part = np.asarray(table[start : start + (1 << 16)])
        largest = np.abs(part).max(axis=1, keepdims=True)
        scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        scales[start : start + len(part)] = scale
        values[start : start + len(part)] = np.rint(part / scale)
    return {"int8": values, "scale": scales}


_HALVES = _TableForm(
    _halves, lambda x: [helper.make_node("Cast", [f"{x}/float16"], [x], f"{x}/widen", to=TensorProto.FLOAT)]
)
_SCALED_BYTES = _TableForm(
    _scaled_bytes,
    lambda x: [
        helper.make_node("Cast", [f"{x}/int8"], [f"{x}/wide"], f"{x}/widen", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{x}/wide", f"{x}/scale"], [x], f"{x}/rescale"),
    ],
)


def _with_tables(model: onnx.ModelProto, form: _TableForm) -> onnx.ModelProto:
    """Return the graph with each embedding table (float32, two dimensions, only ever looked up by row) in `form`."""
    tables = _tables(model.graph)
    if not tables:
        raise ArtifactError("the graph's tables", expected="at least one float32 table that rows are looked up in")
    changed = _copy(model)
    kept = [tensor for tensor in changed.graph.initializer if tensor.name not in tables]
    del changed.graph.initializer[:]
    changed.graph.initializer.extend(kept)
    suffixes = {}
    for name, tensor in tables.items():
        arrays = form.split(read(tensor))
        suffixes[name] = list(arrays)
        changed.graph.initializer.extend(numpy_helper.from_array(a, f"{name}/{key}") for key, a in arrays.items())
    nodes = []
    for node in changed.graph.node:
        if node.op_type != "Gather" or node.input[0] not in tables:
            nodes.append(node)
            continue
        (name, codes), output = node.input, node.output[0]
        nodes += [helper.make_node("Gather", [f"{name}/{s}", codes], [f"{output}/{s}"]) for s in suffixes[name]]
        nodes += form.join(output)
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def _tables(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    found = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2
    }
    looked_up = set()
    for value in (*graph.output, *graph.input):
        found.pop(value.name, None)
    for node in graph.node:
        by_row = node.op_type == "Gather" and all(attribute.i == 0 for attribute in node.attribute)
        for place, name in enumerate(node.input):
            if by_row and place == 0:
                looked_up.add(name)
            else:
                found.pop(name, None)
    return {name: tensor for name, tensor in found.items() if name in looked_up}


def _int8(model: onnx.ModelProto, rows: Rows) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    return _quantised(
        model,
        lambda source, target: quantize_dynamic(
            source, target, op_types_to_quantize=_QUANTISED, weight_type=QuantType.QInt8, reduce_range=True
        ),
    )


def _int8_static(model: onnx.ModelProto, rows: Rows) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    if not rows:
        raise ArtifactError("int8_static", expected="rows to find the ranges of values with", received="none")
    return _quantised(
        model,
        lambda source, target: quantize_static(
            source,
            target,
            _calibration(rows),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTISED,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
            nodes_to_exclude=_last_product(source),
            extra_options={"MatMulConstBOnly": True},
        ),
    )


def _calibration(rows: Rows) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Batches of real rows."""

        def __init__(self) -> None:
            count = min(len(next(iter(rows.values()))), _CALIBRATION_ROWS)
            starts = range(0, count, _CALIBRATION_BATCH)
            self.batches = iter([{k: v[s : s + _CALIBRATION_BATCH] for k, v in rows.items()} for s in starts])

        def get_next(self) -> dict[str, Array] | None:
            return next(self.batches, None)

    return Reader()


def _quantised(model: onnx.ModelProto, work: Callable[[onnx.ModelProto, Path], object]) -> onnx.ModelProto:
    """Run one of ONNX Runtime's quantisers on a graph that its own simplifications have gone over."""
    simplified = _named(optimise(model))
    helper.set_model_props(simplified, {"onnx.quant.pre_process": "onnxruntime.quant"})  # else it warns that none had
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "quantised.onnx")
        work(simplified, target)
        return onnx.load(target)


def _extended(model: onnx.ModelProto, rows: Rows) -> onnx.ModelProto:
    """ONNX Runtime's extended optimisations, written down; other releases or machines may refuse or slow the result."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "extended.onnx")
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 3
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        made: onnx.ModelProto = onnx.load(target)
    used = {node.domain for node in made.graph.node} | {""}
    opsets = [entry for entry in made.opset_import if entry.domain in used]
    del made.opset_import[:]
    made.opset_import.extend(opsets)
    made.doc_string = f"For ONNX Runtime {ort.__version__} on {platform.machine()} CPUs."
    return made


def _last_product(model: onnx.ModelProto) -> list[str]:
    """Return the name of the product that makes the score: 256 steps are too few for it."""
    return [node.name for node in model.graph.node if node.op_type in ("MatMul", "Gemm")][-1:]


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which every node has a name."""
    named = _copy(model)
    for number, node in enumerate(named.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return named


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


_MAKERS: dict[str, Callable[[onnx.ModelProto, Rows], onnx.ModelProto]] = {
    "float16": _float16,
    "float16_tables": lambda model, rows: _with_tables(model, _HALVES),
    "int8": _int8,
    "int8_static": _int8_static,
    "int8_tables": lambda model, rows: _with_tables(model, _SCALED_BYTES),
    "extended": _extended,
}

"""The floor: an ensemble with the same inputs that computes nothing.

It pays what every ensemble pays in this server: the protocol, Triton's scheduler, the way to the backend and back.
Same inputs, same batching, one output of one value a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import helper

from ensemble.pbtxt import render
from ensemble.spec import Batching, InstanceGroup, ModelSpec, Step, TensorSpec
from etl.dtypes import BY_TRITON

_OPSET, _IR = 17, 8


def write(repository: Path, name: str, inputs: Sequence[TensorSpec], max_batch_size: int) -> str:
    """Write ensemble `name` and the model `<name>_core` in it; the output is one of the inputs. Returns `name`."""
    outputs = [TensorSpec(f"{spec.name}_out", spec.dtype, spec.dims) for spec in inputs]
    scalars = [spec for spec in outputs if spec.dims == (1,)]
    answer = min(scalars or outputs, key=lambda spec: spec.dtype == "BYTES")
    core = ModelSpec(
        name=f"{name}_core",
        backend="onnxruntime",
        max_batch_size=max_batch_size,
        inputs=tuple(inputs),
        outputs=(answer,),
        batching=Batching(),
        instances=(InstanceGroup(),),
    )
    ensemble = ModelSpec(
        name=name,
        platform="ensemble",
        max_batch_size=max_batch_size,
        inputs=tuple(inputs),
        outputs=(answer,),
        steps=(Step(core.name, {spec.name: spec.name for spec in inputs}, {answer.name: answer.name}),),
    )
    for spec in (core, ensemble):
        (repository / spec.name / "1").mkdir(parents=True)
        (repository / spec.name / "config.pbtxt").write_text(render(spec), encoding="utf-8")
    onnx.save(_graph(inputs, outputs), repository / core.name / "1" / "model.onnx")
    return name


def _graph(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> onnx.ModelProto:
    pairs = list(zip(inputs, outputs, strict=True))
    nodes = [helper.make_node("Identity", [given.name], [made.name]) for given, made in pairs]
    graph = helper.make_graph(nodes, "identity", [_info(spec) for spec in inputs], [_info(spec) for spec in outputs])
    opset = helper.make_opsetid("", _OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=_IR)


def _info(spec: TensorSpec) -> onnx.ValueInfoProto:
    width = [f"{spec.name}_width" if size < 0 else size for size in spec.dims]
    return helper.make_tensor_value_info(spec.name, BY_TRITON[spec.dtype].onnx, ["batch", *width])

"""An ONNX graph from a file: checked, its tensors as TensorSpecs, and run for a few rows.

Tensors in a file beside the graph (etl/onnx_files.py) are mapped by ONNX Runtime when it runs, and not read before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from ensemble.graphs.external import check, open_graph
from ensemble.graphs.fuse import fingerprint
from ensemble.requests.encode import Array
from ensemble.spec import TensorSpec
from etl.dtypes import BY_TRITON
from etl.errors import ArtifactError
from etl.names import FEATURES

_TRITON = {row.onnx: row.triton for row in BY_TRITON.values()}


@dataclass(frozen=True)
class OnnxFile:
    """A checked graph; `path` is where it came from."""

    path: Path
    model: onnx.ModelProto

    @classmethod
    def open(cls, path: Path) -> OnnxFile:
        """Read and check a graph; ArtifactError when it is missing, truncated, not ONNX, or reads files elsewhere."""
        model = open_graph(path)
        try:
            check(model)
        except (onnx.checker.ValidationError, ValueError) as error:
            raise ArtifactError(f"{path} is not a valid ONNX graph", received=str(error)) from error
        return cls(path, model)

    @property
    def fingerprint(self) -> str:
        """The feature graph's fingerprint, or nothing."""
        return fingerprint(self.model)

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs without the batch; what has a value in the graph (an initializer) may be left out."""
        given = {tensor.name for tensor in self.model.graph.initializer}
        specs = (self._spec(value) for value in self.model.graph.input)
        return tuple(replace(spec, optional=spec.name in given) for spec in specs)

    @cached_property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs without the batch."""
        return tuple(self._spec(value) for value in self.model.graph.output)

    @cached_property
    def columns(self) -> dict[str, str]:
        """Output name by feature column.

        They are the same, but where a feature has the name of a raw column: a graph cannot use a name twice, so its
        metadata (`mews.features`, JSON) says what the output is called instead.
        """
        renamed = next((prop.value for prop in self.model.metadata_props if prop.key == FEATURES), "{}")
        columns = {str(column): str(output) for column, output in json.loads(renamed).items()}
        taken = set(columns.values())
        return {**{spec.name: spec.name for spec in self.outputs if spec.name not in taken}, **columns}

    def output(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Return (type, dims) of the output called `name`."""
        spec = next(spec for spec in self.outputs if spec.name == name)
        return spec.dtype, spec.dims

    def run(self, tensors: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run one request in this process; ArtifactError when ONNX Runtime refuses the graph or the request."""
        return self.run_all([tensors], outputs)[0]

    def run_all(self, requests: Sequence[Mapping[str, Array]], outputs: Sequence[str]) -> list[dict[str, Array]]:
        """Run some requests in this process, one by one; ArtifactError when ONNX Runtime refuses the graph or one."""
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            session = ort.InferenceSession(self.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            found = []
            for tensors in requests:
                fed = {name: _text(values) for name, values in tensors.items()}
                found.append(dict(zip(outputs, session.run(list(outputs), fed), strict=True)))
            return found
        except Exception as error:  # ONNX Runtime's errors have no common public base.
            raise ArtifactError(f"ONNX Runtime cannot run {self.path}", received=str(error)) from error

    def _spec(self, value: onnx.ValueInfoProto) -> TensorSpec:
        tensor = value.type.tensor_type
        if tensor.elem_type not in _TRITON or len(tensor.shape.dim) < 1:
            raise ArtifactError(f"{self.path}: tensor {value.name!r} has a type or shape that cannot be served")
        first, *rest = (dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
        if first != -1:
            raise ArtifactError(
                f"{self.path}: tensor {value.name!r}",
                expected="a symbolic first dimension, the batch",
                received=str(first),
            )
        return TensorSpec(value.name, _TRITON[tensor.elem_type], tuple(rest))


def _text(values: Array) -> Array:
    """Bytes as the str that ONNX Runtime takes."""
    if values.dtype != object:
        return values
    decoded = [value.decode() for value in values.reshape(-1)]
    return np.array(decoded, dtype=object).reshape(values.shape)

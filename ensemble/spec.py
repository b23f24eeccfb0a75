"""What Mews says to Triton, as plain frozen data: a model, its tensors, how it is batched, placed and warmed up.

`pbtxt.py` turns a ModelSpec into config.pbtxt and back. Types are Triton's request names (`INT64`, `FP32`, `BYTES`).
With max_batch_size > 0, dims leave the batch out: a scalar column is [1], a padded list [-1], its length [1].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from etl.dtypes import dtype
from etl.errors import ArtifactError
from etl.names import LENGTH

Kind = Literal["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: `dims` without the batch, -1 where any size will do."""

    name: str
    dtype: str
    dims: tuple[int, ...] = (1,)

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.dims))}]"


@dataclass(frozen=True)
class Batching:
    """Dynamic batching: sizes to send at once, and how long (microseconds) a request may wait for others."""

    preferred: tuple[int, ...] = ()
    delay_us: int = 0


@dataclass(frozen=True)
class InstanceGroup:
    """How many instances of a model run, and on what; `gpus` empty means all of them."""

    count: int = 1
    kind: Kind = "KIND_AUTO"
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class WarmupTensor:
    """One input of a warm-up: `data` is "zero", "random", or the name of a file in <model>/warmup/."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    data: str = "zero"


@dataclass(frozen=True)
class Warmup:
    """One warm-up request; Triton sends its row `batch_size` times, and that `count` times (0 is once)."""

    name: str
    inputs: tuple[WarmupTensor, ...]
    batch_size: int = 1
    count: int = 0


@dataclass(frozen=True)
class Step:
    """One composing model; the maps go from the model's tensor names to the ensemble's."""

    model: str
    input_map: Mapping[str, str]
    output_map: Mapping[str, str]
    version: int = -1


@dataclass(frozen=True)
class ModelSpec:
    """One model of a Triton repository.

    `versions` empty serves the newest, otherwise exactly those. An ensemble has platform "ensemble" and steps; any
    other model names a backend.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    backend: str = ""
    platform: str = ""
    max_batch_size: int = 0
    batching: Batching | None = None
    instances: tuple[InstanceGroup, ...] = ()
    warmup: tuple[Warmup, ...] = ()
    versions: tuple[int, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()


class _RawColumn(Protocol):
    """What a request needs to know of a raw column; etl.graph.Column is one."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def is_list(self) -> bool: ...
    @property
    def length(self) -> int | None: ...


@dataclass(frozen=True)
class RequestColumn:
    """One raw column of a request: `dtype` is a name in etl/dtypes.py (of a list: its values').

    `length` is that of a list of fixed length, which travels as one tensor; None for scalars and ragged lists.
    `nullable` defaults to whether the type has an encoding for null; see etl/dtypes.py.
    """

    name: str
    dtype: str
    is_list: bool = False
    length: int | None = None
    nullable: bool | None = None

    def __post_init__(self) -> None:
        """SchemaError for an unknown type; ArtifactError for a nullable column whose type cannot say null."""
        can_be_null = dtype(self.dtype).null is not None
        if self.nullable is None:
            object.__setattr__(self, "nullable", can_be_null)
        elif self.nullable and not can_be_null:
            raise ArtifactError(
                f"request column {self.name!r} is nullable",
                expected="a type with an encoding for null",
                received=self.dtype,
                hint="Fill nulls before, or use a signed integer, float or string.",
            )

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """The inputs that carry this column: one, or for a list the padded values and the length."""
        triton = dtype(self.dtype).triton
        if not self.is_list or self.length is not None:
            return (TensorSpec(self.name, triton, (self.length if self.length is not None else 1,)),)
        return TensorSpec(self.name, triton, (-1,)), TensorSpec(self.name + LENGTH, "INT32", (1,))


@dataclass(frozen=True)
class RequestSchema:
    """The raw columns of a request, in order."""

    columns: tuple[RequestColumn, ...]

    @classmethod
    def from_columns(cls, columns: Iterable[_RawColumn]) -> RequestSchema:
        """Return the schema of raw columns such as `FeatureGraph.inputs`."""
        return cls(tuple(RequestColumn(column.name, column.dtype, column.is_list, column.length) for column in columns))

    @classmethod
    def from_json(cls, columns: Iterable[Mapping[str, Any]]) -> RequestSchema:
        """Return the schema that `to_json` wrote."""
        return cls(tuple(RequestColumn(**column) for column in columns))

    def to_json(self) -> list[dict[str, Any]]:
        """Return one {name, dtype, is_list, length, nullable} for each column."""
        return [asdict(column) for column in self.columns]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """The inputs of the ensemble, in the order of the columns."""
        return tuple(tensor for column in self.columns for tensor in column.tensors)

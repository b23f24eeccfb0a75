"""What Mews says to Triton, as plain frozen data: a model, its tensors, how it is batched, placed and warmed up.

`pbtxt.py` turns a ModelSpec into config.pbtxt and back. Types are Triton's request names (`INT64`, `FP32`, `BYTES`).
Dims leave the batch out: a scalar column is [1], a padded list [-1], its length [1], and a list as values and offsets
two tensors of []. With max_batch_size 0 Triton wants the batch said: `TensorSpec.whole`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ensemble.execution import Batching, InstanceGroup, Optimization, Versions
from etl.dtypes import dtype
from etl.errors import ArtifactError
from etl.names import PACKED
from etl.requests import USUAL, RawColumn, RequestForm, check_forms, holds_null

__all__ = [
    "Batching",
    "InstanceGroup",
    "ModelSpec",
    "RequestColumn",
    "RequestSchema",
    "Step",
    "TensorSpec",
    "Warmup",
    "WarmupTensor",
]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: `dims` without the batch, -1 where any size will do; an optional input may be left out."""

    name: str
    dtype: str
    dims: tuple[int, ...] = (1,)
    optional: bool = False

    @property
    def whole(self) -> TensorSpec:
        """The same tensor with its first dimension, of any size."""
        return replace(self, dims=(-1, *self.dims))

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.dims))}]"


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

    `versions` empty serves the newest, otherwise exactly those, the newest few, or all. An ensemble has platform
    "ensemble" and steps; any other model names a backend, which runs `model_file` (its own default if empty).
    `response_cache` keeps answers, if the server has a cache.
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
    versions: Versions = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    optimization: Optimization | None = None
    response_cache: bool | None = None
    model_file: str = ""


@dataclass(frozen=True)
class RequestColumn:
    """One raw column of a request: `dtype` is a name in etl/dtypes.py (of a list: its values').

    `length` is that of a list of fixed length, which travels as one tensor; None for scalars and ragged lists.
    `nullable` defaults to whether the request can say null: the type has a value for it (etl/dtypes.py), or `form`,
    which is how the column arrives (etl/requests.py), has another way. `packed` names the tensor that holds the column
    beside others, in the order of the columns; empty for tensors of its own.
    """

    name: str
    dtype: str
    is_list: bool = False
    length: int | None = None
    nullable: bool | None = None
    form: RequestForm = USUAL
    packed: str = ""

    def __post_init__(self) -> None:
        """SchemaError for an unknown type; ArtifactError for a nullable column whose request cannot say null."""
        can_be_null = (holds_null(self.dtype) and holds_null(self.arrives)) or self.form.says_null
        if self.nullable is None:
            object.__setattr__(self, "nullable", can_be_null)
        elif self.nullable and not can_be_null:
            raise ArtifactError(
                f"request column {self.name!r} is nullable",
                expected="a type with an encoding for null",
                received=self.dtype,
                hint="Fill nulls before, use a signed integer, float or string, or export with null: mask.",
            )

    @property
    def arrives(self) -> str:
        """The type of the values in the request, by its name in etl/dtypes.py."""
        return self.form.arrives_as(self.dtype)

    @property
    def is_ragged(self) -> bool:
        """True for a list of any length."""
        return self.is_list and self.length is None

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """The inputs that carry this column if it is not packed: values, a list's lengths or offsets, a mask."""
        triton, form = dtype(self.arrives).triton, self.form
        width: tuple[int, ...] = (-1,) if self.is_ragged else (1 if self.length is None else self.length,)
        values = () if form.offsets else width
        shapes = [(triton, values)]
        if self.is_ragged:
            shapes.append(("INT32", () if form.offsets else (1,)))
        if form.mask:
            shapes.append(("BOOL", values))
        names = form.tensor_names(self)
        return tuple(TensorSpec(name, *shape, form.optional) for name, shape in zip(names, shapes, strict=True))


@dataclass(frozen=True)
class RequestSchema:
    """The raw columns of a request, in order."""

    columns: tuple[RequestColumn, ...]

    @classmethod
    def from_columns(
        cls, columns: Sequence[RawColumn], forms: Mapping[str, RequestForm] | None = None
    ) -> RequestSchema:
        """Return the schema of raw columns such as `FeatureGraph.inputs`; ConfigError for a form that does not fit."""
        forms = forms or {}
        check_forms(columns, forms)
        return cls(
            tuple(RequestColumn(c.name, c.dtype, c.is_list, c.length, form=forms.get(c.name, USUAL)) for c in columns)
        )

    @classmethod
    def from_json(cls, columns: Iterable[Mapping[str, Any]]) -> RequestSchema:
        """Return the schema that `to_json` wrote."""
        return cls(tuple(RequestColumn(**{**c, "form": RequestForm(**c.get("form", {}))}) for c in columns))

    def to_json(self) -> list[dict[str, Any]]:
        """Return one {name, dtype, is_list, length, nullable} for each column; `form` and `packed` if it has them."""
        columns = [{**asdict(column), "form": column.form.to_json()} for column in self.columns]
        unsaid = ("form", "packed")
        return [{key: value for key, value in column.items() if key not in unsaid or value} for column in columns]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)

    @property
    def is_packed(self) -> bool:
        """True when columns share tensors (ensemble/requests/packed.py)."""
        return any(column.packed for column in self.columns)

    @property
    def needs_whole_requests(self) -> tuple[str, ...]:
        """The columns that keep Triton from making a batch of several requests."""
        return tuple(column.name for column in self.columns if column.form.needs_whole_requests)

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """The inputs of the ensemble, in the order of the columns; packed ones first."""
        named = (tensor for column in self.columns if not column.packed for tensor in column.tensors)
        packed = Counter(column.packed for column in self.columns if column.packed)
        sides = (TensorSpec(name, dtype(name.removeprefix(PACKED)).triton, (n,)) for name, n in packed.items())
        return (*sides, *named)

"""What a server says of a model, and the raw columns behind its inputs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ensemble.client.transport import Answer
from ensemble.spec import RequestColumn, RequestSchema, TensorSpec
from etl.dtypes import BY_TRITON
from etl.errors import MewsError, RequestError
from etl.names import LENGTH, REQUEST


@dataclass(frozen=True)
class ModelMetadata:
    """What a server says of a model; dims leave the batch out. `max_batch_size` 0 means that it has no batch."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    parameters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_answer(cls, answer: Answer) -> ModelMetadata:
        """Return the same without the batch."""
        batched = answer.max_batch_size > 0
        return cls(
            answer.name,
            answer.versions,
            answer.platform,
            tuple(TensorSpec(name, kind, dims[batched:]) for name, kind, dims in answer.inputs),
            tuple(TensorSpec(name, kind, dims[batched:]) for name, kind, dims in answer.outputs),
            answer.max_batch_size,
            answer.parameters,
        )

    @cached_property
    def request(self) -> RequestSchema:
        """The raw columns behind the inputs; RequestError for a type that no column has."""
        if REQUEST in self.parameters:
            return self._declared
        names = {spec.name for spec in self.inputs}
        columns = []
        for spec in self.inputs:
            if spec.name.endswith(LENGTH) and spec.name.removesuffix(LENGTH) in names:
                continue
            if spec.dtype not in BY_TRITON:
                raise RequestError(f"input {spec}", expected=f"a type among {', '.join(BY_TRITON)}")
            columns.append(_column(spec, ragged=spec.name + LENGTH in names))
        return RequestSchema(tuple(columns))

    @property
    def _declared(self) -> RequestSchema:
        try:
            return RequestSchema.from_json(json.loads(self.parameters[REQUEST]))
        except (ValueError, TypeError, MewsError) as error:
            subject = f"parameter {REQUEST} of model {self.name!r}"
            raise RequestError(subject, expected="columns as Mews exports them", received=str(error)) from error


def _column(spec: TensorSpec, *, ragged: bool) -> RequestColumn:
    kind = BY_TRITON[spec.dtype].name
    if ragged or spec.dims in ((), (1,)):
        return RequestColumn(spec.name, kind, is_list=ragged)
    return RequestColumn(spec.name, kind, is_list=True, length=math.prod(spec.dims))

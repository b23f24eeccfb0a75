"""Requests of few tensors: scalar columns of a kind side by side, instead of a tensor for each.

Every input costs a server microseconds, whatever is in it. Integers, booleans and datetimes go as int64, floats as
float32, or as float64 where one of them needs it, and strings as strings. What cannot be part of a row stays a tensor
of its own: lists, columns with a mask, columns that may be left out, and uint64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.spec import RequestColumn, RequestSchema
from etl.dtypes import dtype, is_float, is_integer
from etl.errors import ArtifactError
from etl.names import PACKED


def pack(schema: RequestSchema) -> RequestSchema:
    """Return the schema with every column in a packed tensor that can be in one.

    ArtifactError when a column has the name of such a tensor.
    """
    wide = any(column.arrives == "float64" for column in schema.columns if _fits(column))
    packed = tuple(
        replace(column, packed=PACKED + _side(column.arrives, wide)) if _fits(column) else column
        for column in schema.columns
    )
    names = {column.packed for column in packed} - {""}
    if taken := names & {tensor.name for column in packed if not column.packed for tensor in column.tensors}:
        raise ArtifactError(
            f"column {', '.join(sorted(taken))} has the name of a packed tensor",
            hint="Rename the column, or export with signature: named.",
        )
    return RequestSchema(packed)


def columns_of(schema: RequestSchema) -> dict[str, tuple[RequestColumn, ...]]:
    """Return the columns of each packed tensor, by its name, in order."""
    found: dict[str, tuple[RequestColumn, ...]] = {}
    for column in schema.columns:
        if column.packed:
            found[column.packed] = (*found.get(column.packed, ()), column)
    return found


def packed_tensors(
    tensors: Mapping[str, npt.NDArray[Any]], columns: Iterable[RequestColumn]
) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a request with those [rows, 1] of packed columns side by side, [rows, columns].

    Nulls stay as they are: NaN, the smallest integer of the column's own type, the empty string.
    """
    sides: dict[str, list[npt.NDArray[Any]]] = {}
    left = dict(tensors)
    for column in columns:
        if column.packed:
            sides.setdefault(column.packed, []).append(left.pop(column.name))
    return {name: _beside(name, values) for name, values in sides.items()} | left


def _beside(name: str, values: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    kind = dtype(name.removeprefix(PACKED)).numpy
    joined = np.empty((len(values[0]), len(values)), kind)
    return np.concatenate(values, axis=1, out=joined, casting="unsafe")


def _fits(column: RequestColumn) -> bool:
    return not (column.is_list or column.form.mask or column.form.optional or column.arrives == "uint64")


def _side(arrives: str, wide: bool) -> str:
    if arrives == "bool" or is_integer(arrives):
        return "int64"
    if is_float(arrives):
        return "float64" if wide else "float32"
    return arrives

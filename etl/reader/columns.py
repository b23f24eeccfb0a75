"""Our columns as Merlin column schemas, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from etl.dtypes import DTYPES
from etl.graph import Column

TO_MERLIN = {"string": "string", "bool": "boolean", "datetime": "datetime64us"}
_FROM_MERLIN = {"str": "string", "object": "string", "boolean": "bool"}


def to_merlin(columns: Iterable[Column]) -> Any:
    """Return a merlin.schema.Schema of `columns`; lists have the shape (None, length), (None, None) when ragged."""
    import merlin.dtypes
    from merlin.schema import ColumnSchema, Schema

    found = []
    for column in columns:
        dims = (None, column.length) if column.is_list else (None,)
        merlin_type = getattr(merlin.dtypes, TO_MERLIN.get(column.dtype, column.dtype))
        found.append(ColumnSchema(column.name, dtype=merlin_type, dims=dims, tags=list(column.tags)))
    return Schema(found)


def from_merlin(schema: Any) -> Column:
    """Return a merlin.schema.ColumnSchema as a Column; a type we do not have gives the dtype "unknown"."""
    name = schema.dtype.name
    dtype = "datetime" if name.startswith("datetime64") else _FROM_MERLIN.get(name, name)
    dims: tuple[Any, ...] = schema.shape.dims or ()
    fixed = len(dims) > 1 and dims[1].min == dims[1].max and dims[1].min
    return Column(
        schema.name,
        dtype if dtype in DTYPES else "unknown",
        is_list=len(dims) > 1,
        length=dims[1].min if fixed else None,
        tags=tuple(sorted(getattr(tag, "value", str(tag)) for tag in schema.tags)),
    )

"""Reading what may have been changed by others: JSON and Parquet tables, their types and sizes checked before use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from etl.errors import ArtifactError

_LONGEST = 64 * 2**20
"""Bytes of a JSON file."""
_ANY_TABLE = 256 * 2**20
_MOST_PACKED = 100
"""A table may take so many times its file's bytes in memory, if that is more than `_ANY_TABLE` bytes."""


def read_json(path: Path, hint: str, longest: int = _LONGEST) -> dict[str, Any]:
    """Return the object in a JSON file; ArtifactError for anything else, or one of more than `longest` bytes."""
    try:
        if not path.is_file() or path.stat().st_size > longest:
            raise OSError(f"it is no file of at most {longest} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(document, ensure_ascii=False).encode("utf-8")  # half a surrogate pair is no text
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", hint=hint) from error
    if not isinstance(document, dict):
        raise ArtifactError(str(path), expected="a JSON object", received=type(document).__name__, hint=hint)
    return document


def typed(value: Any, kind: Any, what: str) -> Any:
    """Return `value` if it is a `kind`; ValueError if not. A bool is not an int here."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{what}: expected {kind}, received {value!r}")
    return value


def read_table(
    folder: Path,
    file: Any,
    what: str,
    hint: str,
    inside: str = "",
    check_schema: Callable[[Mapping[str, pl.DataType]], object] = lambda schema: None,
) -> pl.DataFrame:
    """Return the Parquet table `file` of `folder`, once its columns and its size are known to be those of one.

    It must lie in `folder`, in the folder `inside` of it if that is named; what leads elsewhere, by its name or by a
    link, is refused. Raises ArtifactError, whose messages call the table `what`; ValueError for a name that is no text.
    """
    path = (folder / typed(file, str, what)).resolve()
    if path.parent != folder.resolve() / inside or not path.is_file():
        raise ArtifactError(f"{what} {file!r}", expected=f"a file in {folder / inside}", received=str(path))
    try:
        schema = pl.read_parquet_schema(path)
        check_schema(schema)
        rows = int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
        _refuse_larger(path, rows * sum(map(_width, schema.values())), what)
        table = pl.read_parquet(path, glob=False)
        _refuse_larger(path, sum(map(_own_bytes, table)), what)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ArtifactError(f"{what} {path} cannot be read: {error}", hint=hint) from error
    return table


def _width(dtype: pl.DataType) -> int:
    """Return the bytes of one value in memory, without a text's own."""
    return 16 if dtype in (pl.String, pl.Int128) else 8


def _own_bytes(series: pl.Series) -> int:
    """Return the bytes of what is in the texts and lists of a series."""
    if series.dtype == pl.String:
        return int(series.str.len_bytes().cast(pl.UInt64).sum() or 0)
    return int(series.estimated_size()) if series.dtype.is_nested() else 0


def _refuse_larger(path: Path, size: int, what: str) -> None:
    most = max(_ANY_TABLE, _MOST_PACKED * path.stat().st_size)
    if size > most:
        raise ArtifactError(f"{what} {path}", expected=f"at most {most} bytes of values", received=str(size))

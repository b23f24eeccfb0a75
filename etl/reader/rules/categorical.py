"""Categorify, HashBucket and HashedCross."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.dtypes import dtype
from etl.errors import ConfigError
from etl.graph import INPUT, OpNode
from etl.operators.categorical import (
    buckets_of,
    first_code,
    groups_of,
    key_columns,
    name_of,
    parts_of,
    vocabularies,
)
from etl.reader.carried import carried
from etl.reader.rules import Rule, State, add, plain

_SAFE_NAME = re.compile(r"[\w .=-]+")
_OURS = ("groups", "vocabs", "strict_nvtabular")
"""Params that are not arguments of NVTabular's Categorify."""


def _params(op: Any, selector: Any) -> dict[str, Any]:
    names = ("freq_threshold", "max_size", "num_buckets", "encode_type")
    params = {name: plain(getattr(op, name)) for name in names}
    params["dtype"] = None if op.dtype is None else np.dtype(op.dtype).name
    groups = [list(group.names) for group in selector.subgroups if len(group.names) > 1]
    given = {"groups": groups, "name_sep": "" if op.name_sep == "_" else op.name_sep, "vocabs": list(op.vocabs)}
    given["single_table"] = op.single_table
    return {**params, **{name: value for name, value in given.items() if value}}


def _faults(op: Any) -> str:
    if op.single_table:
        return "single_table=True gives nulls and unknown values the codes of real categories."
    return ""


def _known(op: Any) -> bool:
    return bool(op.fitted or op.vocabs)


def _state(op: Any, node: OpNode, dtypes: Mapping[str, str]) -> State:
    found = {}
    for key, members in vocabularies(node).items():
        if key not in op.categories:  # it is not fitted, but for the vocabularies it was given
            continue
        parts = parts_of(node, members[0])
        columns = [key] if len(parts) == 1 else parts
        # NVTabular counts integers with nulls as float64 keys.
        kinds = [dtype(dtypes[part]).polars for part in parts]
        path = Path(op.categories[key])
        table = _vocabulary(path, key, columns)
        if key in op.vocabs:
            _check_given(path, key, table)
        found[key] = table.with_columns(
            _in_type(table[name], kind) for name, kind in zip(key_columns(parts), kinds, strict=True)
        )
    return found


def _check_given(path: Path, key: str, table: pl.DataFrame) -> None:
    """Raise ConfigError for a given vocabulary whose codes are not its row numbers."""
    values = pl.read_parquet(path)[key] if path.is_file() else table["value"]
    if values.null_count() or values.n_unique() < values.len():
        received = "null" if values.null_count() else "a value twice"
        hint = "Give every value once, in the order of the codes."
        raise ConfigError(f"Categorify vocabulary {key!r}", expected="values", received=received, hint=hint)


def _in_type(values: pl.Series, kind: pl.DataType) -> pl.Series:
    """Return keys in the column's type, NaN as null; ConfigError for keys of another kind."""
    values = values.fill_nan(None) if values.dtype.is_float() else values
    try:
        return values.cast(kind)
    except pl.exceptions.PolarsError as error:
        received = f"{values.dtype}: {str(error).splitlines()[0]}"
        raise ConfigError("a Categorify vocabulary", expected=f"values of {kind}", received=received) from error


def _vocabulary(path: Path, key: str, columns: list[str]) -> pl.DataFrame:
    """Read a `unique.<key>.parquet` of NVTabular: a file, or a folder of parts; absent when it saw no value."""
    files = [path]
    if path.is_dir():
        files = sorted(path.glob("*.parquet"), key=lambda part: int(part.stem.rpartition(".")[2]))
    tables = [pl.read_parquet(file) for file in files if file.exists()]
    names = key_columns(columns)
    if not tables:
        return pl.DataFrame(schema={**dict.fromkeys(names, pl.String), "count": pl.Int64})
    table = pl.concat(tables)
    if missing := [column for column in columns if column not in table.columns]:
        expected = f"columns {', '.join(missing)}"
        raise ConfigError(f"Categorify vocabulary {path}", expected=expected, received=", ".join(table.columns))
    size = next((name for name in table.columns if name not in columns and name.endswith("size")), None)
    count = pl.lit(0, dtype=pl.Int64) if size is None else pl.col(size).cast(pl.Int64)
    keys = {name: pl.col(column) for name, column in zip(names, columns, strict=True)}
    return table.select(**keys, count=count).filter(pl.any_horizontal(pl.col(name).is_not_null() for name in names))


def _make(ops: Any, node: OpNode) -> Any:
    """Return NVTabular's Categorify; with buckets, one that spreads unknown values by our hash."""
    arguments = {name: value for name, value in node.params.items() if name not in _OURS}
    if all(buckets_of(node, column.name) == 1 for column in node.outputs):
        return ops.Categorify(**arguments)
    return _bucketed(ops, node)(**arguments)


def _bucketed(ops: Any, node: OpNode) -> Any:
    crossed, stock = carried("hashing").crossed, ops.Categorify
    spread = {
        column.name: (parts_of(node, column.name), buckets_of(node, column.name), column.is_list)
        for column in node.outputs
    }

    # Made here and not at the top, so that cloudpickle writes it into a saved workflow, which then needs no Mews.
    class Categorify(stock):  # type: ignore[misc, valid-type]
        def transform(self, col_selector: Any, df: Any) -> Any:
            single = copy.copy(self)  # NVTabular's own hash takes no lists, and is another one
            single.num_buckets = None
            found = stock.transform(single, col_selector, df)
            for name, (parts, buckets, is_list) in spread.items():
                if buckets == 1 or name not in found:
                    continue
                columns = [df[part].to_numpy() for part in parts]
                if is_list:
                    columns = [np.array([v for row in column for v in row], object) for column in columns]
                codes = found[name].to_numpy()
                flat = np.concatenate([[], *codes]).astype(np.int64) if is_list else codes
                hashes = crossed(columns, [self.dtypes[part] for part in parts])
                flat = np.where(flat == 2, 2 + hashes % buckets, flat).astype(self.output_dtype)
                if is_list:
                    ends = np.cumsum([len(row) for row in codes])
                    found[name] = [flat[end - len(row) : end] for row, end in zip(codes, ends, strict=True)]
                else:
                    found[name] = flat
            return found

    return Categorify


def _unmakeable(node: OpNode) -> tuple[str, str] | None:
    if groups_of(node) and any(ref.node != INPUT for ref in node.inputs):
        return "NVTabular can only encode raw columns together.", "Put the operator first."
    if node.params.get("single_table") and any(buckets_of(node, column.name) > 1 for column in node.outputs):
        return "the buckets of a single table are not hashed as here.", "Leave out num_buckets."
    return None


def _restore(op: Any, node: OpNode, tables: Path) -> None:
    tables.mkdir(parents=True, exist_ok=True)
    op.out_path = str(tables.parent.parent)
    op.storage_name = {name: name_of(node, group) for group in groups_of(node) for name in group}
    for number, (key, members) in enumerate(vocabularies(node).items()):
        file = key if _SAFE_NAME.fullmatch(key) else str(number)
        path = tables / f"{node.id}.unique.{file}.parquet"
        parts = parts_of(node, members[0])
        columns = [key] if len(parts) == 1 else parts
        _write_vocabulary((node.state or {})[key], columns, key, first_code(node, members[0]), path)
        op.categories[key] = str(path)


def _write_vocabulary(table: pl.DataFrame, columns: list[str], key: str, first: int, path: Path) -> None:
    """Write one vocabulary as NVTabular does: the code is the index."""
    import pandas

    frame = pandas.DataFrame(
        {column: series_of(table[name]) for name, column in zip(key_columns(columns), columns, strict=True)}
    )
    frame[f"{key}_size"] = table["count"].to_numpy()
    frame.index = pandas.RangeIndex(start=first, stop=first + len(frame))
    if "active" in table.columns:
        frame = frame[table["active"].to_numpy()]
    frame.to_parquet(path, compression=None)


def series_of(values: pl.Series) -> Any:
    """Return keys as a pandas Series that merges with a column of the same type."""
    import pandas

    # pandas' Int64 matches a plain integer column and one that became float64 for its nulls, without rounding keys.
    if values.dtype.is_integer():
        return pandas.Series(values.to_list(), dtype="Int64")
    if values.dtype == pl.Datetime:
        return pandas.Series(values.to_numpy().astype("datetime64[us]"))
    return pandas.Series(values.to_list(), dtype=None if values.len() else object)


def _hash_params(op: Any, selector: Any) -> dict[str, Any]:
    return {"num_buckets": plain(op.num_buckets)}


def _make_hash_bucket(ops: Any, node: OpNode) -> Any:
    """Return a HashBucket that uses our hash."""
    hashed = carried("hashing").hashed
    lists = {column.name for column in node.outputs if column.is_list}

    class HashBucket(ops.HashBucket):  # type: ignore[misc]
        def transform(self, col_selector: Any, df: Any) -> Any:
            for name in col_selector.names:
                buckets = self.num_buckets if isinstance(self.num_buckets, int) else self.num_buckets[name]
                if name in lists:
                    rows = [np.asarray(() if row is None else row, object) for row in df[name]]
                    df[name] = [(hashed(row, self.dtypes[name]) % buckets).astype(np.int32) for row in rows]
                else:
                    df[name] = (hashed(df[name].to_numpy(), self.dtypes[name]) % buckets).astype(np.int32)
            return df

    return HashBucket(node.params["num_buckets"])


def _cross_params(op: Any, selector: Any) -> dict[str, Any]:
    # NVTabular crosses all selected columns, whatever their groups; a dict has the tuple of their names.
    buckets = op.num_buckets
    if isinstance(buckets, dict):
        names = tuple(selector.names)
        if names not in buckets:
            received = ", ".join(map(str, buckets))
            raise ConfigError("HashedCross num_buckets", expected=f"a number for {names}", received=received)
        buckets = buckets[names]
    return {"num_buckets": int(buckets)}


def _make_hashed_cross(ops: Any, node: OpNode) -> Any:
    """Return a HashedCross that uses our hash."""
    crossed = carried("hashing").crossed
    (output,) = (column.name for column in node.outputs)

    class HashedCross(ops.HashedCross):  # type: ignore[misc]
        def transform(self, col_selector: Any, df: Any) -> Any:
            names = col_selector.names
            hashes = crossed([df[name].to_numpy() for name in names], [self.dtypes[name] for name in names])
            return type(df)({output: (hashes % self.num_buckets).astype(np.int32)})

    return HashedCross(node.params["num_buckets"])


add("HashBucket", Rule(_hash_params, _make_hash_bucket, typed=True))
add("HashedCross", Rule(_cross_params, _make_hashed_cross, typed=True))
add(
    "Categorify",
    Rule(
        _params,
        _make,
        state=_state,
        unmakeable=_unmakeable,
        restore=_restore,
        faults=_faults,
        known=_known,
        typed=True,
    ),
)

"""Raw Parquet to feature Parquet: scan, plan, parts in row order, Merlin's schema beside them; memory stays bounded."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from etl import schema
from etl.atomic import atomic_folder
from etl.compiler import to_polars
from etl.dtypes import dtype, from_polars, spelled
from etl.errors import ConfigError, DataError, MewsError, SchemaError
from etl.graph import Column, FeatureGraph
from etl.names import FINGERPRINT
from etl.parquet import count_rows, read_schema, read_through
from etl.progress import Progress, silent

RAW = "raw_"
"""What kept raw columns' names begin with in the output; a feature may have the raw column's own name."""

_ROWS_PER_GROUP = 65_536


@dataclass(frozen=True)
class Transformed:
    """What transform wrote: rows, Parquet parts in row order, and the seconds it took."""

    rows: int
    files: tuple[Path, ...]
    seconds: float


def transform(
    graph: FeatureGraph,
    paths: Sequence[Path],
    out: Path,
    rows_per_file: int = 250_000,
    keep: Sequence[str] = (),
    progress: Progress = silent,
) -> Transformed:
    """Write the features of the Parquet files `paths` to the folder `out`, which appears whole or not at all.

    `part_<n>.parquet` hold `rows_per_file` rows each (the last may hold fewer; no rows make one empty part), in the
    order of `paths` and their rows; the raw columns `keep` follow the features as `raw_<name>` and are not in Merlin's
    schema.
    Raises ConfigError for a graph that is not fitted, SchemaError for missing or mistyped columns (all of them),
    DataError for a file that cannot be read, MewsError when `out` cannot be written.
    """
    started = time.perf_counter()
    if not graph.is_fitted:
        received = "one without statistics"
        raise ConfigError("transform", expected="a fitted graph", received=received, hint="Fit it first.")
    kept = _kept(graph, paths, keep)
    raw = scan({column.name: column for column in (*graph.inputs, *kept)}.values(), paths)
    raw = raw.with_columns(pl.col(column.name).alias(RAW + column.name) for column in kept)
    plan, kept_names = to_polars(graph), [RAW + column.name for column in kept]
    # Merlin's dataloader takes lists of any length; that it is fixed is said in the schema.
    written = [*(_as_declared(column) for column in graph.output_columns), *kept_names]

    def features(part: pl.DataFrame) -> pl.DataFrame:
        # Part by part, for Polars runs lookups over a whole scan in memory.
        try:
            return plan.apply(part.lazy(), kept_names).select(written).collect()
        except pl.exceptions.PolarsError as error:
            raise DataError(f"the rows cannot be transformed: {error}") from error

    empty = raw.collect_schema().to_frame()
    total = sum(count_rows(path) for path in paths)
    with _disk(out), atomic_folder(out) as folder:
        parts = map(features, _parts(_read(raw, paths), rows_per_file, empty))
        names = _write_parts(parts, folder, graph.fingerprint, total, progress)
        schema.write(graph, folder)
    return Transformed(total, tuple(out / name for name in names), time.perf_counter() - started)


def scan(columns: Iterable[Column], paths: Sequence[Path]) -> pl.LazyFrame:
    """Return the raw `columns` of all `paths` as one frame with the types of etl/dtypes.py, rows in order.

    A column of nothing but nulls takes the declared type. Raises SchemaError that lists every missing or mistyped
    column of every file, DataError for no files, or one that is missing or not Parquet.
    """
    if not paths:
        raise DataError("input", expected="at least one Parquet file", received="none")
    wanted, frames, problems = list(columns), [], []
    for path in paths:
        found = read_schema(path)
        problems += [f"{path.name}: {problem}" for column in wanted if (problem := _mismatch(column, found))]
        frames.append(pl.scan_parquet(path, glob=False).select(_as_declared(column) for column in wanted))
    if problems:
        raise SchemaError(f"{len(problems)} column(s) do not fit the graph: {'; '.join(problems)}")
    return pl.concat(frames) if len(frames) > 1 else frames[0]


def _mismatch(column: Column, found: Mapping[str, pl.DataType]) -> str:
    """Say what is wrong with a raw column in a file; nothing if all is well."""
    expected = spelled(column.dtype, column.is_list)
    if column.name not in found:
        return f"{column.name!r} is missing (expected {expected})"
    actual = found[column.name]
    if actual == pl.Null or actual == pl.List(pl.Null):
        return ""
    try:
        name, is_list = from_polars(actual)
    except SchemaError:
        return f"{column.name!r} is {actual} (expected {expected})"
    same = (name, is_list) == (column.dtype, column.is_list)
    return "" if same else f"{column.name!r} is {spelled(name, is_list)} (expected {expected})"


def _polars_type(column: Column) -> pl.DataType:
    inner = dtype(column.dtype).polars
    return pl.List(inner) if column.is_list else inner


def _as_declared(column: Column) -> pl.Expr:
    return pl.col(column.name).cast(_polars_type(column))


def _kept(graph: FeatureGraph, paths: Sequence[Path], keep: Sequence[str]) -> list[Column]:
    """Return the raw columns `keep`; one that the graph does not read has the type that the first file gives it."""
    known = {column.name: column for column in graph.inputs}
    found = read_schema(paths[0]) if paths else {}
    missing = [name for name in keep if name not in known and name not in found]
    if missing:
        raise SchemaError(f"columns to keep: {', '.join(missing)}", expected=f"some of: {', '.join(found)}")
    taken = {column.name for column in graph.output_columns} & {RAW + name for name in keep}
    if taken:
        raise ConfigError(f"feature {', '.join(sorted(taken))}", expected=f"a name that does not begin with {RAW!r}")
    return [known[name] if name in known else Column(name, *from_polars(found[name])) for name in dict.fromkeys(keep)]


def _read(raw: pl.LazyFrame, paths: Sequence[Path]) -> Iterator[pl.DataFrame]:
    """Yield the raw rows in order, a batch at a time; DataError names the file that turns out to be damaged."""
    try:
        yield from raw.collect_batches(chunk_size=_ROWS_PER_GROUP, maintain_order=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        for path in paths:
            read_through(path)
        raise DataError(f"the input cannot be read: {error}") from error


def _write_parts(
    parts: Iterable[pl.DataFrame], folder: Path, fingerprint: str, total: int, progress: Progress
) -> list[str]:
    names: list[str] = []
    done = 0
    progress("transform", done, total, "rows")
    for part in parts:
        names.append(f"part_{len(names):05d}.parquet")
        part.write_parquet(folder / names[-1], row_group_size=_ROWS_PER_GROUP, metadata={FINGERPRINT: fingerprint})
        done += part.height
        progress("transform", done, total, "rows")
    return names


def _parts(batches: Iterable[pl.DataFrame], rows: int, empty: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the batches again in frames of `rows` rows, the last one shorter; `empty` if there are none."""
    held = empty
    made = 0
    for batch in batches:
        held = pl.concat([held, batch])
        while held.height >= rows:
            yield held[:rows]
            held, made = held[rows:], made + 1
    if held.height or not made:
        yield held


@contextmanager
def _disk(out: Path) -> Iterator[None]:
    """Turn what the system says while writing into an error that names `out`."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        hint = "Nothing was left behind; make room or choose another folder."
        raise MewsError(f"{out} cannot be written", received=str(error).splitlines()[0], hint=hint) from error

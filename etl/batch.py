"""Raw rows to feature Parquet: scan, plan, parts in row order, Merlin's schema beside them; memory stays bounded."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import polars as pl

from etl import engine as engines
from etl import inputs, schema
from etl.atomic import atomic_folder
from etl.compiler import to_polars
from etl.compiler.targets.polars import Engine, PolarsPlan
from etl.dtypes import from_polars, is_float
from etl.errors import ConfigError, DataError, MewsError, SchemaError
from etl.graph import Column, FeatureGraph
from etl.inputs import Address, Input, as_declared, scan
from etl.names import FINGERPRINT
from etl.parts import cut, in_order, rows_within
from etl.progress import Progress, silent
from etl.shuffle import shuffled

__all__ = ["RAW", "Layout", "Transformed", "scan", "transform"]

RAW = "raw_"
"""What kept raw columns' names begin with in the output; a feature may have the raw column's own name."""

Compression = Literal["zstd", "snappy", "lz4", "gzip", "brotli", "uncompressed"]

_BATCH = 65_536
_SAMPLE = 10_000


@dataclass(frozen=True)
class Layout:
    """How the Parquet files are written.

    `compression_level` is for zstd, gzip and brotli, None for Polars' own. `partition_by` are written columns whose
    values name folders (`country=NO/part_00000.parquet`); they are then not in the files.
    """

    row_group_size: int = 65_536
    compression: Compression = "zstd"
    compression_level: int | None = None
    partition_by: tuple[str, ...] = ()

    @property
    def level(self) -> int | None:
        """The level that is written with: zstd's fastest unless told otherwise, a tenth larger than Polars' default."""
        return 1 if self.compression == "zstd" and self.compression_level is None else self.compression_level


@dataclass(frozen=True)
class Transformed:
    """What transform wrote: rows, Parquet files in row order, the seconds it took; `rows_read` counts those read."""

    rows: int
    files: tuple[Path, ...]
    seconds: float
    rows_read: int = 0


@dataclass(frozen=True)
class _Job:
    """Everything that does not change from part to part."""

    graph: FeatureGraph
    plan: PolarsPlan
    kept: tuple[str, ...]
    engine: Engine
    gpu_fallback: bool

    @property
    def written(self) -> list[pl.Expr]:
        # Merlin's dataloader takes lists of any length; that it is fixed is said in the schema.
        return [*(as_declared(column) for column in self.graph.output_columns), *map(pl.col, self.kept)]

    def features(self, part: tuple[int, pl.DataFrame]) -> tuple[int, pl.DataFrame]:
        """Return the number of raw rows and their features."""
        first_row, rows = part
        try:
            planned = self.plan.apply(rows.lazy(), self.kept, first_row).select(self.written)
            return rows.height, engines.collect(planned, self.engine, self.gpu_fallback)
        except pl.exceptions.PolarsError as error:
            raise DataError(f"the rows cannot be transformed: {error}") from error


def transform(
    graph: FeatureGraph,
    paths: Address | Sequence[Address],
    out: Path,
    rows_per_file: int = 250_000,
    keep: Sequence[str] = (),
    progress: Progress = silent,
    *,
    layout: Layout = Layout(),
    shuffle: int | None = None,
    engine: Engine = "cpu",
    gpu_fallback: bool = False,
    out_of_fold: bool = False,
    memory_limit: int | None = None,
    first_row: int = 0,
    widen: bool = False,
) -> Transformed:
    """Write the features of the files `paths` (see etl/inputs.py) to `out`, which appears whole or not at all.

    `part_<n>.parquet` hold `rows_per_file` rows each (the last may hold fewer; no rows make one empty part), in the
    order of `paths` and their rows, or shuffled by the seed `shuffle`; the raw columns `keep` follow the features as
    `raw_<name>` and are not in Merlin's schema. `memory_limit` (bytes) makes the parts smaller. `first_row` is the
    number of the first row in its data set. `out_of_fold` is for the rows a model is trained on. An operator that
    regroups rows, or looks at others, has all of them at once, in Polars' streaming engine.
    Raises ConfigError for a graph that is not fitted or options that do not fit, SchemaError for missing or mistyped
    columns (all of them; see etl.inputs.check for `widen`), DataError for a file that cannot be read, MewsError when
    `out` cannot be written.
    """
    started = time.perf_counter()
    if not graph.is_fitted:
        received = "one without statistics"
        raise ConfigError("transform", expected="a fitted graph", received=received, hint="Fit it first.")
    files = inputs.find(paths)
    kept = _kept(graph, files, keep)
    columns = list({column.name: column for column in (*graph.inputs, *kept)}.values())
    inputs.check(files, columns, widen)
    engines.check(graph, engine, gpu_fallback)
    plan = to_polars(graph, out_of_fold, engine)
    job = _Job(graph, plan, tuple(RAW + column.name for column in kept), engine, gpu_fallback)
    raw = inputs.joined(files, columns).with_columns(pl.col(column.name).alias(RAW + column.name) for column in kept)
    _check_layout(job, layout)
    none = _sample(raw, 0)
    empty = job.features((first_row, none))[1]
    if memory_limit is not None:
        sample = _first(raw, files)
        rows_per_file = rows_within(memory_limit, (sample, job.features((first_row, sample))[1]), rows_per_file)
    told = _Told(progress, sum(file.count() for file in files))
    with (
        _disk(out),
        atomic_folder(out) as folder,
        _folder_beside(out) as aside,
    ):
        if plan.is_local:
            parts = _numbered(cut(_read(raw, files), rows_per_file, none), first_row)
            frames = told.of(in_order(job.features, parts))
        else:
            frames = _whole(job, raw, files, first_row, Path(aside), told)
        if shuffle is not None:
            frames = shuffled(frames, shuffle, Path(aside), rows_per_file)
        parts_of_features = enumerate(cut(frames, rows_per_file, empty))
        write = partial(_write, folder=folder, fingerprint=graph.fingerprint, layout=layout)
        rows, names = 0, []
        for height, made in in_order(write, parts_of_features):
            rows += height
            names += made
        schema.write(graph, folder)
    seconds = time.perf_counter() - started
    return Transformed(rows, tuple(out / name for name in names), seconds, told.total)


def _folder_beside(out: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=out.parent, prefix=".", suffix=".tmp")


class _Told:
    """Progress in raw rows, told as parts of features are made."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self.total, self._done = progress, total, 0
        progress("transform", 0, total, "rows")

    def of(self, parts: Iterable[tuple[int, pl.DataFrame]]) -> Iterator[pl.DataFrame]:
        """Yield the features, and count the raw rows that they were made from."""
        for rows, features in parts:
            yield features
            if rows:
                self.add(rows)

    def add(self, rows: int) -> None:
        """Count `rows` more."""
        self._done += rows
        self._progress("transform", self._done, self.total, "rows")


def _whole(
    job: _Job, raw: pl.LazyFrame, files: Sequence[Input], first_row: int, aside: Path, told: _Told
) -> Iterator[pl.DataFrame]:
    """Yield the features of a plan that must see all rows; what each step makes is put on disk."""
    made = 0

    def spill(rows: pl.LazyFrame) -> pl.LazyFrame:
        nonlocal made
        made += 1
        path = aside / f"step_{made}.parquet"
        rows.sink_parquet(path, compression="lz4", statistics=False, engine="streaming", maintain_order=True)
        return pl.scan_parquet(path, glob=False)

    with _reading(files):
        features = spill(job.plan.apply(raw, job.kept, first_row, spill).select(job.written))
    told.add(told.total)
    yield from features.collect_batches(chunk_size=_BATCH, maintain_order=True)


def _numbered(parts: Iterable[pl.DataFrame], first_row: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield each part with the number of its first row."""
    for part in parts:
        yield first_row, part
        first_row += part.height


def _kept(graph: FeatureGraph, files: Sequence[Input], keep: Sequence[str]) -> list[Column]:
    """Return the raw columns `keep`; one that the graph does not read has the type that the first file gives it."""
    known = {column.name: column for column in graph.inputs}
    found = files[0].schema() if keep else {}
    missing = [name for name in keep if name not in known and name not in found]
    if missing:
        raise SchemaError(f"columns to keep: {', '.join(missing)}", expected=f"some of: {', '.join(found)}")
    taken = {column.name for column in graph.output_columns} & {RAW + name for name in keep}
    if taken:
        raise ConfigError(f"feature {', '.join(sorted(taken))}", expected=f"a name that does not begin with {RAW!r}")
    return [known[name] if name in known else Column(name, *from_polars(found[name])) for name in dict.fromkeys(keep)]


def _check_layout(job: _Job, layout: Layout) -> None:
    """ConfigError for columns to partition by that are not written, or have no values to name a folder after."""
    types = {column.name: (column.dtype, column.is_list) for column in job.graph.output_columns}
    for name in layout.partition_by:
        if name not in (*types, *job.kept):
            expected = f"one of: {', '.join((*types, *job.kept))}"
            raise ConfigError(f"partition_by {name!r}", expected=expected)
        dtype, is_list = types.get(name, ("", False))
        if is_float(dtype) or is_list:
            raise ConfigError(f"partition_by {name!r}", expected="integers, strings or booleans", received=dtype)


def _sample(raw: pl.LazyFrame, rows: int) -> pl.DataFrame:
    return raw.collect_schema().to_frame() if rows == 0 else raw.head(rows).collect()


def _first(raw: pl.LazyFrame, files: Sequence[Input]) -> pl.DataFrame:
    with _reading(files):
        return _sample(raw, _SAMPLE)


def _read(raw: pl.LazyFrame, files: Sequence[Input]) -> Iterator[pl.DataFrame]:
    """Yield the raw rows in order, a batch at a time; DataError names the file that turns out to be damaged."""
    with _reading(files):
        yield from raw.collect_batches(chunk_size=_BATCH, maintain_order=True)


@contextmanager
def _reading(files: Sequence[Input]) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        for file in files:
            file.read_through()
        raise DataError(f"the input cannot be read: {error}") from error


def _write(part: tuple[int, pl.DataFrame], folder: Path, fingerprint: str, layout: Layout) -> tuple[int, list[str]]:
    """Write one part, and return its rows and the names of its files."""
    number, frame = part
    made = []
    for place, rows in _folders(frame, layout.partition_by):
        name = f"{place}part_{number:05d}.parquet"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        rows.write_parquet(
            folder / name,
            row_group_size=layout.row_group_size,
            compression=layout.compression,
            compression_level=layout.level,
            metadata={FINGERPRINT: fingerprint},
        )
        made.append(name)
    return frame.height, made


def _folders(frame: pl.DataFrame, by: Sequence[str]) -> Iterable[tuple[str, pl.DataFrame]]:
    if not by or not frame.height:
        return [("", frame.drop(by))]
    split = frame.partition_by(by, as_dict=True, include_key=False, maintain_order=True)
    return [(_place(by, values), rows) for values, rows in split.items()]


def _place(names: Sequence[str], values: Sequence[Any]) -> str:
    """Return the folder of one combination of values, as Hive spells it."""
    spelled = ("__HIVE_DEFAULT_PARTITION__" if value is None else quote(str(value), safe=" ") for value in values)
    return "".join(f"{quote(name, safe=' ')}={value}/" for name, value in zip(names, spelled, strict=True))


@contextmanager
def _disk(out: Path) -> Iterator[None]:
    """Turn what the system says while writing into an error that names `out`."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        hint = "Nothing was left behind; make room or choose another folder."
        raise MewsError(f"{out} cannot be written", received=str(error).splitlines()[0], hint=hint) from error

"""Raw rows to feature Parquet: scan, plan, parts in row order, Merlin's schema beside them; memory stays bounded."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from etl import engine as engines
from etl import inputs, schema
from etl import layout as layouts
from etl.atomic import atomic_folder
from etl.compiler import to_polars
from etl.compiler.targets.polars import Engine, PolarsPlan
from etl.dtypes import from_polars
from etl.errors import ConfigError, DataError, MewsError, SchemaError
from etl.graph import Column, FeatureGraph
from etl.inputs import Address, Input, as_declared, scan
from etl.layout import USUAL, Layout
from etl.memory import parse_bytes
from etl.parts import cut, in_order, rows_within
from etl.progress import Progress, silent
from etl.shuffle import shuffled

__all__ = ["RAW", "Layout", "Transformed", "scan", "transform"]

RAW = "raw_"
"""What kept raw columns' names begin with in the output; a feature may have the raw column's own name."""

_BATCH = 65_536
_SAMPLE = 10_000


@dataclass(frozen=True)
class Transformed:
    """What transform wrote: rows, Parquet files in row order, the seconds it took; `rows_read` counts those read.

    `drift` says how the files' columns differ where the graph allows it (etl.inputs.drift).
    """

    rows: int
    files: tuple[Path, ...]
    seconds: float
    rows_read: int = 0
    drift: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Job:
    """Everything that does not change from part to part."""

    graph: FeatureGraph
    files: tuple[Input, ...]
    raw: pl.LazyFrame
    plan: PolarsPlan
    kept: tuple[str, ...]
    engine: Engine
    gpu_fallback: bool
    first_row: int

    @property
    def written(self) -> list[pl.Expr]:
        # Merlin's dataloader takes lists of any length; that it is fixed is said in the schema.
        return [*(as_declared(column) for column in self.graph.output_columns), *map(pl.col, self.kept)]

    @cached_property
    def no_rows(self) -> pl.DataFrame:
        """The raw columns, empty."""
        return self.raw.collect_schema().to_frame()

    @cached_property
    def no_features(self) -> pl.DataFrame:
        """The written columns, empty."""
        return self.features((self.first_row, self.no_rows))[1]

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
    layout: Layout = USUAL,
    shuffle: int | None = None,
    engine: Engine = "cpu",
    gpu_fallback: bool = False,
    out_of_fold: bool = False,
    memory_limit: str | int | None = None,
    first_row: int = 0,
    widen: bool = False,
) -> Transformed:
    """Write the features of the files `paths` (see etl/inputs.py) to `out`, which appears whole or not at all.

    `part_<n>.parquet` hold `rows_per_file` rows each (the last may hold fewer; no rows make one empty part), in the
    order of `paths` and their rows, or shuffled by the seed `shuffle`; the raw columns `keep` follow the features as
    `raw_<name>` and are not in Merlin's schema. `memory_limit` (bytes, or text as "4GB") makes the parts smaller.
    `first_row` is the number of the first row in its data set. `out_of_fold` is for the rows a model is trained on.
    An operator that regroups rows, or looks at others, has all of them at once, in Polars' streaming engine.
    Raises ConfigError for a graph that is not fitted or options that do not fit, SchemaError for missing or mistyped
    columns (all of them; see etl.inputs.check for `widen`), DataError for a file that cannot be read, MewsError when
    `out` cannot be written.
    """
    started = time.perf_counter()
    job = _job(graph, inputs.find(paths), keep, engine, gpu_fallback, out_of_fold, first_row, widen)
    layouts.check(layout, graph.output_columns, job.kept)
    rows_per_file = _rows_of_a_part(job, memory_limit, rows_per_file)
    told = _Told(progress, sum(file.count() for file in job.files))
    with _disk(out), atomic_folder(out) as folder, _folder_beside(out) as aside:
        frames = _features(job, rows_per_file, Path(aside), told)
        if shuffle is not None:
            frames = shuffled(frames, shuffle, Path(aside), rows_per_file)
        rows, names = layouts.write(frames, folder, rows_per_file, job.no_features, graph.fingerprint, layout)
        schema.write(graph, folder)
    written = tuple(out / name for name in names)
    return Transformed(rows, written, time.perf_counter() - started, told.total, tuple(inputs.drift(job.files)))


def _job(
    graph: FeatureGraph,
    files: tuple[Input, ...],
    keep: Sequence[str],
    engine: Engine,
    gpu_fallback: bool,
    out_of_fold: bool,
    first_row: int,
    widen: bool,
) -> _Job:
    """Check the graph, the files' columns and the engine, and plan the work."""
    if not graph.is_fitted:
        received = "one without statistics"
        raise ConfigError("transform", expected="a fitted graph", received=received, hint="Fit it first.")
    kept = _kept(graph, files, keep)
    columns = list({column.name: column for column in (*graph.inputs, *kept)}.values())
    inputs.check(files, columns, widen)
    engines.check(graph, engine, gpu_fallback)
    raw = inputs.joined(files, columns).with_columns(pl.col(column.name).alias(RAW + column.name) for column in kept)
    names = tuple(RAW + column.name for column in kept)
    return _Job(graph, files, raw, to_polars(graph, out_of_fold, engine), names, engine, gpu_fallback, first_row)


def _rows_of_a_part(job: _Job, memory_limit: str | int | None, wanted: int) -> int:
    """Return `wanted`, or fewer rows if a part of the first ones shows that more would not fit."""
    if memory_limit is None:
        return wanted
    limit = parse_bytes(str(memory_limit))
    with _reading(job.files):
        sample = job.raw.head(_SAMPLE).collect()
    return rows_within(limit, (sample, job.features((job.first_row, sample))[1]), wanted)


def _features(job: _Job, rows: int, aside: Path, told: _Told) -> Iterator[pl.DataFrame]:
    """Return the features in row order: part by part, or of all rows at once if the plan must see them."""
    if not job.plan.is_local:
        return _whole(job, aside, told)
    parts = _numbered(cut(_read(job, rows), rows, job.no_rows), job.first_row)
    return told.of(in_order(job.features, parts))


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


def _whole(job: _Job, aside: Path, told: _Told) -> Iterator[pl.DataFrame]:
    """Yield the features of a plan that must see all rows; what each step makes is put on disk."""
    made = 0

    def spill(rows: pl.LazyFrame) -> pl.LazyFrame:
        nonlocal made
        made += 1
        path = aside / f"step_{made}.parquet"
        rows.sink_parquet(path, compression="lz4", statistics=False, engine="streaming", maintain_order=True)
        return pl.scan_parquet(path, glob=False)

    with _reading(job.files):
        features = spill(job.plan.apply(job.raw, job.kept, job.first_row, spill).select(job.written))
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


def _read(job: _Job, rows: int) -> Iterator[pl.DataFrame]:
    """Yield the raw rows in order, a batch at a time; DataError names the file that turns out to be damaged."""
    with _reading(job.files):
        yield from job.raw.collect_batches(chunk_size=min(_BATCH, rows), maintain_order=True)


@contextmanager
def _reading(files: Sequence[Input]) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        for file in files:
            file.read_through()
        raise DataError(f"the input cannot be read: {error}") from error


@contextmanager
def _disk(out: Path) -> Iterator[None]:
    """Turn what the system says while writing into an error that names `out`."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        hint = "Nothing was left behind; make room or choose another folder."
        raise MewsError(f"{out} cannot be written", received=str(error).splitlines()[0], hint=hint) from error

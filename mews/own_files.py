"""`mews etl fit` and `mews etl transform` on a user's own workflow and files, without a pipeline."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.errors import ConfigError

if TYPE_CHECKING:
    from etl.graph import Column, FeatureGraph
    from etl.inputs import Input
    from mews.session import Session


def fit(session: Session, workflow: str, data: Sequence[str], out: Path, trust_pickle: bool) -> dict[str, Any]:
    """Fit `workflow` on the files `data`; write graph/ and statistics/ to `out`, which appears whole or not at all."""
    from etl import inputs
    from etl.atomic import atomic_folder
    from etl.fit import fit_statistics
    from etl.reader.saved import load_workflow
    from mews.stages.features import warn_of

    options, files, started = session.config.features, inputs.find(data), time.monotonic()
    warn_of(inputs.drift(files), session.terminal)
    graph = load_workflow(workflow, trust_pickle, _columns(files[0]), session.terminal.warn)
    with session.terminal.stage("fit") as progress:
        addresses = [file.address for file in files]
        fitted, statistics = fit_statistics(
            graph,
            addresses,
            progress,
            memory_limit=options.memory_limit,
            on=options.scheduler,
            widen=options.widen,
        )
    with atomic_folder(out) as folder:
        fitted.save(folder / "graph")
        statistics.save(folder / "statistics")
    seconds = time.monotonic() - started
    session.terminal.line(f"fitted {len(graph.nodes)} operators on {len(files)} file(s) in {seconds:.1f} s: {out}")
    return {"out": str(out), "fingerprint": fitted.fingerprint, "fit_seconds": seconds}


def transform(session: Session, graph: Path, data: Sequence[str], out: Path) -> dict[str, Any]:
    """Write the features of the files `data` to `out`, as the fitted graph in the folder `graph` computes them."""
    from etl import batch
    from mews.console import short
    from mews.stages.features import warn_of

    options = session.config.features
    with session.terminal.stage("transform") as progress:
        done = batch.transform(
            _graph(graph),
            list(data),
            out,
            options.rows_per_file,
            progress=progress,
            layout=batch.Layout(options.row_group_size, options.compression),
            shuffle=options.shuffle,
            engine=options.engine,
            gpu_fallback=options.gpu_fallback,
            memory_limit=options.memory_limit,
            widen=options.widen,
        )
    warn_of(done.drift, session.terminal)
    rate = done.rows_read / max(done.seconds, 1e-9)
    session.terminal.line(f"{done.rows:,} rows in {done.seconds:.1f} s, {short(rate)} rows/s: {out}")
    return {
        "out": str(out), "rows": done.rows, "files": len(done.files), "transform_seconds": done.seconds,
        "rows_per_s": rate, "drift": list(done.drift),
    }  # fmt: skip


def _graph(folder: Path) -> FeatureGraph:
    """Return the graph in `folder`, or in the folder `graph` of what fit wrote."""
    from etl.graph import FeatureGraph

    inner = folder / "graph"
    return FeatureGraph.load(inner if inner.is_dir() else folder)


def _columns(file: Input) -> list[Column]:
    """Return the columns of a file with their types; a CSV's are taken from all of its rows."""
    import polars as pl

    from etl.dtypes import from_polars
    from etl.graph import Column

    found = file.schema()
    if file.format == "CSV":
        separator = "\t" if file.address.endswith(".tsv") else ","
        with file.readable():
            whole = pl.scan_csv(file.address, separator=separator, infer_schema_length=None, glob=False)
            found = whole.collect_schema()
    known = {name: kind for name, kind in found.items() if kind != pl.Null}
    return [Column(name, *from_polars(kind)) for name, kind in known.items()]


def all_or_none(command: str, **options: object) -> bool:
    """Return whether `options` are given; ConfigError for some without the others."""
    given = [name for name, value in options.items() if value]
    if given and len(given) < len(options):
        missing = ", ".join(name for name in options if name not in given)
        raise ConfigError(command, expected=f"also {missing}", received=", ".join(given))
    return bool(given)


def set_features(session: Session, **values: object) -> None:
    """Let options of the command line change keys under `features`; None leaves them as they are."""
    import json

    session.overrides += [f"features.{key}={json.dumps(value)}" for key, value in values.items() if value is not None]

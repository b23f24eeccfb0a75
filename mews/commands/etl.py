"""`mews etl`: fit and run the feature graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mews.commands.groups import etl_app
from mews.session import Session, command

_MEMORY = Annotated[
    str | None, typer.Option("--memory-limit", help="What fit may use, e.g. 4GB; half of all if absent.")
]
_SCHEDULER = Annotated[
    str | None, typer.Option("--scheduler", help="local, dask, dask-cuda, or a cluster's address (tcp://host:port).")
]


@etl_app.command("fit")
@command
def etl_fit(session: Session, memory_limit: _MEMORY = None, scheduler: _SCHEDULER = None) -> Any:
    """Fit the feature graph on the training rows."""
    session.overrides += [
        f"features.{key}={json.dumps(value)}"
        for key, value in (("memory_limit", memory_limit), ("scheduler", scheduler))
        if value is not None
    ]
    return session.bring("fit")["fit"].result


@etl_app.command("update")
@command
def etl_update(
    session: Session,
    data: Annotated[list[Path], typer.Option("--data", help="New rows: a Parquet file, or a folder of them; repeat.")],
    graph: Annotated[
        Path | None, typer.Option("--graph", help="The fitted graph's folder; the run's if absent.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the result; <run>/update if absent.")] = None,
    min_count: Annotated[int, typer.Option("--min-count", min=0, help="Age out values counted less often.")] = 0,
    unseen: Annotated[int, typer.Option("--unseen", min=0, help="Age out values not seen in so many updates.")] = 0,
    memory_limit: _MEMORY = None,
    scheduler: _SCHEDULER = None,
) -> Any:
    """Add new rows to a fitted graph's statistics, without the old rows; codes that were given never move.

    Writes graph/, statistics/ and changes/ to the output folder. Statistics are read from the folder `statistics`
    beside the graph.
    """
    from etl.atomic import atomic_folder
    from etl.fit.statistics import Statistics
    from etl.fit.update import Ageing, update
    from etl.graph import FeatureGraph

    folder = graph or session.run.graph
    target = out or session.run.folder / "update"
    files = [file for path in data for file in (sorted(path.glob("*.parquet")) if path.is_dir() else [path])]
    with session.terminal.stage("update") as progress:
        done = update(
            FeatureGraph.load(folder),
            Statistics.load(folder.parent / "statistics"),
            files,
            Ageing(min_count, unseen),
            progress,
            memory_limit=memory_limit,
            on=scheduler or "local",
        )
    with atomic_folder(target) as temporary:
        done.graph.save(temporary / "graph")
        done.statistics.save(temporary / "statistics")
        done.changes.save(temporary / "changes")
    told = done.changes.describe()
    for each in told["vocabularies"]:
        session.terminal.line(
            f"{each['node']} {each['vocabulary']}: {each['old_size']:,} -> {each['new_size']:,} codes"
            f" ({each['appended']:,} new, {each['aged_out']:,} aged out, {each['returned']:,} back,"
            f" {each['left_out']:,} left out)"
        )
    return told | {"fingerprint": done.graph.fingerprint, "out": str(target)}


@etl_app.command("transform")
@command
def etl_transform(session: Session) -> Any:
    """Write the features of train, valid and test as Parquet with a Merlin schema."""
    return session.bring("transform")["transform"].result

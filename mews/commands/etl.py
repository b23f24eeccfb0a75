"""`mews etl`: fit and run the feature graph."""

from __future__ import annotations

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


_Data = Annotated[
    list[str] | None,
    typer.Option("--data", help="Your own rows: a file, folder, glob or URL (docs/etl.md); repeat."),
]


@etl_app.command("fit")
@command
def etl_fit(
    session: Session,
    workflow: Annotated[
        str | None,
        typer.Argument(help="With --data: a saved workflow (a folder of Mews or NVTabular), or file.py:function."),
    ] = None,
    data: _Data = None,
    out: Annotated[Path | None, typer.Option("--out", help="With --data: the folder for graph/, statistics/.")] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Read NVTabular's workflow.pkl, whose origin you know.")
    ] = False,
    memory_limit: _MEMORY = None,
    scheduler: _SCHEDULER = None,
) -> Any:
    """Fit the feature graph on the training rows; or a workflow of your own on your own files."""
    from mews import own_files

    own_files.set_features(session, memory_limit=memory_limit, scheduler=scheduler)
    own_files.all_or_none("etl fit", **{"WORKFLOW": workflow, "--data": data, "--out": out})
    if workflow and data and out:
        session.from_run = False
        return own_files.fit(session, workflow, data, out, trust_pickle)
    return session.bring("fit")["fit"].result


@etl_app.command("update")
@command
def etl_update(
    session: Session,
    data: Annotated[list[str], typer.Option("--data", help="New rows: a file, folder, glob or URL; repeat.")],
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
    from etl import inputs
    from etl.atomic import atomic_folder
    from etl.fit.statistics import Statistics
    from etl.fit.update import Ageing, update
    from etl.graph import FeatureGraph

    folder = graph or session.run.graph
    target = out or session.run.folder / "update"
    for difference in inputs.drift(inputs.find(data)):
        session.terminal.warn(difference)
    with session.terminal.stage("update") as progress:
        done = update(
            FeatureGraph.load(folder),
            Statistics.load(folder.parent / "statistics"),
            data,
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
def etl_transform(
    session: Session,
    graph: Annotated[Path | None, typer.Option("--graph", help="With --data: what etl fit wrote, or a graph.")] = None,
    data: _Data = None,
    out: Annotated[Path | None, typer.Option("--out", help="With --data: the folder for the features.")] = None,
    engine: Annotated[str | None, typer.Option("--engine", help="cpu or gpu.")] = None,
    memory_limit: Annotated[
        str | None, typer.Option("--memory-limit", help="Parts so small that this is enough, e.g. 2GB.")
    ] = None,
    row_group_size: Annotated[int | None, typer.Option("--row-group-size", help="Rows of one row group.")] = None,
    rows_per_file: Annotated[int | None, typer.Option("--rows-per-file", help="Rows of one Parquet part.")] = None,
    shuffle: Annotated[
        int | None, typer.Option("--shuffle", metavar="SEED", help="Shuffle the (training) rows by this seed.")
    ] = None,
) -> Any:
    """Write the features of train, valid and test, or of your own files, as Parquet with a Merlin schema."""
    from mews import own_files

    own_files.set_features(
        session,
        engine=engine,
        memory_limit=memory_limit,
        row_group_size=row_group_size,
        rows_per_file=rows_per_file,
        shuffle=shuffle,
    )
    own_files.all_or_none("etl transform", **{"--graph": graph, "--data": data, "--out": out})
    if graph and data and out:
        session.from_run = False
        return own_files.transform(session, graph, data, out)
    return session.bring("transform")["transform"].result

"""`mews predict`: scores for rows in a file, from a running server or one started for the occasion."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from etl.atomic import atomic_file
from etl.errors import ConfigError, RequestError
from etl.names import ITEM, KNOWN, SCORE
from mews.session import Session, columns
from mews.stages.serving import Protocol, server

_SHOWN_ROWS = 20
_SHOWN_VALUES = 6


def predict(
    session: Session, rows_file: Path, protocol: Protocol, triton_url: str | None, output: Path | None
) -> dict[str, Any]:
    """Score the rows of `rows_file` and print, write or return them; columns a request does not have are left out."""
    from ensemble.client.client import Client
    from ensemble.requests.rows import read_rows

    if output is not None and output.suffix not in _WRITERS:
        raise ConfigError(f"--output {output}", expected=f"a name that ends in {', '.join(_WRITERS)}")
    if not rows_file.is_file():
        raise RequestError(f"--input {rows_file}", expected="a file", received="nothing there")
    name = session.config.export.name
    with _address(session, protocol, triton_url) as url, Client(url, name, protocol=protocol) as client:
        rows = read_rows(rows_file, client.metadata().request, drop_unknown=True)
        made = {spec.name for spec in client.metadata().outputs}
        names = [SCORE, *(name for name in (ITEM, KNOWN) if ITEM in made)]
        answers = client.ask(rows, names).outputs
    scored = rows.with_columns(_series(name, values) for name, values in answers.items())
    if output is not None:
        with atomic_file(output) as temporary:
            _WRITERS[output.suffix](scored, temporary)
        session.terminal.line(f"{scored.height:,} scores in {output}")
    else:
        session.terminal.line(_table(scored))
    found = {"rows": scored.height, "scores": scored[SCORE].to_list()}
    return found | {name: scored[name].to_list() for name in names[1:]}


@contextlib.contextmanager
def _address(session: Session, protocol: Protocol, triton_url: str | None) -> Iterator[str]:
    """The server to ask: the given one, the run's `mews serve`, or an embedded one for this command."""
    if triton_url is not None:
        yield triton_url
        return
    if (running := running_server(session)) is not None:
        yield running[protocol]
        return
    config = session.config
    where = config.serve.triton_url or f"an embedded Triton for {session.run.repository}"
    session.terminal.line(f"[dim]no `mews serve` of this run is up; using {where}[/dim]")
    with server(session.run, config.serve, config.export.name) as urls:
        yield urls[protocol]


def running_server(session: Session) -> dict[str, str] | None:
    """Return the addresses of a `mews serve` of this run, None if none answers."""
    from ensemble.client.client import Client

    try:
        urls: dict[str, str] = json.loads(session.run.serving.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    with Client(urls["http"], session.config.export.name, attempts=1, timeout=2) as client:
        return urls if client.is_ready() else None


def _table(scored: pl.DataFrame) -> Any:
    shown = scored.head(_SHOWN_ROWS)
    first = [name for name in (ITEM, SCORE, KNOWN) if name in shown.columns]
    shown = shown.select(*first, pl.exclude(first))
    cells = [[_cell(value) for value in row] for row in shown.rows()]
    more = f"{scored.height:,} rows, the first {_SHOWN_ROWS}" if scored.height > _SHOWN_ROWS else ""
    return columns(cells, *shown.columns, title=more)


def _series(name: str, values: Any) -> pl.Series:
    """An output as a column: of numbers, or of lists where each row has several."""
    if values.dtype == object:  # strings, as a client returns them
        texts = [[one.decode() if isinstance(one, bytes) else str(one) for one in row] for row in values]
        return pl.Series(name, texts, dtype=pl.List(pl.String))
    return pl.Series(name, values.reshape(-1) if values.size == len(values) else values.tolist())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return "|".join(_cell(one) for one in value[:_SHOWN_VALUES]) + ("|..." if len(value) > _SHOWN_VALUES else "")
    return str(value)


def _write_csv(scored: pl.DataFrame, target: Path) -> None:
    lists = [name for name, kind in scored.schema.items() if isinstance(kind, pl.List)]
    joined = [pl.col(name).cast(pl.List(pl.String)).list.join("|") for name in lists]
    scored.with_columns(joined).write_csv(target)


_WRITERS: dict[str, Callable[[pl.DataFrame, Path], None]] = {
    ".csv": _write_csv,
    ".json": lambda scored, target: scored.write_json(target),
    ".parquet": lambda scored, target: scored.write_parquet(target),
}

"""SQLite files that others' libraries write: looked at before they are opened for work, so that a broken one stays."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from etl.errors import ArtifactError


def check(path: Path, what: str, table: str) -> None:
    """ArtifactError when the file `path` is broken, or holds other tables than the one called `table`.

    No file, and an empty one, are fine. A transaction that a killed process left open is rolled back.
    """
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=rw", uri=True, timeout=30)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        found, tables = str(error), set()
    if found == "ok" and tables and table not in tables:
        found = f"tables {', '.join(sorted(tables)[:3])}"
    elif found == "ok":
        return
    raise ArtifactError(
        f"{what} {path}",
        expected=f"a whole SQLite file with a table {table!r}",
        received=found,
        hint="Nothing in it was changed. Restore it from a copy, or move it away to begin a new one.",
    )

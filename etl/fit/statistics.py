"""Statistics: merged tables before they are finished, kept so that new rows can be added without the old ones.

On disk: `statistics.json` (format, version, fingerprint of the unfitted graph, rows, updates, files with digests) and
one Parquet file for each table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from etl.atomic import atomic_folder
from etl.errors import ArtifactError
from etl.graph import digest

FORMAT = "mews-statistics"
VERSION = 1
_HINT = "Fit again on all of the data, or copy the folder again."

Tables = Mapping[tuple[str, str], pl.DataFrame]


@dataclass(frozen=True, eq=False)
class Statistics:
    """What fit merged: `tables` by (node, key), of `rows` rows added in `updates` steps.

    `fingerprint` is that of the unfitted graph. `seen` says, for vocabularies that were updated, in which step each
    value was seen last (columns of keys, `last_seen`); a value that is not there was last seen in step 1.
    """

    fingerprint: str
    rows: int
    updates: int
    tables: Tables
    seen: Tables

    def save(self, folder: Path) -> None:
        """Write to `folder`, which is replaced as a whole."""
        with atomic_folder(folder) as temporary:
            files: list[dict[str, str]] = []
            for kind in ("tables", "seen"):
                for (node, key), table in getattr(self, kind).items():
                    name = f"{kind}.{len(files)}.parquet"  # a number: a column may have a name no file system takes
                    table.write_parquet(temporary / name, compression="zstd", statistics=False)
                    files.append({"kind": kind, "node": node, "key": key, "file": name, "digest": digest_of(table)})
            document = {
                "format": FORMAT,
                "version": VERSION,
                "fingerprint": self.fingerprint,
                "rows": self.rows,
                "updates": self.updates,
                "files": files,
            }
            text = json.dumps(document, indent=1, ensure_ascii=False)
            (temporary / "statistics.json").write_text(text, encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Statistics:
        """Read the statistics in `folder`; ArtifactError if a file is missing, changed, truncated or not ours."""
        document = _read_json(folder / "statistics.json")
        found: dict[str, dict[tuple[str, str], pl.DataFrame]] = {"tables": {}, "seen": {}}
        try:
            if (document["format"], document["version"]) != (FORMAT, VERSION):
                raise ValueError(f"it is {document['format']!r} version {document['version']!r}")
            for entry in document["files"]:
                table = _read_table(folder, str(entry["file"]), str(entry["digest"]))
                found[entry["kind"]][str(entry["node"]), str(entry["key"])] = table
            fingerprint, rows, updates = str(document["fingerprint"]), int(document["rows"]), int(document["updates"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{folder / 'statistics.json'} is not Mews' statistics: {error}", hint=_HINT) from error
        return Statistics(fingerprint, rows, updates, found["tables"], found["seen"])


def digest_of(table: pl.DataFrame) -> str:
    """Return a digest of a table's content; the types that states do not have are taken as text."""
    wide = [name for name, dtype in table.schema.items() if dtype == pl.Int128 or dtype.is_nested()]
    return digest(table.with_columns(_as_text(table[name]) for name in wide))


def _as_text(series: pl.Series) -> pl.Series:
    if series.dtype == pl.Int128:
        return series.cast(pl.String)
    return pl.Series(series.name, [None if value is None else repr(value) for value in series.to_list()], pl.String)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", hint=_HINT) from error
    if not isinstance(document, dict):
        raise ArtifactError(str(path), expected="a JSON object", received=type(document).__name__, hint=_HINT)
    return document


def _read_table(folder: Path, file: str, expected: str) -> pl.DataFrame:
    path = folder / file
    if path.name != file:
        raise ArtifactError(f"statistics file {file!r}", expected=f"a file in {folder}", received=file)
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", hint=_HINT) from error
    if digest_of(table) != expected:
        raise ArtifactError(str(path), expected=f"content {expected}", received="other content", hint=_HINT)
    return table

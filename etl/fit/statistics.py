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
from etl.untrusted import read_json, read_table, typed

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
        document = read_json(folder / "statistics.json", _HINT)
        try:
            if (document["format"], document["version"]) != (FORMAT, VERSION):
                raise ValueError(f"it is {document['format']!r} version {document['version']!r}")
            fingerprint = typed(document["fingerprint"], str, "fingerprint")
            rows, updates = (_counted(document[name], name) for name in ("rows", "updates"))
            entries = [_entry(value) for value in typed(document["files"], list, "files")]
            found: dict[str, dict[tuple[str, str], pl.DataFrame]] = {"tables": {}, "seen": {}}
            for entry in entries:
                place = (entry["node"], entry["key"])
                if place in found[entry["kind"]]:
                    raise ValueError(f"files: {place} twice")
                found[entry["kind"]][place] = _read_table(folder, entry)
        except (KeyError, TypeError, ValueError) as error:
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


def _counted(value: Any, name: str) -> int:
    """Return a number of rows or of updates; ValueError for what is none."""
    number: int = typed(value, int, name)
    if not 0 <= number < 2**63:
        raise ValueError(f"{name}: expected a number of them, received {number}")
    return number


def _entry(value: Any) -> dict[str, str]:
    """Return what is said of one file, every value a text."""
    entry = typed(value, dict, "file")
    return {name: typed(entry[name], str, name) for name in ("kind", "node", "key", "file", "digest")}


def _read_table(folder: Path, entry: Mapping[str, str]) -> pl.DataFrame:
    table = read_table(folder, entry["file"], "statistics file", _HINT)
    if digest_of(table) != entry["digest"]:
        expected = f"content {entry['digest']}"
        raise ArtifactError(str(folder / entry["file"]), expected=expected, received="other content", hint=_HINT)
    return table

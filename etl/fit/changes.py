"""What an update changed, as a folder: `changes.json`, and Parquet of the values that came and went."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from etl.atomic import atomic_folder
from etl.graph import FeatureGraph


@dataclass(frozen=True, eq=False)
class VocabularyChange:
    """One vocabulary before and after.

    Sizes are numbers of codes: an embedding table grows from `old_size` to `new_size` rows. `appended`, `aged_out` and
    `returned` hold columns of keys, `count` and `code` (int64); `left_out` counts values that max_size had no room for.
    """

    node: str
    key: str
    old_size: int
    new_size: int
    appended: pl.DataFrame
    aged_out: pl.DataFrame
    returned: pl.DataFrame
    left_out: int

    @staticmethod
    def of(
        node: str, key: str, before: pl.DataFrame, after: pl.DataFrame, first: int, left_out: int
    ) -> VocabularyChange:
        """Compare two states of a vocabulary whose first row has the code `first`."""
        then, now = _active(before), _active(after)
        coded = after.drop("active", strict=False).with_row_index("code", offset=first)
        coded = coded.select(pl.exclude("code"), pl.col("code").cast(pl.Int64))
        old = coded.head(before.height)
        kept = now.head(before.height)
        return VocabularyChange(
            node=node,
            key=key,
            old_size=first + before.height,
            new_size=first + after.height,
            appended=coded.slice(before.height),
            aged_out=old.filter(then & ~kept),
            returned=old.filter(~then & kept),
            left_out=left_out,
        )


@dataclass(frozen=True, eq=False)
class Changes:
    """What an update changed: rows, vocabularies, and per column its moments or range before and after."""

    new_rows: int
    rows: int
    vocabularies: list[VocabularyChange]
    columns: list[dict[str, Any]]

    def describe(self) -> dict[str, Any]:
        """Return everything but the values as JSON."""
        return {
            "new_rows": self.new_rows,
            "rows": self.rows,
            "vocabularies": [
                {
                    "node": each.node,
                    "vocabulary": each.key,
                    "old_size": each.old_size,
                    "new_size": each.new_size,
                    "appended": each.appended.height,
                    "aged_out": each.aged_out.height,
                    "returned": each.returned.height,
                    "left_out": each.left_out,
                    "files": {kind: f"{kind}.{number}.parquet" for kind in ("appended", "aged_out", "returned")},
                }
                for number, each in enumerate(self.vocabularies)
            ],
            "columns": self.columns,
        }

    def save(self, folder: Path) -> None:
        """Write to `folder`, which is replaced as a whole."""
        with atomic_folder(folder) as temporary:
            for number, each in enumerate(self.vocabularies):
                for kind in ("appended", "aged_out", "returned"):
                    getattr(each, kind).write_parquet(temporary / f"{kind}.{number}.parquet", compression="zstd")
            text = json.dumps(self.describe(), indent=1, ensure_ascii=False)
            (temporary / "changes.json").write_text(text, encoding="utf-8")


def moments_of(before: FeatureGraph, after: FeatureGraph) -> list[dict[str, Any]]:
    """Return, for each column of the tables `moments` and `ranges`, its numbers before and after."""
    found = []
    for old, new in zip(before.nodes, after.nodes, strict=True):
        for key in ("moments", "ranges"):
            if key in (new.state or {}) and "column" in (new.state or {})[key].columns:
                then, now = _by_column(old.state, key), _by_column(new.state, key)
                found += [
                    {"node": new.id, "column": name, "before": then.get(name), "after": now[name]} for name in now
                ]
    return found


def _by_column(state: Any, key: str) -> dict[str, dict[str, Any]]:
    rows = (state or {})[key].iter_rows(named=True)
    return {row["column"]: {name: _json(value) for name, value in row.items() if name != "column"} for row in rows}


def _json(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _active(table: pl.DataFrame) -> pl.Series:
    return table["active"] if "active" in table.columns else pl.repeat(True, table.height, eager=True)

"""Dividing rows into train, valid and test: by time, the last of every user, or at random. Row order is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from etl.atomic import write_text
from etl.config import SplitConfig
from etl.errors import ArtifactError, ConfigError, DataError
from etl.progress import Progress, silent
from etl.sources.dataset import DRAWN, Dataset
from etl.sources.parts import PartWriter, batches, new_folder
from etl.sources.quantiles import boundary

NAMES = ("train", "valid", "test")
_EPOCH = datetime(1970, 1, 1)

Codes = NDArray[np.int8]
Chooser = Callable[[pl.DataFrame, int], Codes]
"""(rows, number of the first one) -> 0 train, 1 valid, 2 test for each row."""


@dataclass(frozen=True)
class Splits:
    """Three datasets; `by` is how they were divided and `boundaries` where (first timestamp of valid and of test)."""

    by: str
    train: Dataset
    valid: Dataset
    test: Dataset
    boundaries: Mapping[str, Any]

    @property
    def parts(self) -> dict[str, Dataset]:
        """The three by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}

    def to_json(self) -> dict[str, Any]:
        """What `split.json` holds."""
        rows = {name: part.rows for name, part in self.parts.items()}
        return {"format": 1, "by": self.by, "rows": rows, "boundaries": dict(self.boundaries)}

    def save(self, folder: Path) -> None:
        """Write `split.json` into `folder`."""
        write_text(folder / "split.json", json.dumps(self.to_json(), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Splits:
        """Read what `split` wrote to `folder`; ArtifactError if it is not there or not whole."""
        try:
            record = json.loads((folder / "split.json").read_text(encoding="utf-8"))
            by, boundaries = record["by"], record["boundaries"]
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(f"splits {folder}", expected="split.json", received=str(error)) from error
        train, valid, test = (Dataset.load(folder / name) for name in NAMES)
        return cls(by, train, valid, test, boundaries)


def split(dataset: Dataset, config: SplitConfig, out: Path, seed: int, progress: Progress = silent) -> Splits:
    """Divide `dataset` (clean rows) into out/train, out/valid and out/test, whole or not at all.

    A source without a timestamp may state how it is divided in its facts ("split"); else `by: time` is a ConfigError.
    DataError if a part would be empty.
    """
    if config.valid + config.test >= 1:
        raise ConfigError(
            "split.valid + split.test", expected="less than 1", received=f"{config.valid + config.test:g}"
        )
    by = _method(dataset, config)
    choose, boundaries = _METHODS[by](dataset, config, seed)
    with new_folder(out) as folder:
        writers = [PartWriter(folder / name) for name in NAMES]
        start = 0
        for batch in batches(dataset.files):
            codes = choose(batch, start)
            for code, writer in enumerate(writers):
                writer.write(batch.filter(pl.Series(codes == code)))
            start += batch.height
            progress("split", start, dataset.rows, "rows")
        for name, writer in zip(NAMES, writers, strict=True):
            _refuse_empty(name, writer.rows, by, dataset)
            Dataset(dataset.name, dataset.columns, writer.close(), writer.rows, dataset.facts).save(folder / name)
        Splits(by, boundaries=boundaries, **{name: Dataset.load(folder / name) for name in NAMES}).save(folder)
    return Splits.load(out)


def _method(dataset: Dataset, config: SplitConfig) -> str:
    stated = dataset.facts.get("split")
    if config.by == "time" and dataset.only("timestamp") is None:
        if stated is None:
            raise ConfigError(
                "split.by: time",
                expected="a column with the role timestamp",
                hint="Set `split: {by: random}` in the config.",
            )
        return str(stated)
    if config.by == "last-per-user" and dataset.only("user") is None:
        raise ConfigError(
            "split.by: last-per-user", expected="a column with the role user", hint="Set `split: {by: random}`."
        )
    return config.by


def _refuse_empty(name: str, rows: int, by: str, dataset: Dataset) -> None:
    if not rows:
        hint = {
            "time": "Too many rows share one timestamp; use `by: random`.",
            "last-per-user": "Users need 3 rows or more.",
        }.get(by, "There are too few rows.")
        raise DataError(f"the {name} part of {dataset.name!r}", expected="rows", received="none", hint=hint)


def _by_time(dataset: Dataset, config: SplitConfig, seed: int) -> tuple[Chooser, dict[str, Any]]:
    column = dataset.only("timestamp") or ""
    first_valid = boundary(dataset.files, column, 1 - config.valid - config.test)
    first_test = boundary(dataset.files, column, 1 - config.test)

    def choose(rows: pl.DataFrame, start: int) -> Codes:
        times = rows[column].to_physical().to_numpy()
        return np.asarray((times >= first_valid).astype(np.int8) + (times >= first_test).astype(np.int8))

    is_datetime = any(c.name == column and c.dtype == "datetime" for c in dataset.columns)
    shown = [_readable(value) if is_datetime else value for value in (first_valid, first_test)]
    return choose, {"column": column, "valid": shown[0], "test": shown[1]}


def _readable(microseconds: int) -> str:
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()


def _last_per_user(dataset: Dataset, config: SplitConfig, seed: int) -> tuple[Chooser, dict[str, Any]]:
    """The last row of users with 3 rows or more is test, the one before it valid; memory grows with the users."""
    if dataset.facts.get(DRAWN):
        return _last_positive(dataset)
    user, time = dataset.only("user"), dataset.only("timestamp")
    order = ([pl.col(time)] if time else []) + [pl.col("__row")]
    rows = dataset.scan().with_row_index("__row").filter(pl.col(user or "").is_not_null())
    last = rows.group_by(user or "").agg(pl.col("__row").top_k_by(order, 2).alias("__last"), pl.len().alias("__rows"))
    found = last.filter(pl.col("__rows") >= 3).select(
        pl.col("__last").list.get(0).alias("test"), pl.col("__last").list.get(1).alias("valid")
    )
    held = found.collect(engine="streaming")
    test, valid = (np.sort(held[name].to_numpy()) for name in ("test", "valid"))

    def choose(frame: pl.DataFrame, start: int) -> Codes:
        codes = np.zeros(frame.height, np.int8)
        for code, numbers in ((1, valid), (2, test)):
            low, high = np.searchsorted(numbers, [start, start + frame.height])
            codes[numbers[low:high].astype(np.int64) - start] = code
        return codes

    return choose, {"column": user, "users": held.height}


def _last_positive(dataset: Dataset) -> tuple[Chooser, dict[str, Any]]:
    """Rows from a user's last positive on are test, those from the one before it on valid; rows are in time order."""
    user, row, label = dataset.only("user") or "", pl.col("__row"), pl.col(dataset.label or "")
    rows = dataset.scan().with_row_index("__row").filter(pl.col(user).is_not_null(), label == 1)
    last = rows.group_by(user).agg(row.top_k(2).sort(descending=True).alias("__last"), pl.len().alias("__rows"))
    held = (
        last.filter(pl.col("__rows") >= 3)
        .select(user, test=pl.col("__last").list.get(0), valid=pl.col("__last").list.get(1))
        .collect(engine="streaming")
    )

    def choose(frame: pl.DataFrame, start: int) -> Codes:
        numbered = frame.select(user).with_row_index("__row", offset=start)
        begins = numbered.join(held, on=user, how="left", maintain_order="left")
        code = (row >= pl.col("valid")).cast(pl.Int8) + (row >= pl.col("test")).cast(pl.Int8)
        return np.asarray(begins.select(code.fill_null(0)).to_series().to_numpy())

    return choose, {"column": user, "users": held.height}


def _at_random(dataset: Dataset, config: SplitConfig, seed: int) -> tuple[Chooser, dict[str, Any]]:
    def choose(rows: pl.DataFrame, start: int) -> Codes:
        share = uniform(np.arange(start, start + rows.height, dtype=np.uint64), seed)
        return np.asarray(
            (share >= 1 - config.valid - config.test).astype(np.int8) + (share >= 1 - config.test).astype(np.int8)
        )

    return choose, {"seed": seed}


def uniform(numbers: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each row number: SplitMix64 (Steele, Lea, Flood 2014), the same however rows are
    partitioned.
    """
    begin = np.uint64((seed * 0xD1342543DE82EF95 + 1) % 2**64)
    mixed = (numbers + begin) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) / float(2**53)


_METHODS: dict[str, Callable[[Dataset, SplitConfig, int], tuple[Chooser, dict[str, Any]]]] = {
    "time": _by_time,
    "last-per-user": _last_per_user,
    "random": _at_random,
}

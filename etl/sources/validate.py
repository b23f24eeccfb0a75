"""Validation: every row is looked at before anything is computed from it.

One streaming pass writes the good rows to `clean/` in their declared types and the others to `quarantine.parquet`, with
the reason and the row number (from 0). When a check fails `clean/` is not kept; the report and the quarantine always
are.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from etl.config import ValidationConfig
from etl.progress import Progress, silent
from etl.sources.cells import comparable
from etl.sources.dataset import DataColumn, Dataset, closest
from etl.sources.duplicates import Fingerprints
from etl.sources.parts import PartWriter, batches, new_folder, parquet_schema
from etl.sources.quarantine import EXTRA, divide, write_quarantine
from etl.sources.report import Check, Status, ValidationReport, worst
from etl.sources.split import Splits


def validate(dataset: Dataset, config: ValidationConfig, out: Path, progress: Progress = silent) -> ValidationReport:
    """Check `dataset` and write validation.json, quarantine.parquet and, if no check failed, clean/ to `out`.

    Does not raise for bad data: call `raise_if_failed` on the report. DataError if a file cannot be read; then nothing
    is written.
    """
    structure = tuple(_structure(dataset, config))
    seen = Seen.of(dataset)
    with new_folder(out) as folder:
        good, bad = PartWriter(folder / "clean"), PartWriter(folder / "bad")
        if worst(structure) != "FAIL":
            _sort_rows(dataset, seen, good, bad, progress)
        checks = structure + (tuple(_content(dataset, config, seen)) if worst(structure) != "FAIL" else ())
        write_quarantine(bad, folder / "quarantine.parquet")
        shutil.rmtree(folder / "bad")
        report = ValidationReport(dataset.name, checks, seen.rows, seen.quarantined, seen.reasons, out)
        if report.status == "FAIL":
            shutil.rmtree(folder / "clean")
        else:
            Dataset(dataset.name, dataset.columns, good.close(), good.rows, dataset.facts).save(folder / "clean")
        text = json.dumps(report.to_json(), indent=2, ensure_ascii=False)
        (folder / "validation.json").write_text(text + "\n", encoding="utf-8")
    return ValidationReport.load(out)


def check_splits(splits: Splits, config: ValidationConfig, progress: Progress = silent) -> list[Check]:
    """Look for training rows in valid and test, for time that overlaps, and for a split whose label has one class."""
    train = splits.train
    columns = [column.name for column in train.columns if column.role != "label"]
    has_key = any(train.only(role) for role in ("user", "item", "timestamp"))
    expected = train.rows + splits.valid.rows + splits.test.rows
    marks = {name: Fingerprints(columns, expected) for name in splits.parts}
    seen = {name: Seen.of(part) for name, part in splits.parts.items()}
    done = 0
    for name, part in splits.parts.items():
        for batch in batches(part.files):
            marks[name].add(batch)
            seen[name].take(batch)
            done += batch.height
            progress("check splits", done, expected, "rows")
    found = [_leakage(name, marks[name].share_in(marks["train"]), config, has_key) for name in ("valid", "test")]
    if train.only("timestamp"):
        found.append(_time_overlap(splits, seen))
    for label in train.labels:
        found += [_classes(label, seen[name], f"{name} label classes") for name in splits.parts]
    return found


@dataclass
class Seen:
    """What a pass over the rows gathers; memory does not grow with the rows."""

    columns: tuple[DataColumn, ...]
    keys: Fingerprints
    rows: int = 0
    quarantined: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    nulls: Counter[str] = field(default_factory=Counter)
    labels: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    backwards: int = 0
    first: object = None
    last: object = None
    _previous: object = None

    @classmethod
    def of(cls, dataset: Dataset) -> Seen:
        """Nothing seen yet of `dataset`."""
        names = dataset.only("user"), dataset.only("item"), dataset.only("timestamp")
        keys = [name for name in names if name]
        whole = [column.name for column in dataset.columns if column.role != "label"]
        has_key = dataset.only("user") is not None and dataset.only("item") is not None
        return cls(dataset.columns, Fingerprints(keys if has_key else whole, dataset.rows))

    def take(self, good: pl.DataFrame) -> None:
        """Take in rows that are in the declared types."""
        if not good.height:
            return
        self.keys.add(good)
        self.nulls.update(dict(zip(good.columns, good.null_count().row(0), strict=True)))
        for column in self.columns:
            if column.role == "label":
                values = good[column.name].cast(pl.Int8).value_counts()
                self.labels[column.name].update(dict(zip(values[column.name], values["count"], strict=True)))
            if column.role == "timestamp":
                self._take_times(good[column.name])

    def _take_times(self, times: pl.Series) -> None:
        self.backwards += int((times.to_physical().cast(pl.Float64).diff() < 0).sum())
        low, high = times.min(), times.max()
        previous = self._previous
        self.backwards += int(previous is not None and times[0] < previous)
        self.first = low if self.first is None else min(self.first, low)  # type: ignore[call-overload]
        self.last = high if self.last is None else max(self.last, high)  # type: ignore[call-overload]
        self._previous = times[-1]

    @property
    def good(self) -> int:
        """Rows that were not refused."""
        return self.rows - self.quarantined


def _sort_rows(dataset: Dataset, seen: Seen, good: PartWriter, bad: PartWriter, progress: Progress) -> None:
    names = [column.name for column in dataset.columns]
    progress("validate", 0, dataset.rows, "rows")
    for path in dataset.files:
        present = [*names, EXTRA] if EXTRA in parquet_schema(path) else names
        for batch in batches([path], present):
            divided = divide(batch, dataset.columns, seen.rows)
            seen.rows += batch.height
            seen.quarantined += divided.bad.height
            seen.reasons += divided.reasons
            seen.take(divided.good)
            good.write(divided.good)
            bad.write(divided.bad)
            progress("validate", seen.rows, dataset.rows, "rows")


def _structure(dataset: Dataset, config: ValidationConfig) -> Iterator[Check]:
    """Checks that need no row: are the columns there, and can their types be what is declared."""
    declared = {column.name: column for column in dataset.columns}
    failed = False
    for path in dataset.files:
        stored = parquet_schema(path)
        for name in declared:
            if name not in stored:
                failed = True
                yield Check("columns", name, "FAIL", f"missing from {path.name}. {closest(name, stored)}")
    if failed:
        return
    yield Check("columns", None, "PASS", f"all {len(declared)} are there")
    for path in dataset.files:
        wrong = [c for c in dataset.columns if not comparable(parquet_schema(path)[c.name], c)]
        for column in wrong:
            kind = parquet_schema(path)[column.name]
            wanted = f"list of {column.dtype}" if column.is_list else column.dtype
            yield Check("type", column.name, "FAIL", f"{kind} in {path.name} cannot be {wanted}")
    unknown = sorted({name for path in dataset.files for name in parquet_schema(path)} - set(declared) - {EXTRA})
    if unknown and config.unknown_columns != "ignore":
        status: Status = "FAIL" if config.unknown_columns == "fail" else "WARN"
        yield Check("unknown columns", None, status, f"not declared, not used: {', '.join(unknown)}")


def _content(dataset: Dataset, config: ValidationConfig, seen: Seen) -> Iterator[Check]:
    if not seen.rows:
        yield Check("rows", None, "FAIL", "there are none")
        return
    yield Check("rows", None, "PASS", f"{seen.rows:,}")
    yield _malformed(config, seen)
    if not seen.good:
        return
    for column in dataset.columns:
        yield _values(column, seen)
        yield _nulls(column, seen, config)
    for label in dataset.labels:
        yield _classes(label, seen, "label classes")
        yield _balance(label, seen, config)
    yield _repeated(seen, config)
    timestamp = dataset.only("timestamp")
    if timestamp:
        status: Status = "WARN" if seen.backwards else "PASS"
        detail = f"{seen.first} to {seen.last}" + (f", {seen.backwards:,} steps back" if seen.backwards else "")
        yield Check("time order", timestamp, status, detail)


def _malformed(config: ValidationConfig, seen: Seen) -> Check:
    share = seen.quarantined / seen.rows
    reasons = ", ".join(f"{reason} ({count:,})" for reason, count in seen.reasons.most_common(5))
    detail = f"{seen.quarantined:,} of {seen.rows:,} rows ({share:.2%})" + (f": {reasons}" if reasons else "")
    if share > config.max_bad_rows:
        return Check("malformed rows", None, "FAIL", f"{detail}; at most {config.max_bad_rows:.2%} are allowed")
    return Check("malformed rows", None, "WARN" if seen.quarantined else "PASS", detail)


def _values(column: DataColumn, seen: Seen) -> Check:
    mine = {reason: count for reason, count in seen.reasons.items() if reason.startswith(f"{column.name} ")}
    kind = f"list of {column.dtype}" if column.is_list else column.dtype
    if not mine:
        return Check("values", column.name, "PASS", kind)
    return Check("values", column.name, "WARN", ", ".join(f"{reason} in {n:,} rows" for reason, n in mine.items()))


def _nulls(column: DataColumn, seen: Seen, config: ValidationConfig) -> Check:
    rate = seen.nulls[column.name] / seen.good
    if rate == 1.0:
        return Check("nulls", column.name, "WARN" if column.role == "ignore" else "FAIL", "nothing but nulls")
    return Check("nulls", column.name, "WARN" if rate > config.max_null_rate else "PASS", f"{rate:.2%}")


def _classes(label: str, seen: Seen, name: str) -> Check:
    found = {value for value, count in seen.labels[label].items() if count}
    if len(found) < 2:
        only = ", ".join(map(str, found)) or "no value at all"
        return Check(name, label, "FAIL", f"one class only: {only}")
    return Check(name, label, "PASS", "0 and 1")


def _balance(label: str, seen: Seen, config: ValidationConfig) -> Check:
    counts = seen.labels[label]
    share = counts[1] / max(1, sum(counts.values()))
    low = min(share, 1 - share) < config.min_label_share
    return Check("label balance", label, "WARN" if low else "PASS", f"{share:.2%} are 1")


def _repeated(seen: Seen, config: ValidationConfig) -> Check:
    share = seen.keys.repeated_share()
    status: Status = "WARN" if share > config.max_duplicate_rate else "PASS"
    return Check("duplicate keys", None, status, f"{share:.2%} of rows repeat ({', '.join(seen.keys.columns)})")


def _leakage(name: str, share: float, config: ValidationConfig, has_key: bool) -> Check:
    detail = f"{share:.3%} of {name} rows are also in train"
    if share <= config.max_leakage:
        return Check("leakage", None, "PASS", detail)
    if not has_key:  # without a user, an item or a time two different events may look the same
        return Check("leakage", None, "WARN", f"{detail}; they have no key, so they may be alike by chance")
    return Check("leakage", None, "FAIL", f"{detail}; at most {config.max_leakage:.2%} are allowed")


def _time_overlap(splits: Splits, seen: dict[str, Seen]) -> Check:
    ends = [(seen[a].last, seen[b].first) for a, b in (("train", "valid"), ("valid", "test"))]
    overlaps = any(last is not None and first is not None and last >= first for last, first in ends)  # type: ignore[operator]
    if not overlaps:
        return Check("time overlap", None, "PASS", "train ends before valid, valid before test")
    status: Status = "FAIL" if splits.by == "time" else "WARN"
    return Check(
        "time overlap", None, status, f"train holds rows later than some of valid or test (split by {splits.by})"
    )

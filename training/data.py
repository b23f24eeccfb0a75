"""Transformed features on disk: what is read of them, checked and as batches.

A split is a folder of Parquet parts with a Merlin schema, as etl/batch.py writes it, or `to_parquet` of an
`nvtabular.Workflow`'s output. Its files are those of training/parts.py; its columns, as a model sees them, are in
training/inputs.py. All of it can be had from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import ArtifactError, DataError
from training.inputs import HISTORY, Feature, Inputs, history_of, of_side, read_inputs, tagged, tensor_names
from training.parts import fingerprint, parts, rows

if TYPE_CHECKING:
    from training.loader import Loader

__all__ = [
    "HISTORY",
    "Array",
    "Feature",
    "Inputs",
    "batches",
    "check_codes",
    "check_labels",
    "fingerprint",
    "history_of",
    "labels",
    "loader",
    "of_side",
    "parts",
    "read_inputs",
    "rows",
    "tagged",
    "targets",
    "tensor_names",
]

Array = npt.NDArray[Any]


def check_labels(folder: Path, label: str) -> float:
    """Return the share of ones; DataError for an empty split, nulls, values other than 0 and 1, or a single class."""
    counts = dict(pl.scan_parquet(parts(folder)).group_by(label).len().collect().iter_rows())
    where = f"label {label!r} in {folder}"
    if not counts:
        raise DataError(f"split {folder}", expected="rows", received="none")
    if unknown := set(counts) - {0, 1}:
        raise DataError(where, expected="only 0 and 1", received=", ".join(sorted(map(repr, unknown))[:5]))
    if len(counts) < 2:
        raise DataError(
            where,
            expected="both classes",
            received=f"only {next(iter(counts))}",
            hint="Use more rows or another split.",
        )
    return float(counts[1] / sum(counts.values()))


def check_codes(folder: Path, inputs: Inputs) -> None:
    """DataError when a code lies outside its column's embedding table, a value is null or a list has another length."""
    checks = {f"{feature.name}: {what}": bad for feature in inputs.features for what, bad in _faults(feature).items()}
    numbered = [bad.alias(str(number)) for number, bad in enumerate(checks.values())]
    found = pl.scan_parquet(parts(folder)).select(numbered).collect().row(0)
    problems = [f"{what} ({count:,})" for what, count in zip(checks, found, strict=True) if count]
    if problems:
        raise DataError(
            f"features in {folder}",
            expected="codes inside each column's domain, finite values, no nulls, padded lists",
            received="; ".join(problems),
            hint="Run `mews etl transform` with the graph that the schema is of.",
        )


def _faults(feature: Feature) -> dict[str, pl.Expr]:
    """What cannot be an input, and how many values are such."""
    column = pl.col(feature.name)
    values = column.explode(empty_as_null=False) if feature.length else column
    found = {"nulls": values.is_null().sum()}
    if feature.categorical:
        outside = (values < 0) | (values >= feature.cardinality)
        found[f"codes outside the table's 0 to {(feature.cardinality or 0) - 1}"] = outside.sum()
    else:
        found["values that are NaN or infinite"] = (~values.is_finite()).sum()
    if feature.length:
        found[f"lists of another length than {feature.length}"] = (column.list.len() != feature.length).sum()
    return found


def loader(
    folder: Path,
    inputs: Inputs,
    batch_size: int,
    seed_fn: Callable[[], int] | None = None,
    label_dtype: str = "float32",
) -> Loader:
    """Batches of a split: ({name: [batch, width]}, labels [batch, 1], a column for each label).

    Where there is a weight column, its values follow as they are: float32 [batch, 1]. With `seed_fn` rows are shuffled
    anew in every pass, by the seed it returns then and nothing else; without it they come in order.
    """
    from training.loader import Loader

    return Loader(folder, inputs, batch_size, seed_fn, label_dtype)


def batches(folder: Path, features: tuple[Feature, ...], size: int = 65_536) -> Iterator[dict[str, Array]]:
    """Yield a split's rows in order, `size` at a time: {name: [rows, width]} in each feature's dtype."""
    names = [feature.name for feature in features]
    for path in parts(folder):
        missing = sorted(set(names) - set(pq.read_schema(path).names))
        if missing:
            raise ArtifactError(
                f"features in {path}", expected=f"columns {', '.join(missing)}", received="none of them"
            )
        for batch in pq.ParquetFile(path).iter_batches(size, columns=names):
            yield {feature.name: _array(batch.column(feature.name), feature) for feature in features}


def _array(column: pa.Array, feature: Feature) -> Array:
    values = column.flatten() if feature.length else column
    made: Array = values.to_numpy(zero_copy_only=False).astype(feature.dtype)
    return made.reshape(len(column), feature.width)


def labels(folder: Path, label: str, dtype: str = "int8") -> Array:
    """The labels of a split in row order, [rows]."""
    return pl.scan_parquet(parts(folder)).select(label).collect().to_series().to_numpy().astype(dtype)


def targets(folder: Path, inputs: Inputs) -> Array:
    """What a split's answers are judged by: the label as `labels` reads it, or [rows, labels] of several."""
    if not inputs.others:
        return labels(folder, inputs.label, "int64" if history_of(inputs) else "int8")
    return np.stack([labels(folder, name) for name in inputs.labels], axis=1)

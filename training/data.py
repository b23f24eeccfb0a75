"""Transformed features on disk: their schema, fingerprint and rows.

A split is a folder of Parquet parts with a Merlin schema, as etl/batch.py writes it, or `to_parquet` of an
`nvtabular.Workflow`'s output.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import ArtifactError, ConfigError, DataError
from etl.names import FINGERPRINT, SAMPLE_WEIGHT
from training.tensorflow import merlin_models

if TYPE_CHECKING:
    from merlin.schema import ColumnSchema, Schema

    from training.loader import Loader

Array = npt.NDArray[Any]
_TARGETS = {"target", "binary_classification", "regression"}
HISTORY = "history"
"""The list of the item codes that a user chose before, where features have one."""


@dataclass(frozen=True)
class Feature:
    """One input of a model: int64 codes of a categorical column or float32 values of a continuous one.

    `length` is that of a padded list ([batch, length], code 0 is padding), None for a scalar ([batch, 1]).
    `cardinality` is the number of codes of a categorical column, None for a continuous one. `stored` is the type that
    the features have it in, where that is another: NVTabular's Normalize makes float64 unless told otherwise.
    """

    name: str
    length: int | None
    cardinality: int | None
    tags: tuple[str, ...] = ()
    stored: str | None = None

    @property
    def categorical(self) -> bool:
        """Whether the column holds codes."""
        return self.cardinality is not None

    @property
    def dtype(self) -> str:
        """int64 or float32."""
        return "int64" if self.categorical else "float32"

    @property
    def given(self) -> str:
        """The type that the features have it in."""
        return self.stored or self.dtype

    @property
    def width(self) -> int:
        """Size of the second dimension: 1 for a scalar."""
        return self.length or 1

    def to_json(self) -> dict[str, Any]:
        """Plain values for training.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Feature:
        """The feature that `to_json` described."""
        return cls(**{**values, "tags": tuple(values["tags"])})


@dataclass(frozen=True)
class Inputs:
    """What a model reads: its features and the label, with the Merlin schema of exactly those columns.

    `others` are further labels, in the order of the columns, for a model that learns several. `folder`
    is the split they were read from, for models that look at all of its rows; None for inputs made by hand. `weight`
    is the column that says how much a row counts in training, which is no feature.
    """

    features: tuple[Feature, ...]
    label: str
    schema: Schema
    rows: int
    others: tuple[str, ...] = ()
    folder: Path | None = None
    weight: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, the first one first."""
        return (self.label, *self.others)


def tagged(features: Sequence[Feature], tag: str) -> Feature | None:
    """The first feature with a Merlin tag such as item_id, None if there is none."""
    # Merlin keeps item_id as the two tags item and id.
    wanted = {tag}, set(tag.split("_"))
    return next((feature for feature in features if any(tags <= set(feature.tags) for tags in wanted)), None)


def of_side(features: Sequence[Feature], side: str) -> tuple[Feature, ...]:
    """The features that belong to the user or to the item alone, by their tags; a `history` list is the user's."""
    return tuple(
        feature
        for feature in features
        if (side == "user" if feature.name == HISTORY else bool({side, f"{side}_id"} & set(feature.tags)))
    )


def history_of(inputs: Inputs) -> Feature | None:
    """The list of codes from the vocabulary of the label, None if there is none."""
    domains = {column.name: column.int_domain for column in inputs.schema}
    learned = domains.get(inputs.label)
    same = [
        feature
        for feature in inputs.features
        if feature.length and learned is not None and domains[feature.name].name == learned.name
    ]
    return same[0] if same else None


def tensor_names(features: Sequence[Feature]) -> dict[str, str]:
    """What each feature is called in a SavedModel: its name, or input_<number> where TensorFlow does not allow that."""
    return {
        feature.name: feature.name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]*", feature.name) else f"input_{number}"
        for number, feature in enumerate(features)
    }


def parts(folder: Path) -> list[Path]:
    """The Parquet files of a split in row order (part_2 before part_10); ArtifactError when there are none."""

    def natural(path: Path) -> list[int | str]:
        return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", path.name)]

    found = sorted(folder.glob("*.parquet"), key=natural)
    if not found:
        raise ArtifactError(
            f"features in {folder}", expected="Parquet files", received="none", hint="Run `mews etl transform`."
        )
    return found


def rows(folder: Path) -> int:
    """Rows of a split, from the Parquet footers."""
    return sum(pq.ParquetFile(path).metadata.num_rows for path in parts(folder))


def fingerprint(*folders: Path) -> str:
    """The fingerprint of the graph that made these splits, "" for features that Mews did not make.

    ArtifactError when parts come from different graphs.
    """
    found: set[str] = {
        (pq.read_metadata(path).metadata or {}).get(FINGERPRINT.encode(), b"").decode()
        for folder in folders
        for path in parts(folder)
    }
    if len(found) > 1:
        shown = ", ".join(sorted(value[:12] or "none" for value in found))
        raise ArtifactError(
            "features", expected="one fingerprint", received=shown, hint="Run `mews etl transform` again."
        )
    return found.pop()


def read_inputs(folder: Path, several: bool = False) -> Inputs:
    """Read a split's Merlin schema; ConfigError lists every column that a model cannot use, and why.

    Of several labels the first one is read, unless `several` are wanted.
    """
    schema = _schema(folder)
    targets = [column.name for column in schema if _tags(column) & _TARGETS]
    if not targets:
        raise ConfigError(
            f"the label in {folder}",
            expected="one column tagged target",
            received="none",
            hint="Give the label's column the role `label`, or tag it with AddMetadata.",
        )
    features, problems = [], []
    for column in schema:
        tags = _tags(column)
        if column.name not in targets and SAMPLE_WEIGHT not in tags and tags & {"categorical", "continuous"}:
            feature, problem = _feature(column)
            features.append(feature)
            problems += [f"{column.name}: {problem}"] if problem else []
    if problems:
        raise ConfigError("features that a model cannot read:\n" + "\n".join(f"  - {problem}" for problem in problems))
    if not features:
        raise ConfigError(
            f"the features in {folder}", expected="columns tagged categorical or continuous", received="none"
        )
    learned = targets if several else targets[:1]
    kept = schema[[feature.name for feature in features] + learned]
    weight = next((column.name for column in schema if SAMPLE_WEIGHT in _tags(column)), None)
    return Inputs(
        tuple(features), targets[0], kept, rows(folder), others=tuple(learned[1:]), folder=folder, weight=weight
    )


def _tags(column: ColumnSchema) -> set[str]:
    return {getattr(tag, "value", tag) for tag in column.tags}  # tags that Merlin does not know are plain strings


def _schema(folder: Path) -> Schema:
    merlin_models()
    from merlin.schema.io.tensorflow_metadata import TensorflowMetadata

    if (folder / ".merlin" / "schema.json").exists():
        return TensorflowMetadata.from_json_file(str(folder / ".merlin")).to_merlin_schema()
    if (folder / "schema.pbtxt").exists():
        return TensorflowMetadata.from_proto_text_file(str(folder)).to_merlin_schema()
    raise ArtifactError(f"features in {folder}", expected=".merlin/schema.json or schema.pbtxt", received="neither")


def _feature(column: ColumnSchema) -> tuple[Feature, str]:
    """The feature, and why a model cannot read it ("" if it can)."""
    tags, length, problem = _tags(column), None, ""
    if column.is_list:
        length = None if column.is_ragged else column.shape.dims[1].max
        if length is None:
            problem = "lists of different lengths; pad them with ListSlice(start, end, pad=True)"
    domain = column.int_domain if "categorical" in tags else None
    if "categorical" not in tags and column.is_list:
        problem = "lists of continuous values are not supported; aggregate them to a scalar"
    if "categorical" in tags and (domain is None or not domain.max):
        problem = problem or "the schema has no largest code (int_domain); encode it with Categorify"
    cardinality = None if "categorical" not in tags else int(domain.max) + 1 if domain else 0
    feature = Feature(column.name, length, cardinality, tuple(sorted(tags)))
    stored = {"boolean": "bool"}.get(column.dtype.name, column.dtype.name)
    return feature if stored in (feature.dtype, "unknown") else replace(feature, stored=stored), problem


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

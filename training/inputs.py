"""What a model reads: its features and labels, as the Merlin schema of a split describes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.errors import ArtifactError, ConfigError
from etl.names import SAMPLE_WEIGHT
from training.parts import rows
from training.tensorflow import merlin_models

if TYPE_CHECKING:
    from merlin.schema import ColumnSchema, Schema

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

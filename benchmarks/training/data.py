"""Rows in the shape of Criteo's click logs as features: codes C1 .. C26, values I1 .. I13 and a label, from a seed.

Every column has the same vocabulary. Codes come as Categorify gives them, 3 being the most frequent value, with
probability about 1 / rank. For dlrm the label is a click that depends on every code and value. For two_tower the
training rows are chosen pairs alone, in which the codes of either side tend to one of eight groups that user and item
have in common; of the held-out rows, half are chosen pairs, the others users with the item of another row.
The folder is what `mews etl transform` would write: Parquet parts with a Merlin schema beside them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.criteo import ranks
from benchmarks.training import CODES, ITEM_CODES, LABEL, USER_CODES, USER_VALUES, VALUES
from etl.atomic import atomic_folder
from etl.progress import Progress, silent
from training.tensorflow import merlin_models

ROWS_PER_PART = 250_000
HELD_OUT = 100_000
_FIRST, _GROUPS = 3, 8
_VERSION = 1

Array = npt.NDArray[Any]


def generate(
    folder: Path,
    model: str,
    vocabulary: int,
    rows: int,
    seed: int = 0,
    held_out: int = HELD_OUT,
    progress: Progress = silent,
) -> Path:
    """Return `folder` with train/, valid/ and shape.json, made only if it is not there yet; memory: that of a part."""
    shape = {"model": model, "vocabulary": vocabulary, "rows": rows, "held_out": held_out, "seed": seed}
    shape |= {"version": _VERSION}
    found = folder / "shape.json"
    if found.exists() and json.loads(found.read_text(encoding="utf-8")) == shape:
        return folder
    with atomic_folder(folder) as made:
        for split, count in (("train", rows), ("valid", held_out)):
            (made / split).mkdir()
            for number, first in enumerate(range(0, count, ROWS_PER_PART)):
                progress(f"{model}, vocabulary {vocabulary:,}", first, count, "rows")
                few = min(ROWS_PER_PART, count - first)
                generator = np.random.default_rng([seed, number, split == "valid"])
                frame = part(generator, model, vocabulary, few, chosen=split == "train")
                frame.write_parquet(made / split / f"part_{number:05d}.parquet", compression="snappy")
            _write_schema(made / split, vocabulary)
        (made / "shape.json").write_text(json.dumps(shape), encoding="utf-8")
    return folder


def part(generator: np.random.Generator, model: str, vocabulary: int, rows: int, chosen: bool) -> pl.DataFrame:
    """Return `rows` rows: C1 .. C26 int64, I1 .. I13 float32, label int8."""
    codes = np.stack([ranks(generator.random(rows), vocabulary) for _ in CODES], 1).astype("int64")
    values = generator.normal(size=(rows, len(VALUES))).astype("float32")
    label = np.ones(rows, "int8")
    if model == "dlrm":
        chance = 1 / (1 + np.exp(1.5 - 0.4 * np.sin(1.7 * codes + np.arange(len(CODES))).sum(1) - 0.2 * values.sum(1)))
        label = (generator.random(rows) < chance).astype("int8")
    else:
        codes = _grouped(generator, codes, vocabulary)
        if not chosen:
            others = np.arange(0, rows, 2)
            codes[others, USER_CODES:] = np.roll(codes[others, USER_CODES:], 1, axis=0)
            values[others, USER_VALUES:] = np.roll(values[others, USER_VALUES:], 1, axis=0)
            label[others] = 0
    codes += _FIRST
    columns = {name: codes[:, at] for at, name in enumerate(CODES)}
    columns |= {name: values[:, at] for at, name in enumerate(VALUES)}
    return pl.DataFrame(columns | {LABEL: label})


def _grouped(generator: np.random.Generator, codes: Array, vocabulary: int) -> Array:
    """Move two of five codes of a row to the nearest ones of the row's group."""
    group = generator.integers(0, _GROUPS, (len(codes), 1))
    moved = np.where(generator.random(codes.shape) < 0.4, codes // _GROUPS * _GROUPS + group, codes)
    return np.minimum(moved, vocabulary - 1)


def _write_schema(folder: Path, vocabulary: int) -> None:
    merlin_models()  # quietly
    from merlin.schema import ColumnSchema, Schema, Tags
    from merlin.schema.io.tensorflow_metadata import TensorflowMetadata

    def code(at: int, name: str) -> Any:
        side = [Tags.USER] if at < USER_CODES else [Tags.ITEM]
        ids = {0: [Tags.USER_ID], USER_CODES: [Tags.ITEM_ID]}.get(at, [])
        domain = {"domain": {"min": 0, "max": vocabulary + _FIRST - 1, "name": name}}
        return ColumnSchema(name, dtype="int64", tags=[Tags.CATEGORICAL, *side, *ids], properties=domain)

    def value(at: int, name: str) -> Any:
        side = Tags.USER if at < USER_VALUES else Tags.ITEM
        return ColumnSchema(name, dtype="float32", tags=[Tags.CONTINUOUS, side])

    assert len(CODES) == USER_CODES + ITEM_CODES
    columns = [code(at, name) for at, name in enumerate(CODES)] + [value(at, name) for at, name in enumerate(VALUES)]
    label = ColumnSchema(LABEL, dtype="int8", tags=[Tags.TARGET, Tags.BINARY_CLASSIFICATION])
    (folder / ".merlin").mkdir()
    written = TensorflowMetadata.from_merlin_schema(Schema([*columns, label]))
    written.to_json_file(str(folder / ".merlin"))

"""Item vectors in two dimensions, coloured by a property of the items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from etl.graph import FeatureGraph
from etl.sources.dataset import DataColumn, Dataset
from mews.compare.ground import Ground

Array = npt.NDArray[Any]
ITEMS, GROUPS = 1_200, 6
"""Items drawn (those with the most training rows), and groups with a colour of their own."""
_OTHER = "others"
_ROWS, _RAW, _WORDS = "__rows", "__raw", "__words"


def vectors_of(recommender: Any, model: Path, ground: Ground) -> Array | None:
    """Return a vector for each item code, [codes, dim]: the item tower's, else the item's embedding table; or None.

    A model of item lists has a vocabulary of its own: items that it does not know are zeros.
    """
    codes = len(ground.cases.candidates)
    if hasattr(recommender, "item_codes"):
        own = _table(model, recommender.item_codes)
        return None if own is None else np.where((recommender.places >= 0)[:, None], own[recommender.places], 0)
    if hasattr(recommender, "vectors"):
        found = np.asarray(recommender.vectors)
        made = np.zeros((codes, found.shape[1]), "float32")
        made[np.flatnonzero(ground.cases.candidates)] = found
        return made
    return _table(model, codes)


def _table(model: Path, codes: int) -> Array | None:
    """Return the one table of the SavedModel with a row for each item code; None if there is not exactly one."""
    from training.tensorflow import tensorflow

    whole = tensorflow().train.load_checkpoint(str(model / "saved_model" / "variables" / "variables"))
    shapes = whole.get_variable_to_shape_map()
    tables = [name for name, shape in shapes.items() if len(shape) == 2 and shape[0] == codes and shape[1] > 1]
    return np.asarray(whole.get_tensor(tables[0])) if len(tables) == 1 else None


def item_map(vectors: Array | None, ground: Ground) -> dict[str, Any] | None:
    """Return {column, groups, explained, points}: points are [x, y, group, what it is]; None where nothing is known.

    The two main axes of the vectors (principal components); `explained` is their share of the variance.
    """
    named = _named(ground) if vectors is not None else None
    if vectors is None or named is None or named.height < 3:
        return None
    column = named.columns[-1]
    counted = named[column].drop_nulls().value_counts(sort=True, name="rows")
    groups = [str(value) for value in counted[column].head(GROUPS)]
    places = {name: place for place, name in enumerate(groups)}
    flat, explained = _flat(vectors[named["code"].to_numpy()])
    points = [
        [round(float(x), 4), round(float(y), 4), places.get(str(group), len(groups)), f"{raw}: {group}"]
        for (x, y), raw, group in zip(flat, named["raw"], named[column], strict=True)
    ]
    return {"column": column, "groups": [*groups, _OTHER], "explained": explained, "points": points}


def _flat(vectors: Array) -> tuple[Array, float]:
    centred = vectors - vectors.mean(0)
    left, sizes, _ = np.linalg.svd(centred.astype("float64"), full_matrices=False)
    total = float((sizes**2).sum())
    return left[:, :2] * sizes[:2], float((sizes[:2] ** 2).sum() / total) if total else 1.0


def _named(ground: Ground) -> pl.DataFrame | None:
    """Return code, raw id and category of the items with the most training rows; None if no category is known."""
    from etl.compiler import to_polars

    dataset = Dataset.load(ground.run.split / "train")
    item, category = dataset.only("item"), _category(dataset)
    if item is None or category is None:
        return None
    words = pl.col(category.name).list.first() if category.is_list else pl.col(category.name)
    rows = pl.scan_parquet(list(dataset.files))
    shown = rows.group_by(item).agg(pl.len().alias(_ROWS), pl.all().last())
    kept = shown.sort([_ROWS, item], descending=[True, False]).head(ITEMS)
    kept = kept.with_columns(pl.col(item).cast(pl.String).alias(_RAW), words.cast(pl.String).alias(_WORDS))
    features = to_polars(FeatureGraph.load(ground.run.graph)).apply(kept, keep=[_RAW, _WORDS])
    found = features.select(code=pl.col(ground.held.pair.item.name), raw=pl.col(_RAW), words=pl.col(_WORDS)).collect()
    return found.filter(pl.col("code") > 2).rename({"words": category.name})


def _category(dataset: Dataset) -> DataColumn | None:
    """Return the first property of items that has words for values."""
    return next(
        (column for column in dataset.columns
         if column.side == "item" and column.dtype == "string" and column.role in ("categorical", "tags")),
        None,
    )  # fmt: skip

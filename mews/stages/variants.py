"""The model in another precision: made at export, judged on the held-out rows, refused when it lost too much."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from etl.errors import ArtifactError
from mews.pipeline import Context
from mews.run import Run

Rows = dict[str, npt.NDArray[Any]]
_RECORD = "variant.json"
# Scores of a precision that takes its ranges from the batch differ between batches too.
_BY_BATCH = ("int8",)


def in_precision(model: Path, context: Context) -> None:
    """Put the configured precision in the place of the graph `model`, whose original becomes <stem>.float32.onnx.

    What it changed is kept in variant.json beside it. MewsError with the figures when AUC on the test rows falls by
    more than export.max_auc_drop; `model` is then as it was.
    """
    from ensemble.graphs.accuracy import change, refuse_if_over, scores
    from ensemble.graphs.external import move_graph
    from ensemble.graphs.variants import variant

    config = context.config.export
    if config.precision == "float32":
        return
    context.progress(f"model as {config.precision}", 0, 2, "steps")
    made = variant(model, config.precision, model_rows(context.run, "valid")[0])
    rows, labels = model_rows(context.run, "test")
    context.progress(f"accuracy of {config.precision}", 1, 2, "steps")
    found = change(labels, scores(model, rows), scores(made, rows))
    refuse_if_over(config.precision, found, config.max_auc_drop)
    move_graph(model, model.with_name(f"{model.stem}.float32.onnx"))
    move_graph(made, model)
    record = {"precision": config.precision, "rows": len(labels), **found.to_json()}
    model.with_name(_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def original(run: Run) -> Path:
    """Return the run's model graph in float32."""
    kept = run.onnx / "model.float32.onnx"
    return kept if kept.exists() else run.onnx / "model.onnx"


def allowed(run: Run) -> float:
    """Return how far a served score may be from the offline one because of the run's precision; 0 for float32."""
    path = run.onnx / _RECORD
    if not path.exists():
        return 0.0
    record = json.loads(path.read_text(encoding="utf-8"))
    return float(record["largest_change"]) * (2 if record["precision"] in _BY_BATCH else 1)


def model_rows(run: Run, part: str) -> tuple[Rows, npt.NDArray[Any]]:
    """Return the model's inputs, [rows, width] by name, and the labels [rows] of train, valid or test."""
    from training import data
    from training.predict import read_features
    from training.train import read_training

    facts = read_training(run.model)
    batches = list(data.batches(run.features(part), read_features(facts)))
    rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    return rows, data.labels(run.features(part), facts["label"])


@contextlib.contextmanager
def precomputed(run: Run) -> Iterator[tuple[Mapping[str, tuple[Path, Rows]], Mapping[str, str]]]:
    """Yield the run's model with what follows from the item alone as tables, by name, with the rows it reads.

    The item is the feature tagged item_id; its features are those that have one value for each item in all parts of the
    data. Nothing is yielded where there is none. The second mapping has the reason why a model has no such part: a
    model with one table for all columns, such as dlrm, looks everything up by itself already.
    """
    import onnx

    from ensemble.graphs.tables import tabulate
    from training import data
    from training.predict import read_features
    from training.train import read_training

    item = data.tagged(read_features(read_training(run.model)), "item_id")
    if item is None or item.length is not None or not item.cardinality:
        yield {}, {}
        return
    rows, _ = model_rows(run, "test")
    features = _follow_from(item.name, item.cardinality, [model_rows(run, "train")[0], rows])
    others = {name: values for name, values in rows.items() if name not in features}
    with tempfile.TemporaryDirectory(prefix="mews-tables-") as folder:
        name, target = f"{item.name} table", Path(folder, "model.onnx")
        try:
            made = tabulate(onnx.load(original(run)), item.name, features, others)
        except ArtifactError as error:
            yield {}, {name: str(error)}
            return
        onnx.save(made, target)
        yield {name: (target, rows)}, {}


def _follow_from(entity: str, ids: int, parts: list[Rows]) -> Rows:
    """Return the inputs that have one value for each id, [ids, width]; zeros for ids that no row has."""
    found = {}
    for name in parts[0]:
        values = np.concatenate([part[name] for part in parts])
        codes = np.concatenate([part[entity] for part in parts])[:, 0]
        table = np.zeros((ids, values.shape[1]), values.dtype)
        table[codes] = values
        if np.array_equal(table[codes], values):
            found[name] = table
    return {**found, entity: np.arange(ids, dtype=np.int64).reshape(-1, 1)}

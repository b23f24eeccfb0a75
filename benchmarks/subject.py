"""What a serving benchmark serves: a model of Criteo's shape, made without training, and its export in every shape.

26 categorical and 13 continuous columns (criteo.py), vocabularies of at most V values a column, a small DLRM. Its
weights are random, but wide enough that scores differ from row to row, or equal answers would say little. Rows are made
without nulls, for Merlin Systems has no way to say them: known values by Zipf's law, 5% unknown ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.criteo import CARDINALITIES, CATEGORICAL, CONTINUOUS, identifiers, ranks
from ensemble.config import ExportConfig
from ensemble.requests.encode import encode
from ensemble.spec import RequestSchema
from etl.atomic import atomic_folder
from etl.errors import ConfigError
from etl.graph import FeatureGraph

if TYPE_CHECKING:
    from training.inputs import Inputs

VOCABULARIES = {"1k": 1_000, "10k": 10_000, "100k": 100_000, "1m": 1_000_000}
ROWS = 4_096
DIM, BOTTOM, TOP = 8, [32, 8], [32, 16]
_VERSION = 1
_SPREAD = 20.0  # Merlin's tables begin between -0.05 and 0.05
_UNKNOWN = 0.05


@dataclass(frozen=True)
class Subject:
    """One shape: the fitted graph without a label, and the files that peers and exports are made of.

    `model` holds training.json and the SavedModel, `onnx` workflow.onnx and model.onnx.
    """

    name: str
    graph: FeatureGraph
    model: Path
    onnx: Path
    rows: Path


def vocabularies(text: str) -> list[str]:
    """Return the names in "1k,100k"; ConfigError for others."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    if not names or (unknown := [name for name in names if name not in VOCABULARIES]):
        received = ", ".join(unknown) if names else repr(text)
        raise ConfigError("--vocabulary", expected=f"some of {', '.join(VOCABULARIES)}", received=received)
    return names


def criteo(vocabulary: int, name: str, folder: Path) -> Subject:
    """Return the model of Criteo's shape in `folder`; made only if it is not there yet."""
    wanted = {"version": _VERSION, "vocabulary": vocabulary, "rows": ROWS, "dim": DIM, "bottom": BOTTOM, "top": TOP}
    about = folder / "subject.json"
    if not (about.exists() and json.loads(about.read_text(encoding="utf-8")) == wanted):
        with atomic_folder(folder) as made:
            _make(vocabulary, made)
            (made / about.name).write_text(json.dumps(wanted), encoding="utf-8")
    graph = FeatureGraph.load(folder / "graph")
    return Subject(name, graph, folder / "model", folder / "onnx", folder / "rows.parquet")


def _make(vocabulary: int, folder: Path) -> None:
    import onnx

    from benchmarks.features import fitted
    from etl.compiler import to_onnx as features_to_onnx
    from training.export.onnx import to_onnx as model_to_onnx

    graph = fitted(vocabulary)
    graph.save(folder / "graph")
    rows(vocabulary).write_parquet(folder / "rows.parquet")
    (folder / "onnx").mkdir()
    onnx.save(features_to_onnx(graph), folder / "onnx" / "workflow.onnx")
    _write_model(graph, folder / "model")
    model_to_onnx(folder / "model", folder / "onnx" / "model.onnx")


def rows(vocabulary: int, seed: int = 0) -> pl.DataFrame:
    """Return ROWS raw rows, C1 .. C26 and I1 .. I13, int32 without nulls."""
    generator, made = np.random.default_rng(seed), dict[str, npt.NDArray[Any]]()
    for place, (name, cardinality) in enumerate(zip(CATEGORICAL, CARDINALITIES, strict=True)):
        size = min(vocabulary, cardinality)
        rank = ranks(generator.random(ROWS), size)
        unknown = generator.random(ROWS) < _UNKNOWN
        made[name] = identifiers(place, np.where(unknown, np.uint32(size + 7), rank).astype(np.uint32))
    for name in CONTINUOUS:
        made[name] = np.exp(generator.normal(2.0, 1.5, ROWS)).astype(np.int32)
    return pl.DataFrame(made)


def _write_model(graph: FeatureGraph, folder: Path) -> None:
    """Write a DLRM with random weights as training writes one."""
    from training.config import ModelConfig
    from training.models.registry import build
    from training.tasks import task_of
    from training.tensorflow import quiet
    from training.train import save

    config = ModelConfig(name="dlrm", embedding_dim=DIM, bottom=BOTTOM, top=TOP)
    inputs = _inputs(graph)
    with quiet():
        model = build(inputs, config, seed=0)
    for variable in model.variables:
        if variable.shape.rank == 2 and variable.shape[1] == DIM and variable.shape[0] > BOTTOM[0]:
            variable.assign(variable * _SPREAD)
    folder.mkdir()
    save(model, task_of("dlrm"), inputs, folder / "saved_model")
    features = [feature.to_json() for feature in inputs.features]
    facts = {"format": 1, "config": config.model_dump(mode="json"), "fingerprint": graph.fingerprint}
    facts |= {"features": features, "label": inputs.label, "rows": ROWS}
    (folder / "training.json").write_text(json.dumps(facts), encoding="utf-8")


def _inputs(graph: FeatureGraph) -> Inputs:
    """Return the model's inputs with their Merlin schema, made from the graph's columns."""
    from training.inputs import Feature, Inputs
    from training.tensorflow import merlin_models

    merlin_models()
    from merlin.schema import ColumnSchema, Schema, Tags

    features = tuple(
        Feature(column.name, column.length, column.cardinality, column.tags) for column in graph.output_columns
    )
    columns = [
        ColumnSchema(
            feature.name,
            dtype=feature.dtype,
            tags=[Tags.CATEGORICAL if feature.categorical else Tags.CONTINUOUS],
            properties={"domain": {"min": 0, "max": feature.cardinality - 1, "name": feature.name}}
            if feature.cardinality
            else {},
        )
        for feature in features
    ]
    label = ColumnSchema("label", dtype="float32", tags=[Tags.TARGET, Tags.BINARY_CLASSIFICATION])
    return Inputs(features, "label", Schema([*columns, label]), ROWS)


def exports(subject: Subject, folder: Path, config: ExportConfig | None = None) -> list[Path]:
    """Export a subject fused, chained and packed into `folder`; returns the version folders."""
    config = config or ExportConfig()
    wanted: dict[str, Mapping[str, str]] = {
        "fused": {"shape": "fused", "signature": "named"},
        "chained": {"shape": "chained", "signature": "named"},
        "packed": {"shape": "fused", "signature": "packed"},
    }
    return [export(subject, folder / name, config.model_copy(update=dict(keys))) for name, keys in wanted.items()]


def export(subject: Subject, repository: Path, config: ExportConfig) -> Path:
    """Export a subject once; returns the version folder."""
    from ensemble.export.export import export as run_export

    request = RequestSchema.from_columns(subject.graph.inputs, config.forms)
    warmup = pl.read_parquet(subject.rows, columns=list(request.names), hive_partitioning=False).head(5)
    files = subject.onnx / "workflow.onnx", subject.onnx / "model.onnx"
    return run_export(*files, repository, config, request, {}, warmup).folder


def transformed(workflow: Path, frame: pl.DataFrame, request: RequestSchema) -> dict[str, npt.NDArray[Any]]:
    """Return the features of raw rows by name, as the compiled workflow makes them."""
    from ensemble.graphs.onnx_file import OnnxFile

    features = OnnxFile.open(workflow)
    found = features.run(encode(frame, request), tuple(features.columns.values()))
    return {name: found[output] for name, output in features.columns.items()}

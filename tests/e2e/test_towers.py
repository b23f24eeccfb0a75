"""`mews export --towers` as a user runs it: graphs from raw columns to vectors, and the items to search among."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import polars as pl
import pytest

from ensemble.requests.encode import encode
from ensemble.spec import RequestSchema
from etl.graph import FeatureGraph
from training.predict import predict

from .conftest import last_json, leftovers, mews, settings

TINY = settings(
    "data.rows=6000", "data.users=150", "data.items=60", "model.name=two_tower", "model.epochs=1", "model.top=[16]",
    "model.embedding_dim=8", "model.batch_size=512",
)  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The run folder, and that of the towers."""
    folder = tmp_path_factory.mktemp("towers")
    run, out = folder / "run", folder / "out"
    done = mews("export", "--towers", out, "--run", run, "--json", *TINY)
    assert done.returncode == 0, done.stderr
    said = last_json(done)
    assert (said["items"], said["dim"], said["item"]) == (60, 8, "item_id")
    assert {Path(path) for path in said["files"].values()} == set(out.iterdir())
    assert leftovers(folder) == []
    return run, out


def vectors(graph: Path, rows: pl.DataFrame, run: Path) -> np.ndarray:
    """What a tower answers to raw rows, sent as a request sends them."""
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    read = {value.name for value in session.get_inputs()}
    columns = [column for column in FeatureGraph.load(run / "features" / "graph").inputs if column.name in read]
    tensors = encode(rows.select(column.name for column in columns), RequestSchema.from_columns(columns))
    text = {
        name: np.vectorize(bytes.decode, otypes=[object])(values) if values.dtype == object else values
        for name, values in tensors.items()
    }
    (made,) = session.run(["vector"], text)
    return made


def test_the_towers_rank_raw_rows_as_the_model_does(exported: tuple[Path, Path]) -> None:
    run, out = exported
    rows = pl.concat([pl.read_parquet(path) for path in sorted((run / "data" / "split" / "test").glob("*.parquet"))])
    users, items = (vectors(out / f"{side}.onnx", rows, run) for side in ("query", "item"))
    dots, scores = (users * items).sum(1), predict(run / "model", run / "features" / "test")
    order = np.argsort(dots)
    assert (np.diff(scores[order]) >= -1e-6).all()
    assert scores[order[-1]] > scores[order[0]] + 0.01


def test_every_item_is_there_under_its_raw_value(exported: tuple[Path, Path]) -> None:
    run, out = exported
    table = pl.read_parquet(out / "item_vectors.parquet")
    files = sorted((run / "data" / "split" / "train").glob("*.parquet"))
    last = pl.concat([pl.read_parquet(path) for path in files]).group_by("item_id", maintain_order=True).last()
    assert sorted(table["item_id"]) == sorted(last["item_id"])
    found = table.join(last, on="item_id", maintain_order="left")
    assert np.abs(vectors(out / "item.onnx", found, run) - found["vector"].to_numpy()).max() <= 1e-5


def test_a_folder_of_other_things_is_left_alone(exported: tuple[Path, Path], tmp_path: Path) -> None:
    run, _ = exported
    (tmp_path / "notes.txt").write_text("mine")
    done = mews("export", "--towers", tmp_path, "--run", run)
    assert done.returncode != 0
    assert "notes.txt" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

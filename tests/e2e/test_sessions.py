"""From a table of visits to a server that answers with items: the models of lists, each with the same rows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl.errors import ConfigError
from mews.console import Terminal
from mews.predict import predict
from mews.run import PARTS, Run
from mews.session import Session

ITEMS = [f"café {number}" for number in range(12)]
PIPELINE = """
data:
  source: table
  path: visits.csv
  columns:
    visit: {role: session, dtype: string}
    sku: {role: item, dtype: string}
    at: {role: timestamp, dtype: datetime}
    device: {role: categorical, dtype: string}
split: {context: [device], history: 6, group: [visit]}
model:
  name: gru4rec
  embedding_dim: 8
  units: 16
  epochs: 4
  batch_size: 64
  learning_rate: 0.03
  top_k: 5
evaluate: {bootstrap: 20, cutoffs: [1, 5]}
"""


def visits(count: int = 400) -> pl.DataFrame:
    """In a visit each item follows the one before it in a circle of twelve, from anywhere, with favourites."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(count):
        start, length = random.choice([0, 0, 0, 5, 8, 10]), random.integers(3, 7)
        device = random.choice(["phone", "desktop"])
        rows += [(f"v{number}", ITEMS[(start + step) % 12], number * 100 + step, device) for step in range(length)]
    frame = pl.DataFrame(rows, schema=["visit", "sku", "at", "device"], orient="row")
    return frame.with_columns(pl.from_epoch(pl.col("at") + 1_700_000_000).dt.strftime("%Y-%m-%d %H:%M:%S"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("visits")
    visits().write_csv(made / "visits.csv")
    (made / "pipeline.yaml").write_text(PIPELINE)
    return made


def session(folder: Path, *overrides: str) -> Session:
    return Session(folder / "pipeline.yaml", Run(folder / "run"), list(overrides), Terminal(quiet=True, as_json=True))


def answers(folder: Path, asking: Session, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What `mews predict --json` returns."""
    (folder / "rows.json").write_text(json.dumps(rows))
    return predict(asking, folder / "rows.json", "http", None, None)


def test_sessions_are_learned_and_served_as_keras_answers(folder: Path) -> None:
    asking = session(folder)
    done = asking.bring("query")
    parity = done["query"].result
    assert max(parity["http_max_abs_diff"], parity["grpc_max_abs_diff"]) <= 1e-5
    assert parity["rows"] > 100
    assert done["evaluate"].result["ranking"]["metrics"]["hit_rate@1"]["low"] > 0.8
    told = [
        {"device": "phone", "history": [ITEMS[2], ITEMS[3]]},
        {"device": "phone", "history": [ITEMS[2], "never seen", ITEMS[3]]},
        {"device": "tablet", "history": ["never seen"]},
        {"device": None, "history": []},
    ]
    found = answers(folder, asking, told)
    assert found["known"] == [2, 2, 0, 0]
    assert found["item"][0][0] == found["item"][1][0] == ITEMS[4]
    assert all(len(items) == 5 for items in found["item"])
    assert not {ITEMS[2], ITEMS[3]} & set(found["item"][0])
    split = pl.read_parquet(folder / "run" / "data" / "split" / "train" / "*.parquet")
    counts = Counter(split["sku"].to_list())
    popular = [counts[item] for item in found["item"][2]]
    assert popular == sorted(counts.values(), reverse=True)[:5], "nothing known: by popularity"
    assert found["item"][2] == found["item"][3]
    assert found["scores"][2] == pytest.approx(found["scores"][3])


def test_sets_come_from_the_same_rows_with_another_model(folder: Path) -> None:
    asking = session(folder, "model.name=autoencoder", "model.epochs=8", "model.kl_steps=50")
    done = asking.bring("query")
    assert not done["split"].skipped
    assert done["data"].skipped
    parity = done["query"].result
    assert max(parity["http_max_abs_diff"], parity["grpc_max_abs_diff"]) <= 1e-5
    ranking = done["evaluate"].result["ranking"]
    assert ranking["metrics"]["hit_rate@5"]["low"] > ranking["baselines"]["popularity"]["hit_rate@5"]["high"]


def test_what_could_not_be_served_is_refused_before_training(folder: Path, tmp_path: Path) -> None:
    table = pl.read_csv(folder / "visits.csv")
    table.rename({"device": "known"}).write_csv(tmp_path / "visits.csv")
    (tmp_path / "pipeline.yaml").write_text(PIPELINE.replace("device", "known"))
    with pytest.raises(ConfigError, match="'known'"):
        session(tmp_path).bring("fit")
    table.with_columns(pl.col("sku").str.slice(5).cast(pl.Float64)).write_csv(tmp_path / "visits.csv")
    (tmp_path / "pipeline.yaml").write_text(
        PIPELINE.replace("sku: {role: item, dtype: string}", "sku: {role: item, dtype: float64}")
    )
    with pytest.raises(ConfigError, match=r"(?s)'sku'.*integers or strings"):
        session(tmp_path).bring("fit")
    with pytest.raises(ConfigError, match=r"export\.precision"):
        session(tmp_path, "export.precision=float16").bring("fit")


def test_rows_that_have_their_history_already_make_the_same_features(folder: Path, tmp_path: Path) -> None:
    session(folder).bring("transform")
    parts = [pl.read_parquet(folder / "run" / "data" / "split" / part / "*.parquet") for part in PARTS]
    pl.concat(parts).drop("visit", strict=False).write_parquet(tmp_path / "lists.parquet")
    described = PIPELINE.replace("visits.csv", "lists.parquet").replace(", group: [visit]", "")
    described = described.replace("    visit: {role: session, dtype: string}\n", "    history: {role: history}\n")
    (tmp_path / "pipeline.yaml").write_text(described)
    done = session(tmp_path).bring("transform")
    assert sum(done["split"].result["rows"].values()) == sum(part.height for part in parts)
    made = pl.read_parquet(tmp_path / "run" / "features" / "train" / "*.parquet")
    wanted = pl.read_parquet(folder / "run" / "features" / "train" / "*.parquet")
    assert set(made.columns) == set(wanted.columns) == {"device", "history", "sku"}
    assert made["history"].list.len().unique().to_list() == [6]

"""Another precision is chosen by one key, judged, and served; `mews variants` shows them all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx

from .conftest import Demo, last_json, mews, settings


def test_the_table_has_every_variant_with_its_figures(demo: Demo, tmp_path: Path) -> None:
    done = mews("variants", "--run", demo.folder, "--rounds", 1, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    found = {variant["variant"]: variant for variant in last_json(done)["variants"]}
    assert {"float32", "float16", "float16_tables", "int8", "int8_static", "int8_tables", "extended"} <= set(found)
    assert found["float32"]["auc_change"] == found["float32"]["largest_change"] == 0
    assert "nothing to look up" in last_json(done)["failed"]["item_id table"], "dlrm has one table for all columns"
    assert found["int8_tables"]["bytes"] < found["float16_tables"]["bytes"] < found["float32"]["bytes"]
    assert all(variant[key] > 0 for variant in found.values() for key in ("p50_us_1", "p50_us_64", "load_ms", "auc"))
    assert json.loads((tmp_path / "variants.json").read_text())["variants"] == last_json(done)["variants"]


def test_the_chosen_precision_is_exported_and_served_within_what_it_changed(demo: Demo, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(demo.folder, run)
    done = mews("export", "--run", run, "--json", *settings("export.precision=int8_tables", "export.max_auc_drop=0.05"))
    assert done.returncode == 0, done.stderr
    record = json.loads((run / "onnx" / "variant.json").read_text())
    assert record["precision"] == "int8_tables"
    assert record["auc_drop"] <= 0.05
    (exported,) = [name for name in last_json(done)["models"] if "_model_" in name]
    served = onnx.load(run / "repository" / exported / "1" / "model.onnx")
    assert onnx.TensorProto.INT8 in {tensor.data_type for tensor in served.graph.initializer}
    assert (run / "onnx" / "model.float32.onnx").exists()
    before = mews("predict", "--run", demo.folder, "--input", demo.folder / "examples" / "rows.json", "--json")
    after = mews("predict", "--run", run, "--input", demo.folder / "examples" / "rows.json", "--json")
    scores = [last_json(each)["scores"] for each in (before, after)]
    largest = max(abs(left - right) for left, right in zip(*scores, strict=True))
    assert 0 < largest <= record["largest_change"] + 1e-5

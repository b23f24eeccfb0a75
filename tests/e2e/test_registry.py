"""`mews models register`, `promote` and `mews versions history`, as a user runs them on a finished demo."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from tests.e2e.conftest import Demo, last_json, leftovers, mews


def test_a_run_is_registered_promoted_and_told_of(demo: Demo, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(demo.folder, run)
    done = mews("models", "register", "--run", run, "--json")
    assert done.returncode == 0, done.stderr
    version = last_json(done)
    assert (version["version"], version["aliases"], version["registered"]) == (1, ["challenger"], True)
    assert "http" not in done.stdout + done.stderr, "MLflow's own messages"

    card = (run / "model_card.md").read_text()
    fields = dict(re.findall(r"^- \*\*(.+?):\*\* ?(.*)$", card, flags=re.MULTILINE))
    assert len(fields) > 40
    assert all(text.strip() and "None" not in text for text in fields.values()), fields
    training = json.loads((run / "model" / "training.json").read_text())
    assert fields["feature graph"] == training["fingerprint"]

    kept = {str(path.relative_to(run / "registry")) for path in (run / "registry").rglob("*") if path.is_file()}
    for name in ("model/training.json", "saved_model.pb", "model.onnx", "config.yaml", "model_card.md", "metrics.json"):
        assert any(place.endswith(name) for place in kept), name
    assert not [place for place in kept if place.endswith((".pkl", ".pickle"))]
    assert card in [path.read_text() for path in (run / "registry").rglob("model_card.md")]

    exported = run / "repository" / "mews" / "1"
    assert (exported / "model_card.md").read_text() == card, "the version that is served has the same card"
    assert "mews/1/model_card.md" in json.loads((exported / "manifest.json").read_text())["files"]

    promoted = mews("models", "promote", "--run", run, "--json")
    assert promoted.returncode == 0, promoted.stderr
    assert last_json(promoted)["aliases"] == ["champion"]
    history = last_json(mews("versions", "history", "--run", run, "--json"))
    told = [(one["where"], one["version"], one["event"]) for one in history]
    assert [one for one in told if one[0] == "registry"] == [("registry", 1, "registered"), ("registry", 1, "promoted")]
    assert ("repository", 1, "exported") in told
    assert all(one["by"] and one["at"] for one in history)
    assert not leftovers(run)

    assert mews("verify", "1", "--run", run).returncode == 0
    (exported / "model_card.md").write_text(card + "It is better than it is.")
    changed = mews("verify", "1", "--run", run)
    assert changed.returncode == 1
    assert "mews/1/model_card.md: changed" in changed.stderr

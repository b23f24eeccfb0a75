"""The model card: no field is empty, whatever is known; what is known is on it."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest

from training.card import render
from training.config import ModelConfig, TrainConfig
from training.models.catalog import MODELS

SECTIONS = (
    "Model", "Intended use", "Data", "Metrics", "Slices", "Limits", "Training", "Time and energy", "Fingerprints"
)  # fmt: skip
FACTS: dict[str, Any] = {
    "training": {
        "label": "clicked",
        "click_rate": 0.25,
        "best_epoch": 2,
        "seconds": 12.5,
        "samples_per_s": 4000.0,
        "versions": {"tensorflow": "2.12.1"},
        "features": [
            {"name": "user", "cardinality": 40, "tags": ["id", "user"]},
            {"name": "price", "cardinality": None, "tags": ["continuous", "item"]},
        ],
    },
    "history": [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}],
    "metrics": {
        "auc": 0.75, "auc_low": 0.7, "auc_high": 0.8, "logloss": 0.4, "confidence": 0.9, "bootstrap": 50,
        "baselines": {"popularity": {"auc": 0.6, "auc_low": 0.55, "auc_high": 0.65}},
        "ranking": {
            "protocol": "full ranking of 30 items", "users": 120,
            "metrics": {"ndcg@10": {"value": 0.3, "low": 0.25, "high": 0.35}},
        },
        "slices": {
            "rows": [
                {"by": "country", "value": "PT", "rows": 900, "auc": 0.71, "auc_low": 0.6, "auc_high": 0.8},
                {"by": "country", "value": "a|b", "rows": 3, "reason": "fewer than 50 rows"},
            ]
        },
    },
    "config": {
        "seed": 7,
        "model": ModelConfig(name="mf").model_dump(mode="json"),
        "train": TrainConfig().model_dump(mode="json"),
    },
    "dataset": {
        "name": "shop",
        "rows": 5000,
        "facts": {"licence": "CC BY 4.0", "citation": "Shop, 2024"},
        "columns": [{"name": "user", "role": "user", "side": None}, {"name": "age", "role": "number", "side": "user"}],
    },
    "window": {"train": ["2024-01-01", "2024-02-01"], "test": ["2024-02-02", "2024-02-09"]},
    "rows": {"train": 4000, "valid": 500, "test": 500},
    "machine": {"cpu": "some", "cores": 2, "memory_mb": 24000, "system": "Linux"},
    "code": {"version": "0.1.0", "commit": "c" * 40, "digest": "d" * 64},
    "fingerprints": {"graph": "ab" * 32, "data": "cd" * 32, "model": "ef" * 32},
    "size": {"bytes": 2**20, "parameters": 12345},
    "says": {"intended_use": "the home page", "limits": "not for children"},
}  # fmt: skip


def bare(name: str) -> dict[str, Any]:
    """The least that is known of a model: whatever can be missing is."""
    facts = deepcopy(FACTS)
    for key in ("click_rate", "samples_per_s"):
        del facts["training"][key]
    facts["config"]["model"]["name"] = name
    facts["metrics"], facts["window"] = {}, None
    facts["dataset"] |= {"facts": {"licence": None}, "columns": [{"name": "x", "role": "number", "side": None}]}
    facts["code"]["commit"] = None
    facts["fingerprints"] = {"graph": "", "data": "", "model": "ef" * 32}
    facts["size"]["parameters"] = None
    facts["says"] = {"intended_use": None, "limits": "  "}
    return facts


def fields(card: str) -> dict[str, str]:
    return dict(re.findall(r"^- \*\*(.+?):\*\* ?(.*)$", card, flags=re.MULTILINE))


@pytest.mark.parametrize("facts", [FACTS, *map(bare, MODELS)], ids=["all", *MODELS])
def test_no_section_and_no_field_is_empty(facts: dict[str, Any]) -> None:
    card = render(facts)
    parts = dict(re.findall(r"^## (.+?)\n\n(.*?)(?=\n## |\Z)", card, flags=re.MULTILINE | re.DOTALL))
    assert tuple(parts) == SECTIONS
    for title, content in parts.items():
        assert content.strip(), title
    for name, text in fields(card).items():
        assert re.search(r"\w", text), name
        assert not re.search(r"\bNone\b|not known: *$", text), (name, text)
    assert "\n\n\n" not in card


def test_what_is_known_is_on_it() -> None:
    card = render(FACTS)
    found = fields(card)
    assert found["licence"] == "CC BY 4.0"
    assert found["use, as its owner says"] == "the home page"
    assert found["as its owner says"] == "not for children"
    assert found["window"] == "train 2024-01-01 to 2024-02-01; test 2024-02-02 to 2024-02-09"
    assert found["about persons"] == "`user`, `age`"
    assert found["parameters"] == "12,345"
    assert found["feature graph"] == "ab" * 32
    assert "c" * 40 in found["version of the code"]
    assert found["model.embedding_dim"] == "`16`"
    assert (found["model.negatives.log_q"], found["model.negatives.strategy"]) == ("`true`", "not set")
    assert found["energy"].startswith("not known: no energy meter")
    assert "| AUC | 0.7500 [0.7000, 0.8000] | 0.6000 [0.5500, 0.6500] |" in card
    assert "| ndcg@10 | 0.3000 [0.2500, 0.3500] |" in card
    assert "| country = PT | 900 | 0.7100 [0.6000, 0.8000] |" in card
    assert "1 slices of rows are not judged: fewer than 50 rows." in card


def test_what_is_not_known_has_its_reason() -> None:
    card = render(bare("dlrm"))
    found = fields(card)
    assert found["licence"] == "not known: the source does not state one"
    assert found["use, as its owner says"] == "not known: registry.intended_use is not set"
    assert found["as its owner says"] == "not known: registry.limits is not set"
    assert found["window"] == "not known: no column has the role timestamp"
    assert found["parameters"].startswith("not known: they are counted in model.onnx")
    assert "no commit known" in found["version of the code"]
    assert "Ranking: not measured" in card
    assert "Not known: the evaluation has no slices" in card

"""A model card in Markdown: what a model is, from which data, how good it is, and where it ends. No field is empty.

After Mitchell et al., Model Cards for Model Reporting (arXiv:1810.03993). What is not known is said to be so, with the
reason, so that a reader can tell it from what was forgotten.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training import card_tables
from training.models.catalog import MODELS

Facts = Mapping[str, Any]
_SETTINGS = ("model", "train", "seed")
_TASKS = {
    "click": "give the probability that `{label}` is 1 for a user, an item and their context",
    "multi": "give the probabilities of `{label}` and other labels for a user, an item and their context",
    "next_item": "propose the items that follow a list of items",
    "item_set": "propose items that belong to a set of items",
}


@dataclass(frozen=True)
class Field:
    """One line of a card: its text, or why there is none."""

    name: str
    text: str
    why: str = ""

    def __str__(self) -> str:
        return f"- **{self.name}:** {self.text.strip() or f'not known: {self.why}'}"


def render(facts: Facts) -> str:
    """Return the card of these facts.

    `training` is training.json, `history` history.json, `metrics` metrics.json, `config` the whole configuration,
    `dataset` {name, rows, facts, columns}, `window` {split: [first, last]} or None, `rows` {split: count}, `machine` as
    benchmarks/machine.py describes one, `code` {version, commit, digest}, `fingerprints` {graph, data, model}, `size`
    {bytes, parameters}, `says` {intended_use, limits}.
    """
    name = facts["config"]["model"]["name"]
    sections = {
        "Model": _model(facts),
        "Intended use": _use(facts),
        "Data": _data(facts),
        "Metrics": card_tables.metrics(facts["metrics"], facts["rows"].get("test")),
        "Slices": card_tables.of_slices(facts["metrics"]),
        "Limits": _limits(facts),
        "Training": _training(facts),
        "Time and energy": _cost(facts),
        "Fingerprints": _fingerprints(facts),
    }
    lines = [f"# Model card: {name}", ""]
    for title, content in sections.items():
        lines += [f"## {title}", "", *map(str, content), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _model(facts: Facts) -> Iterator[Field]:
    known = MODELS[facts["config"]["model"]["name"]]
    parameters = facts["size"].get("parameters")
    yield Field("name", known.name)
    yield Field("kind", f"{known.says}; family {known.family}, task {known.task}")
    yield Field(
        "parameters", f"{parameters:,}" if parameters else "", "they are counted in model.onnx, which is not there"
    )
    yield Field("size on disk", f"{facts['size']['bytes'] / 2**20:.2f} MiB (SavedModel)")
    yield Field("inputs", ", ".join(_feature(one) for one in facts["training"]["features"]))
    yield Field("version of the code", _code(facts["code"]))


def _feature(found: Facts) -> str:
    kind = "number" if found["cardinality"] is None else f"{found['cardinality']:,} codes"
    side = next((f", {side}'s" for side in ("user", "item") if side in found["tags"]), "")
    return f"`{found['name']}` ({kind}{side})"


def _code(code: Facts) -> str:
    commit = f", commit {code['commit']}" if code.get("commit") else ", no commit known: it ran outside of a repository"
    return f"Mews {code['version']}{commit}, sources {code['digest'][:12]}"


def _use(facts: Facts) -> Iterator[Field]:
    task = MODELS[facts["config"]["model"]["name"]].task
    yield Field("made to", _TASKS[task].format(label=facts["training"]["label"]))
    yield Field("use, as its owner says", facts["says"].get("intended_use") or "", "registry.intended_use is not set")
    yield Field(
        "not made for",
        "decisions about people's rights, money, health or safety; users, items or times unlike those of the data",
    )


def _data(facts: Facts) -> Iterator[Field]:
    dataset, about = facts["dataset"], facts["dataset"]["facts"]
    yield Field("source", f"{dataset['name']}, {dataset['rows']:,} rows that passed validation")
    yield Field("licence", about.get("licence") or "", "the source does not state one")
    yield Field("citation", about.get("citation") or "", "the source does not state one")
    windows = facts["window"] or {}
    yield Field(
        "window",
        "; ".join(f"{part} {first} to {last}" for part, (first, last) in windows.items()),
        "no column has the role timestamp",
    )
    yield Field("rows", ", ".join(f"{part} {rows:,}" for part, rows in facts["rows"].items()))
    rate = facts["training"].get("click_rate")
    shown = f"`{facts['training']['label']}`" + (f", {rate:.2%} of the training rows are 1" if rate is not None else "")
    yield Field("label", shown)
    personal = [one["name"] for one in dataset["columns"] if one.get("side") == "user" or one["role"] == "user"]
    yield Field("about persons", ", ".join(f"`{name}`" for name in personal), "no column is declared to be a user's")


def _limits(facts: Facts) -> Iterator[Field]:
    yield Field("as its owner says", facts["says"].get("limits") or "", "registry.limits is not set")
    yield Field("unknown users and items", "share one code each; the slices above say how good it is for them")
    last = (facts["window"] or {}).get("train")
    yield Field("age", f"it has seen nothing after {last[1]}" if last else "", "the data has no times")
    yield Field("feedback", "it learned from what was shown: what is never shown is never learned")


def _training(facts: Facts) -> Iterator[Field]:
    training = facts["training"]
    yield Field("epochs", f"{len(facts['history'])}, of which {training['best_epoch']} was the best and is kept")
    for section in _SETTINGS:
        yield from _settings(section, facts["config"].get(section))
    yield Field("packages", ", ".join(f"{name} {number}" for name, number in training["versions"].items()))


def _settings(name: str, value: Any) -> Iterator[Field]:
    """Yield a setting, or those of a section one by one, as pipeline.yaml writes them."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _settings(f"{name}.{key}", inner)
    elif value is None or value == "":
        yield Field(name, "not set")
    elif isinstance(value, Mapping | Sequence) and not value:
        yield Field(name, "none")
    else:
        yield Field(name, f"`{value if isinstance(value, str) else json.dumps(value)}`")


def _cost(facts: Facts) -> Iterator[Field]:
    training, machine = facts["training"], facts["machine"]
    speed = f", {training['samples_per_s']:,.0f} samples/s while training" if "samples_per_s" in training else ""
    yield Field("training", f"{training['seconds']:.1f} s{speed}")
    cores = f"{machine['cores']} cores, {machine['memory_mb']:,} MiB"
    yield Field("this card's machine", f"{machine['cpu']}, {cores}, {machine['system']}")
    yield Field("energy", "", "no energy meter was read; the training time above is all that is known")


def _fingerprints(facts: Facts) -> Iterator[Field]:
    found = facts["fingerprints"]
    yield Field("feature graph", found.get("graph", ""), "the features were not made by Mews")
    yield Field("data (train, valid and test rows)", found.get("data", ""), "the run has no record of its split")
    yield Field("model", found["model"])

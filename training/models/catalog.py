"""Every model by name, as plain data, without TensorFlow. Its builder is in training/models/<family>.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Task = Literal["click", "multi", "next_item", "item_set"]
"""What a model learns: click, the probability of the label; multi, of several labels; next_item, the item that follows
a list of items; item_set, the items that belong to a set."""


@dataclass(frozen=True)
class Model:
    """One model: `family` names its module, `says` is one line for people."""

    name: str
    family: str
    task: Task
    says: str
    servable: bool = True


MODELS = {
    model.name: model
    for model in (
        Model("dlrm", "ranking", "click", "dot products of every pair of embeddings (arXiv:1906.00091)"),
        Model("dcn_v2", "ranking", "click", "cross layers, then a perceptron (arXiv:2008.13535)"),
    )
}

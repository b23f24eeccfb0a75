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
        Model("deepfm", "ranking", "click", "a factorisation machine beside a perceptron (arXiv:1703.04247)"),
        Model("wide_deep", "ranking", "click", "a linear model with crosses beside a perceptron (arXiv:1606.07792)"),
        Model("mf", "factorisation", "click", "matrix factorisation: user vector times item vector, with biases"),
        Model("deep_mf", "factorisation", "click", "neural matrix factorisation of ids (arXiv:1708.05031)"),
        Model("deep_mf_meta", "factorisation", "click", "the same, with the user's and the item's other features"),
        Model("mmoe", "multi_task", "multi", "several labels: a mixture of shared experts for each (KDD 2018, Ma)"),
        Model("ple", "multi_task", "multi", "several labels: shared experts and own ones (RecSys 2020, Tang)"),
        Model("two_tower", "retrieval", "click", "user and item vectors, in-batch softmax with logQ (RecSys 2019, Yi)"),
        Model("youtube_dnn", "retrieval", "click", "a user vector against a table of items (RecSys 2016, Covington)"),
        Model("triplet", "triplet", "click", "user and item vectors from triplets, BPR or margin (arXiv:1205.2618)"),
        Model("gru4rec", "sessions", "next_item", "a recurrent network over the items before (arXiv:1511.06939)"),
        Model("transformer", "sessions", "next_item", "causal self-attention over the items before (arXiv:1808.09781)"),
        Model("autoencoder", "autoencoder", "item_set", "denoising or variational, over item sets (arXiv:1802.05814)"),
    )
}


@dataclass(frozen=True)
class Baseline:
    """A recommender without a network, to compare with (training/baselines.py); it is not served."""

    name: str
    says: str
    servable: bool = False


BASELINES = {
    baseline.name: baseline
    for baseline in (
        Baseline("popularity", "how many users had the item"),
        Baseline("item_knn", "cosine of the users of two items, summed over the user's items (implicit)"),
        Baseline("als", "matrix factorisation by alternating least squares (implicit; ICDM 2008, Hu)"),
        Baseline("bpr", "matrix factorisation by pairs of items (implicit; arXiv:1205.2618)"),
    )
}

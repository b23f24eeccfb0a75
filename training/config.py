"""The parts of pipeline.yaml that training reads: model and evaluation."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from etl.section import Section
from training.models.catalog import MODELS

Baseline = Literal["popularity", "item_knn", "als", "bpr"]


class NegativesConfig(Section):
    """What a retrieval model or a triplet tells a chosen item from."""

    strategy: Literal["in_batch", "uniform", "popularity", "semi_hard", "hard"] | None = None
    """in_batch: the other chosen items of the batch. uniform, popularity: items drawn for the step, all alike or in
    proportion to (chosen rows + 1) ** 0.75. semi_hard: of the batch's, the nearest one farther away than the chosen
    item. hard: the batch's, and the nearest of a drawn candidate set. Not given: the model's own (two_tower in_batch,
    youtube_dnn popularity, triplet uniform)."""
    count: int = Field(default=512, ge=1)
    """Items drawn for a step (uniform, popularity, hard)."""
    hardest: int = Field(default=8, ge=1)
    """hard: how many of the drawn items, those that score highest, each row is told from."""
    log_q: bool = True
    """Whether a softmax corrects for how often an item is drawn (logQ)."""
    explicit: bool = False
    """Whether rows with label 0 push their own pair apart; otherwise they weigh nothing."""


class ModelConfig(Section):
    """Which model is trained, and how."""

    name: str = "dlrm"
    """A model of `mews models list`."""
    embedding_dim: int = Field(default=16, ge=1)
    """Size of every embedding vector that `embedding_dims` does not name."""
    embedding_dims: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Other sizes, by feature. DLRM, DeepFM and models that multiply user by item vectors need one size for all."""
    bottom: list[int] = Field(default_factory=lambda: [64, 16], min_length=1)
    """DLRM: widths of the layers over continuous columns; the last must equal embedding_dim."""
    top: list[int] = Field(default_factory=lambda: [64, 32], min_length=1)
    """Widths of the layers before the output."""
    cross_depth: int = Field(default=2, ge=1)
    """DCN-v2: number of cross layers."""
    crosses: list[Annotated[list[str], Field(min_length=2)]] = Field(default_factory=list)
    """Wide & Deep: features that are crossed for the wide part, such as [[country, device]]."""
    cross_buckets: int = Field(default=10_000, ge=2)
    """Wide & Deep: number of weights of each cross; pairs beyond that share one."""
    expert: list[int] = Field(default_factory=lambda: [64, 32], min_length=1)
    """MMoE and PLE: widths of every expert's layers."""
    experts: int = Field(default=4, ge=1)
    """MMoE: number of experts; PLE: number of those that all labels share."""
    label_experts: int = Field(default=2, ge=1)
    """PLE: number of experts that each label has for itself."""
    levels: int = Field(default=1, ge=1)
    """PLE: number of extraction layers."""
    label_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """MMoE and PLE: weight of a label's loss; 1 where it is not named."""
    temperature: float = Field(default=0.1, gt=0)
    """two_tower: what the cosine of the two vectors is divided by."""
    pair_loss: Literal["bpr", "margin"] = "bpr"
    """triplet: the log of the chance that the chosen item comes first (dot products), or the hinge (cosines)."""
    margin: float = Field(default=0.2, gt=0)
    """triplet: by how much a chosen item's score is to exceed the others'; semi-hard items lie within it."""
    negatives: NegativesConfig = Field(default_factory=NegativesConfig)
    """two_tower, youtube_dnn, triplet: what chosen items are told from."""
    units: int = Field(default=64, ge=1)
    """gru4rec: size of the state; autoencoder: width of the two hidden layers."""
    blocks: int = Field(default=2, ge=1)
    """transformer: blocks of attention."""
    heads: int = Field(default=2, ge=1)
    """transformer: heads of each; they divide embedding_dim."""
    tied: bool = True
    """gru4rec and transformer: whether items are scored by the vectors that they are read with."""
    full_softmax: int = Field(default=20_000, ge=0)
    """gru4rec and transformer: with more codes than this, a step compares each target with sampled items only."""
    sampled_items: int = Field(default=1_000, ge=1)
    """How many those are."""
    item_dropout: float = Field(default=0.5, ge=0, lt=1)
    """autoencoder: share of the given items that are hidden in training."""
    kl: float = Field(default=0.2, ge=0)
    """autoencoder: largest weight of the KL divergence; 0 makes it a denoising autoencoder without randomness."""
    kl_steps: int = Field(default=2_000, ge=0)
    """autoencoder: steps over which that weight rises from 0."""
    top_k: int = Field(default=20, ge=1)
    """Models of item lists: how many items are answered."""
    exclude_history: bool = True
    """Models of item lists: whether items of the history are answered only when no others are left."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in the top layers; of models of item lists, in all."""
    l2: float = Field(default=20.0, ge=0)
    """Gaussian prior on embedding vectors: in an epoch each costs l2 x its squared length (summed log loss), so that
    codes seen seldom stay near zero."""
    id_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training rows in which the vectors of user and item ids count as zeros: the model then learns more
    than the ids by heart, and copes with unknown ones."""
    optimizer: Literal["lazy_adam", "adam", "adagrad", "sgd"] = "lazy_adam"
    """lazy_adam touches only the embedding rows of the batch."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Learning rate."""
    batch_size: int = Field(default=2048, ge=1)
    """Rows of one training step."""
    epochs: int = Field(default=5, ge=1)
    """Largest number of passes over the training rows."""
    patience: int = Field(default=1, ge=0)
    """Epochs in a row without a better validation loss that are borne before training stops; the best is kept."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in MODELS:
            near = difflib.get_close_matches(name, MODELS, n=1)
            raise ValueError(f"did you mean {near[0]}?" if near else f"expected one of {', '.join(MODELS)}")
        return name


class TrainConfig(Section):
    """How training runs; what is trained, its optimizer and its batches are under `model`."""

    checkpoint_steps: int = Field(default=0, ge=0)
    """Write a checkpoint every so many steps; 0: after every epoch only. A killed run goes on from the last one, to the
    same weights as one that was not killed."""
    schedule: Literal["constant", "cosine", "exponential", "plateau"] = "constant"
    """What becomes of model.learning_rate: cosine falls to zero at the last step of model.epochs, exponential is
    multiplied by `decay` over each epoch, plateau by `decay` after each epoch that is no better than the best one."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate first rises from zero, with any schedule."""
    decay: float = Field(default=0.5, gt=0, le=1)
    """The factor of the schedules exponential and plateau."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Gradients are scaled down so that their norm over all weights is at most this."""
    mixed_precision: bool = False
    """Compute in bfloat16 where that is safe; weights, validation and what is exported stay float32."""
    xla: bool = False
    """Let XLA compile what it can of a training step."""
    class_weight: Literal["balanced"] | dict[int, Annotated[float, Field(ge=0)]] | None = None
    """Weight of each value of the label, such as {0: 1, 1: 5}; balanced: each class counts as much as the other."""
    feedback: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Weight of each value of the column with the role `weight`, such as {view: 1, purchase: 3}; without it the column
    holds the weights themselves."""
    warm_start: Path | None = None
    """Folder of an earlier model to begin with: its vectors are kept, codes that `mews etl update` added start anew."""
    evict_below: int = Field(default=0, ge=0)
    """With warm_start: vectors of codes with fewer training rows than this are forgotten and start anew."""
    tensorboard: Path | None = None
    """Folder for TensorBoard's logs."""
    mlflow: str | None = None
    """Address of an MLflow tracking server, or sqlite:///file.db, that the run is logged to."""
    worker_timeout: int = Field(default=300, ge=1)
    """Seconds that a worker of a distributed training waits for the others."""


class EvaluateConfig(Section):
    """How the model is judged."""

    bootstrap: int = Field(default=200, ge=0)
    """Resamples for the confidence intervals."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Width of the intervals."""
    calibration_bins: int = Field(default=15, ge=2)
    """Bins of equal count for the expected calibration error."""
    cutoffs: list[Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: [10, 20], min_length=1)
    """Lengths k of the lists that ranking metrics look at; the first one heads tables."""
    ranking_users: int = Field(default=1_000, ge=0)
    """Users that rankings are made for, drawn by the seed from those with held-out positives; 0 for no ranking."""
    positives: Literal["label", "rows"] = "label"
    """What a user is to be recommended: rows with label 1, or every row (implicit feedback, whatever the rating)."""
    exclude_seen: bool = True
    """Leave out of a user's ranking the items they had before, in train or valid."""
    negatives: int = Field(default=0, ge=0)
    """Rank each user's last item among so many drawn ones too; the protocol of arXiv:1708.05031 is 99 of them, with
    `positives: rows` and `split.by: last-per-user`."""
    baselines: list[Baseline] = Field(default_factory=lambda: list[Baseline](("popularity", "item_knn")))
    """Recommenders without a network that the model's rankings are compared with."""
    slices: list[str] | None = None
    """Categorical features whose values have metrics of their own; if absent, the user's with up to 100 codes."""

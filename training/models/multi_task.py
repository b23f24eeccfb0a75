"""Models that learn several labels of a row at once, such as click and purchase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from etl.errors import ConfigError
from training.config import ModelConfig
from training.inputs import Inputs
from training.models.blocks import body, by_kind, embeddings, feature_schema, top, vectors
from training.models.registry import model
from training.tensorflow import merlin_models, tensorflow


@model("mmoe")
def mmoe(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """Multi-gate mixture of experts (KDD 2018, Ma et al.): every label mixes the same experts in its own way."""
    mm = merlin_models()
    return _multi(inputs, config, seed, mm.MMOEBlock(_names(inputs), mm.MLPBlock(config.expert), config.experts))


@model("ple")
def ple(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """Progressive layered extraction (RecSys 2020, Tang et al.): experts of each label beside shared ones."""
    mm = merlin_models()
    experts = mm.PLEBlock(
        config.levels,
        _names(inputs),
        mm.MLPBlock(config.expert),
        num_task_experts=config.label_experts,
        num_shared_experts=config.experts,
    )
    return _multi(inputs, config, seed, experts)


def _names(inputs: Inputs) -> list[str]:
    """What Merlin's blocks call the labels: it finds a label's experts by the beginning of their names."""
    return [f"label{number:03d}" for number in range(len(inputs.labels))]


def _multi(inputs: Inputs, config: ModelConfig, seed: int, experts: Any) -> Any:
    """The experts between all features and a perceptron for each label: probabilities [batch, labels]."""
    tf, mm, names, (codes, values) = tensorflow(), merlin_models(), _names(inputs), by_kind(inputs)
    parts = {"experts": experts}
    parts |= {f"top_{name}": top(config) for name in names}
    parts |= {f"logit_{name}": tf.keras.layers.Dense(1) for name in names}
    if codes:
        parts["tables"] = embeddings(inputs, codes, config, seed)

    def logits(parts: Any, columns: Mapping[str, Any], training: bool) -> Any:
        found = vectors(parts["tables"], columns, codes, training) if codes else []
        mixed = parts["experts"](tf.concat([*found, *(columns[name] for name in values)], 1))
        return tf.concat(
            [parts[f"logit_{name}"](parts[f"top_{name}"](mixed[name], training=training)) for name in names], 1
        )

    head = mm.BinaryOutput(
        inputs.label,
        to_call=tf.keras.layers.Activation("sigmoid"),
        default_loss=weighted_log_loss()(_weights(inputs, config)),
    )
    made = mm.Model(body()(parts, logits, len(names)), head, schema=feature_schema(inputs))
    made.labels = list(inputs.labels)
    return made


def _weights(inputs: Inputs, config: ModelConfig) -> list[float]:
    """The weight of each label's loss, in their order; ConfigError for names that are no label, or nothing but 0."""
    unknown = sorted(set(config.label_weights) - set(inputs.labels))
    found = [config.label_weights.get(label, 1.0) for label in inputs.labels]
    if unknown or not sum(found):
        raise ConfigError(
            "model.label_weights",
            expected=f"weights of the labels {', '.join(inputs.labels)}, one of them above 0",
            received=", ".join(unknown) or "0 for all",
        )
    return found


@cache
def weighted_log_loss() -> Any:
    """Return the class WeightedLogLoss."""
    tf = tensorflow()

    class WeightedLogLoss(tf.keras.losses.Loss):  # type: ignore[misc, name-defined]
        """The labels' log losses, averaged by weight: [batch, labels] twice -> [batch]."""

        def __init__(self, weights: Sequence[float]) -> None:
            super().__init__(name="weighted_log_loss")
            self.weights = [weight / sum(weights) for weight in weights]

        def call(self, labels: Any, probabilities: Any) -> Any:
            known = tf.cast(labels, probabilities.dtype)
            shown = tf.clip_by_value(probabilities, 1e-7, 1 - 1e-7)
            losses = -known * tf.math.log(shown) - (1 - known) * tf.math.log(1 - shown)
            return tf.linalg.matvec(losses, tf.constant(self.weights, probabilities.dtype))

    return WeightedLogLoss

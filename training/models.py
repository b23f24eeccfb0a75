"""Model architectures from Merlin Models' blocks: one builder a name.

Every model maps {feature: [batch, width]} to the click probability [batch, 1].
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

from etl.errors import ConfigError
from training.config import ModelConfig
from training.data import Inputs
from training.tensorflow import merlin_models, quiet, tensorflow

Builder = Callable[[Inputs, ModelConfig, int], Any]
BUILDERS: dict[str, Builder] = {}


def _model(name: str) -> Callable[[Builder], Builder]:
    def register(builder: Builder) -> Builder:
        if name in BUILDERS:
            raise ValueError(f"model {name!r} is registered twice")
        BUILDERS[name] = builder
        return builder

    return register


def build(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """Return the untrained, compiled Keras model called `config.name`; the same seed gives the same weights.

    Sets the global seeds of Python, NumPy and TensorFlow. ConfigError when the features do not suit the model.
    """
    if config.name not in BUILDERS:
        raise ConfigError("model", expected=f"one of {', '.join(sorted(BUILDERS))}", received=repr(config.name))
    tf = tensorflow()
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(seed)
    with quiet():
        model = BUILDERS[config.name](inputs, config, seed)
        model.compile(optimizer=_optimizer(config), metrics=[])
        model({feature.name: tf.zeros((1, feature.width), feature.dtype) for feature in inputs.features})
    return model


@_model("dlrm")
def _dlrm(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """DLRM (arXiv:1906.00091): dot products of every pair of embeddings, the continuous columns being one of them."""
    mm = merlin_models()
    codes, values = _by_kind(inputs)
    if not codes:
        raise ConfigError(
            "dlrm", expected="at least one categorical feature", received="none", hint="Use the model dcn_v2."
        )
    if len(codes) + bool(values) < 2:
        raise ConfigError(
            "dlrm", expected="at least two features", received=f"only {codes[0]}", hint="Use the model dcn_v2."
        )
    embeddings = _embeddings(inputs, codes, config, seed)
    interact = mm.SequentialBlock(mm.StackFeatures(axis=1), _pairwise_dots()())
    if not values:
        return mm.Model(embeddings, interact, _top(config), _output(inputs), schema=_features(inputs))
    if config.bottom[-1] != config.embedding_dim:
        raise ConfigError(
            "model.bottom",
            expected=f"a last width equal to embedding_dim ({config.embedding_dim})",
            received=str(config.bottom),
        )
    bottom = mm.ContinuousFeatures.from_schema(inputs.schema[values], aggregation="concat").connect(
        mm.MLPBlock(config.bottom)
    )
    body = mm.ParallelBlock({"embeddings": embeddings, "bottom_block": bottom}, is_input=True)
    body = body.connect_with_shortcut(interact, shortcut_filter=mm.Filter("bottom_block"), aggregation="concat")
    return mm.Model(body, _top(config), _output(inputs), schema=_features(inputs))


@_model("dcn_v2")
def _dcn_v2(inputs: Inputs, config: ModelConfig, seed: int) -> Any:
    """DCN-v2, stacked (arXiv:2008.13535): cross layers over all features side by side, then a perceptron."""
    mm = merlin_models()
    codes, values = _by_kind(inputs)
    branches = {}
    if codes:
        branches["categorical"] = _embeddings(inputs, codes, config, seed)
    if values:
        branches["continuous"] = mm.ContinuousFeatures.from_schema(inputs.schema[values])
    features = mm.ParallelBlock(branches, aggregation="concat", is_input=True)
    return mm.Model(
        features, mm.CrossBlock(config.cross_depth), _top(config), _output(inputs), schema=_features(inputs)
    )


def _by_kind(inputs: Inputs) -> tuple[list[str], list[str]]:
    codes = [feature.name for feature in inputs.features if feature.categorical]
    return codes, [feature.name for feature in inputs.features if not feature.categorical]


def _features(inputs: Inputs) -> Any:
    return inputs.schema[[feature.name for feature in inputs.features]]


def _embeddings(inputs: Inputs, codes: list[str], config: ModelConfig, seed: int) -> Any:
    """One table for every domain in the schema: jointly encoded columns share theirs.

    A Gaussian prior on every vector costs l2 * |vector|^2 once an epoch. A code's vector is in rows / cardinality rows
    of an epoch on average, so each row bears that part of the cost: ids seen seldom are held back more than a country.
    """
    return merlin_models().Embeddings(
        inputs.schema[codes],
        dim=config.embedding_dim,
        table_cls=_masked_embedding_table(),
        l2_batch_regularization_factor={
            feature.name: config.l2 * (feature.cardinality or 0) / inputs.rows for feature in inputs.features
        },
        id_dropout=config.id_dropout,
        seed=seed,
    )


def _top(config: ModelConfig) -> Any:
    return merlin_models().MLPBlock(config.top, dropout=config.dropout or None)


def _output(inputs: Inputs) -> Any:
    return merlin_models().BinaryOutput(inputs.label)


def _optimizer(config: ModelConfig) -> Any:
    tf = tensorflow()
    # Merlin Models trains with Keras' legacy optimizers, of which LazyAdam is one.
    legacy = tf.keras.optimizers.legacy
    made = {"lazy_adam": merlin_models().LazyAdam, "adam": legacy.Adam, "adagrad": legacy.Adagrad, "sgd": legacy.SGD}
    return made[config.optimizer](learning_rate=config.learning_rate)


def _is_id(feature: Any) -> bool:
    return bool({tag.value for tag in feature.tags} & {"user_id", "item_id", "id"})


@cache
def _masked_embedding_table() -> Any:
    """A Keras layer of our own; made on first use, since its base class comes with TensorFlow."""
    tf, mm = tensorflow(), merlin_models()

    @tf.keras.utils.register_keras_serializable(package="mews")
    class MaskedEmbeddingTable(mm.EmbeddingTable):  # type: ignore[misc, name-defined]
        """Merlin's table, with lists averaged over their values alone: code 0 is padding and counts for nothing.

        Merlin's own mean over a dense list counts the padding. A list of nothing but padding gives zeros. In training,
        the vectors of ids are replaced by zeros in a share `id_dropout` of the rows.
        """

        # Merlin's Embeddings passes on only what this signature names.
        def __init__(
            self,
            dim: int,
            *columns: Any,
            sequence_combiner: str = "mean",
            l2_batch_regularization_factor: float = 0.0,
            id_dropout: float = 0.0,
            seed: int = 0,
            **kwargs: Any,
        ) -> None:
            kwargs["l2_batch_regularization_factor"] = l2_batch_regularization_factor
            super().__init__(dim, *columns, sequence_combiner=sequence_combiner, **kwargs)
            self.id_dropout, self.seed = id_dropout, seed
            # What is hidden follows from the step's number alone, so that a resumed run hides the same.
            self.steps = self.add_weight("steps", dtype="int32", trainable=False, initializer="zeros")

        def call(self, inputs: Any, training: bool = False, **kwargs: Any) -> Any:
            if not isinstance(inputs, dict):  # the model's only categorical column comes as it is
                (name,) = self.schema.column_names
                return self.call({name: inputs}, training)[name]
            found = {name: self._vectors(inputs[name]) for name in self.schema.column_names if name in inputs}
            if training and self.id_dropout:
                self.steps.assign_add(1)
                hidden = [name for name in found if _is_id(self.features[name])]
                found |= {name: self._hide(name, found[name]) for name in hidden}
            return found

        def _hide(self, name: str, vectors: Any) -> Any:
            seed = tf.stack([(self.seed ^ zlib.crc32(name.encode())) % 2**31, self.steps])
            shown = tf.random.stateless_uniform((tf.shape(vectors)[0], 1), seed) >= self.id_dropout
            return vectors * tf.cast(shown, vectors.dtype)

        def _vectors(self, inputs: Any) -> Any:
            codes = tf.squeeze(inputs, -1)  # scalars [batch], lists [batch, length]
            vectors = tf.gather(self.table.embeddings, codes)  # [batch, dim] or [batch, length, dim]
            if codes.shape.rank == 2:
                present = tf.minimum(tf.cast(codes, vectors.dtype), 1.0)  # [batch, length], 0 for padding
                share = present / tf.maximum(tf.reduce_sum(present, 1, keepdims=True), 1.0)
                vectors = tf.squeeze(tf.matmul(tf.expand_dims(share, 1), vectors), 1)  # [batch, dim]
            if self.l2_batch_regularization_factor > 0:
                # The mean over rows, so that the penalty does not grow with the batch.
                self.add_loss(self.l2_batch_regularization_factor * tf.reduce_mean(tf.reduce_sum(vectors**2, -1)))
            return vectors

    return MaskedEmbeddingTable


@cache
def _pairwise_dots() -> Any:
    """A Keras layer of our own; made on first use, since its base class comes with TensorFlow."""
    tf = tensorflow()

    @tf.keras.utils.register_keras_serializable(package="mews")
    class PairwiseDots(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """[batch, features, dim] -> the dot product of every pair of features, [batch, features * (features - 1) / 2].

        The same numbers as Merlin's DotProductInteraction, whose mask is computed anew for every batch.
        """

        def call(self, inputs: Any) -> Any:
            count = inputs.shape[1]
            dots = tf.reshape(tf.matmul(inputs, inputs, transpose_b=True), (-1, count * count))
            return tf.gather(dots, [i * count + j for i in range(count) for j in range(i + 1, count)], axis=1)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return tf.TensorShape([input_shape[0], input_shape[1] * (input_shape[1] - 1) // 2])

    return PairwiseDots

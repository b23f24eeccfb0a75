"""Keras layers of our own; each class is made on first use, since its base class comes with TensorFlow."""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any

from training.tensorflow import merlin_models, tensorflow


def _is_id(feature: Any) -> bool:
    return bool({tag.value for tag in feature.tags} & {"user_id", "item_id", "id"})


@cache
def masked_embedding_table() -> Any:
    """Return the class MaskedEmbeddingTable."""
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
def pairwise_dots() -> Any:
    """Return the class PairwiseDots."""
    tf = tensorflow()

    @tf.keras.utils.register_keras_serializable(package="mews")
    class PairwiseDots(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """[batch, features, dim] -> the dot product of every pair of features, [batch, features * (features - 1) / 2].

        The same numbers as Merlin's DotProductInteraction, whose mask is computed anew for every batch. Training
        takes them row by row of the triangle: picking them one by one, and adding up their gradients so, is slower.
        """

        def call(self, inputs: Any, training: bool = False) -> Any:
            count = inputs.shape[1]
            if training:
                return _triangle()(inputs)
            dots = tf.reshape(tf.matmul(inputs, inputs, transpose_b=True), (-1, count * count))
            return tf.gather(dots, [i * count + j for i in range(count) for j in range(i + 1, count)], axis=1)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return tf.TensorShape([input_shape[0], input_shape[1] * (input_shape[1] - 1) // 2])

    return PairwiseDots


@cache
def _triangle() -> Any:
    """Return the function of PairwiseDots with a gradient of its own."""
    tf = tensorflow()

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def triangle(vectors: Any) -> Any:
        count = vectors.shape[1]
        dots = tf.matmul(vectors, vectors, transpose_b=True)
        lengths = [count - 1 - row for row in range(count - 1)]

        def gradient(upstream: Any) -> Any:
            rows = tf.split(upstream, lengths, axis=1)
            padded = [tf.pad(row, [[0, 0], [count - length, 0]]) for row, length in zip(rows, lengths, strict=True)]
            upper = tf.reshape(tf.concat([*padded, tf.zeros_like(padded[0])], 1), (-1, count, count))
            return tf.matmul(upper, vectors) + tf.matmul(upper, vectors, transpose_a=True)

        return tf.concat([dots[:, row, row + 1 :] for row in range(count - 1)], 1), gradient

    return triangle

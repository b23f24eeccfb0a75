"""Embedding tables of many features in one variable, looked up at once, and held in large pages of memory."""

from __future__ import annotations

import ctypes
import mmap
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from training.inputs import Feature, Inputs
from training.tensorflow import tensorflow

_SPREAD = 0.05  # Merlin's tables begin between -0.05 and 0.05
_INT32_ROWS = 2**31
_COLLAPSE = 25  # MADV_COLLAPSE (Linux 6.1): make large pages of memory that is in use, now
_LARGE_PAGE = 2**21
_WORTH_IT = 4 * _LARGE_PAGE


def layout(inputs: Inputs, features: Sequence[Feature]) -> tuple[dict[str, int], int]:
    """Return the first row of each feature in the common table, and the table's rows.

    Columns that are encoded jointly have the same rows.
    """
    starts: dict[str, int] = {}
    sizes: dict[str, int] = {}
    domains = {feature.name: inputs.schema[feature.name].int_domain.name or feature.name for feature in features}
    for feature in features:
        domain = domains[feature.name]
        sizes[domain] = max(sizes.get(domain, 0), feature.cardinality or 0)
    total = 0
    for domain, size in sizes.items():
        starts[domain], total = total, total + size
    return {feature.name: starts[domains[feature.name]] for feature in features}, total


@cache
def grouped_embeddings() -> Any:
    """Return the class GroupedEmbeddings."""
    tf = tensorflow()

    class GroupedEmbeddings(tf.keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Vectors of many features from one variable `embeddings` [rows of all tables, dim], by one gather.

        {feature: scalars [batch, 1], lists [batch, length] or [batch, length, 1]} -> {feature: [batch, dim]}, or with
        `stacked` one tensor [batch, features, dim]. A feature's code c is row starts[feature] + c. Lists are averaged
        over their values alone: code 0 is padding. `l2` by feature costs l2 * |vector|^2, the mean over rows; in
        training, the vectors of ids are zeros in a share `id_dropout` of the rows. As MaskedEmbeddingTable, whose
        numbers these are; one gather and one update cost far less than one for each feature.
        """

        def __init__(
            self,
            inputs: Inputs,
            features: Sequence[Feature],
            dim: int,
            l2: Mapping[str, float],
            id_dropout: float = 0.0,
            seed: int = 0,
            stacked: bool = False,
        ) -> None:
            super().__init__(name="embeddings")
            self.features, self.dim, self.stacked = tuple(features), dim, stacked
            self.l2 = np.array([l2.get(feature.name, 0.0) for feature in features], "float32")
            self.id_dropout, self.seed = id_dropout, seed
            self.starts, self.rows = layout(inputs, features)

        def build(self, shapes: Any) -> None:
            spread = tf.keras.initializers.RandomUniform(-_SPREAD, _SPREAD, seed=self.seed)
            self.embeddings = self.add_weight("embeddings", (self.rows, self.dim), initializer=spread)
            # What is hidden follows from the step's number alone, so that a resumed run hides the same.
            self.steps = self.add_weight("steps", dtype="int32", trainable=False, initializer="zeros")
            super().build(shapes)

        def call(self, columns: Mapping[str, Any], training: bool = False) -> Any:
            found = self._vectors(columns, training)
            if self.l2.any():
                self.add_loss(_prior()(tf.cast(found, "float32"), tf.constant(self.l2)))
            if training and self.id_dropout:
                self.steps.assign_add(1)
                found = self._hidden(found)
            names = [feature.name for feature in self.features]
            return found if self.stacked else dict(zip(names, tf.unstack(found, axis=1), strict=True))

        def _vectors(self, columns: Mapping[str, Any], training: bool) -> Any:
            """[batch, features, dim]."""
            codes = [_two_dimensional(columns[feature.name]) for feature in self.features]
            widths = [feature.width for feature in self.features]
            # Half as wide, half the time to find which rows are the same; serving would only pay for the cast.
            kind = tf.int32 if training and self.rows < _INT32_ROWS else tf.int64
            starts = tf.constant(np.repeat([self.starts[f.name] for f in self.features], widths), kind)
            found = tf.gather(self.embeddings, tf.cast(tf.concat(codes, 1), kind) + starts)  # [batch, all widths, dim]
            if all(feature.length is None for feature in self.features):
                return found
            return self._joined(tf.split(found, widths, axis=1), codes)

        def _joined(self, found: Sequence[Any], codes: Sequence[Any]) -> Any:
            """[batch, 1 or length, dim] of each feature -> [batch, features, dim], lists averaged."""
            joined = [
                _averaged(vectors, own) if feature.length else vectors
                for vectors, own, feature in zip(found, codes, self.features, strict=True)
            ]
            return tf.concat(joined, 1)

        def _hidden(self, vectors: Any) -> Any:
            shown = []
            for feature in self.features:
                seed = tf.stack([(self.seed ^ zlib.crc32(feature.name.encode())) % 2**31, self.steps])
                drawn = tf.random.stateless_uniform((tf.shape(vectors)[0], 1), seed) >= self.id_dropout
                is_id = bool(set(feature.tags) & {"user_id", "item_id", "id"})
                shown.append(tf.cast(drawn, vectors.dtype) if is_id else tf.ones_like(vectors[:, 0, :1]))
            return vectors * tf.expand_dims(tf.concat(shown, 1), -1)

        def compute_output_shape(self, shapes: Any) -> Any:
            if self.stacked:
                return tf.TensorShape([None, len(self.features), self.dim])
            return {feature.name: tf.TensorShape([None, self.dim]) for feature in self.features}

    return GroupedEmbeddings


def _two_dimensional(codes: Any) -> Any:
    """[batch, length, 1], as Merlin's models hand lists on, -> [batch, length]; others stay as they are."""
    return tensorflow().squeeze(codes, -1) if codes.shape.rank == 3 else codes


def _averaged(vectors: Any, codes: Any) -> Any:
    """[batch, length, dim] -> [batch, 1, dim]: the mean where the code is not 0, zeros where all are."""
    tf = tensorflow()
    present = tf.minimum(tf.cast(codes, vectors.dtype), 1.0)
    share = present / tf.maximum(tf.reduce_sum(present, 1, keepdims=True), 1.0)
    return tf.matmul(tf.expand_dims(share, 1), vectors)


@cache
def _prior() -> Any:
    """Return the function: vectors [batch, features, dim], weights [features] -> what the vectors cost, a scalar."""
    tf = tensorflow()

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def prior(vectors: Any, weights: Any) -> Any:
        scale = weights / tf.cast(tf.shape(vectors)[0], weights.dtype)
        cost = tf.reduce_sum(tf.reduce_sum(vectors**2, axis=[0, 2]) * scale)
        return cost, lambda upstream: (vectors * tf.expand_dims(2.0 * upstream * scale, -1), None)

    return prior


def in_large_pages(variable: Any) -> None:
    """Ask Linux to hold a large variable in pages of 2 MiB: rows are read at random, and each page must be found.

    With pages of 4 KiB, finding them is a third of the time of a step with a million rows a table. Does nothing where
    the system cannot do it.
    """
    if variable.shape.num_elements() * variable.dtype.size < _WORTH_IT or "CPU" not in variable.device:
        return
    held = variable.read_value()  # shares the variable's memory
    view = np.frombuffer(memoryview(held), dtype="uint8")
    first = -(-view.ctypes.data // _LARGE_PAGE) * _LARGE_PAGE
    size = (view.ctypes.data + view.nbytes - first) // _LARGE_PAGE * _LARGE_PAGE
    if size > 0 and hasattr(mmap, "MADV_HUGEPAGE"):
        libc = ctypes.CDLL(None)
        for advice in (mmap.MADV_HUGEPAGE, _COLLAPSE):
            libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), advice)

"""Keras by hand: an Embedding for every column, tf.data with rows read ahead, `fit`, Adam.

python -m benchmarks.training.keras --data DIR --out DIR
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from benchmarks.training import (
    BOTTOM,
    CODES,
    LEARNING_RATE,
    TEMPERATURE,
    TOP,
    TOWER,
    USER_CODES,
    USER_VALUES,
    VALUES,
    Job,
    Meter,
    Scores,
    main,
)
from benchmarks.training.rows import batches
from training.tensorflow import tensorflow


def train(job: Job, meter: Meter) -> Scores:
    """One pass of `fit`."""
    tf = tensorflow()
    keras = tf.keras
    keras.utils.set_random_seed(job.seed)
    codes, values = keras.Input((len(CODES),), dtype="int64"), keras.Input((len(VALUES),))
    tables = [keras.layers.Embedding(job.cardinality, job.dim) for _ in CODES]
    vectors = [table(codes[:, at]) for at, table in enumerate(tables)]
    model = keras.Model((codes, values), (_dlrm if job.model == "dlrm" else _two_tower)(job, vectors, values))
    loss = keras.losses.BinaryCrossentropy() if job.model == "dlrm" else _among_the_batch
    model.compile(keras.optimizers.Adam(LEARNING_RATE), loss)

    class Told(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            meter(min((batch + 1) * job.batch, job.rows))

    model.fit(_rows(job), epochs=1, verbose=0, callbacks=[Told()])
    return _scores(job, model)


def _rows(job: Job) -> Any:
    tf = tensorflow()

    def read() -> Any:
        for codes, values, labels in batches(job.train, job.batch, job.seed):
            yield (codes, values), labels[:, None]

    kinds = (tf.TensorSpec([None, len(CODES)], "int64"), tf.TensorSpec([None, len(VALUES)], "float32"))
    made = tf.data.Dataset.from_generator(read, output_signature=(kinds, tf.TensorSpec([None, 1], "float32")))
    return made.prefetch(4)


def _dlrm(job: Job, vectors: list[Any], values: Any) -> Any:
    tf = tensorflow()
    dense = tf.keras.layers.Dense
    bottom = dense(job.dim, "relu")(dense(BOTTOM, "relu")(values))
    stacked = tf.stack([bottom, *vectors], 1)
    count = len(vectors) + 1
    dots = tf.reshape(tf.matmul(stacked, stacked, transpose_b=True), (-1, count * count))
    pairs = [row * count + column for row in range(count) for column in range(row + 1, count)]
    top = tf.concat([bottom, tf.gather(dots, pairs, axis=1)], 1)
    for width in TOP:
        top = dense(width, "relu")(top)
    return dense(1, "sigmoid")(top)


def _two_tower(job: Job, vectors: list[Any], values: Any) -> Any:
    """User and item vectors side by side, [batch, 2 dim]."""
    tf = tensorflow()
    dense = tf.keras.layers.Dense
    users = tf.concat([*vectors[:USER_CODES], values[:, :USER_VALUES]], 1)
    items = tf.concat([*vectors[USER_CODES:], values[:, USER_VALUES:]], 1)
    sides = [tf.math.l2_normalize(dense(job.dim)(dense(TOWER, "relu")(side)), 1) for side in (users, items)]
    return tf.concat(sides, 1)


def _among_the_batch(_: Any, pairs: Any) -> Any:
    tf = tensorflow()
    users, items = tf.split(pairs, 2, axis=1)
    scores = tf.matmul(users, items, transpose_b=True) / TEMPERATURE
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(tf.shape(scores)[0]), scores)


def _scores(job: Job, model: Any) -> Scores:
    found = [np.asarray(model((codes, values), training=False)) for codes, values, _ in batches(job.valid, 16_384)]
    answers = np.concatenate(found)
    scores: Scores = answers[:, 0]
    if job.model == "two_tower":
        scores = (answers[:, : job.dim] * answers[:, job.dim :]).sum(1)
    return scores


if __name__ == "__main__":
    sys.exit(main(train))

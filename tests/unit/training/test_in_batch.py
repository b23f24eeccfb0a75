"""The softmax among a batch: its value and gradient are those of the plain formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from training.models.in_batch import cross_entropy, shared
from training.tensorflow import tensorflow

tf = tensorflow()

ROWS, DIM = 64, 5


def plain(users: Any, items: Any, log_q: Any, keys: list[Any]) -> Any:
    """The same, op by op."""
    scores = tf.matmul(users, items, transpose_b=True) - log_q[None, :]
    for key in keys:
        same = tf.linalg.set_diag(key[:, None] == key[None, :], tf.zeros_like(key, "bool"))
        scores = tf.where(same, -1e9, scores)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(len(users)), scores)


def learned(loss: Any, rows: int, keys: list[Any]) -> list[Any]:
    random = np.random.default_rng(0)
    users, items = (tf.constant(random.normal(size=(rows, DIM)).astype("float32")) for _ in range(2))
    log_q, weight = (tf.constant(random.random(rows).astype("float32")) for _ in range(2))
    with tf.GradientTape() as tape:
        tape.watch([users, items])
        losses = loss(users * 7.0, items, log_q, keys)
        whole = tf.reduce_sum(losses * weight)
    return [losses.numpy(), *(one.numpy() for one in tape.gradient(whole, [users, items]))]


@pytest.mark.parametrize("kinds", [1, 3, 20, 10_000], ids=lambda kinds: f"{kinds} items")
def test_value_and_gradient_are_those_of_the_formula(kinds: int) -> None:
    random = np.random.default_rng(kinds)
    keys = [tf.constant(random.integers(0, kinds, ROWS)), tf.constant(random.integers(0, 40, ROWS))]
    for ours, expected in zip(learned(cross_entropy, ROWS, keys), learned(plain, ROWS, keys), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_a_batch_without_a_choice_has_no_loss() -> None:
    assert [len(one) for one in learned(cross_entropy, 0, [tf.constant([], "int64")])] == [0, 0, 0]


def test_the_pairs_are_all_pairs_of_a_group() -> None:
    group = np.random.default_rng(1).integers(0, 9, 30)
    _, codes, sizes = tf.unique_with_counts(tf.constant(group))
    found = {(int(a), int(b)) for a, b in shared(codes, sizes).numpy()}
    assert found == {(a, b) for a in range(30) for b in range(30) if a != b and group[a] == group[b]}

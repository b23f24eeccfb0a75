"""The softmax of each row's item among the batch's, with its gradient written out.

The scores are [rows, rows], 64 MiB at 4,096, and every pass over them costs as much as the matrix product that made
them. Differentiated op by op there are about 15 passes; here there are 4, and three matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.tensorflow import tensorflow

_LOWEST = -1e9
_MANY = 8
"""Above one pair in so many, a mask of all pairs takes less memory than a list of those that do not count."""


def cross_entropy(users: Any, items: Any, log_q: Any, keys: Sequence[Any]) -> Any:
    """Return -log softmax(users . items - log_q)[i, i] of each row, [rows].

    `users` and `items` are [rows, dim], what dot products are divided by being in `users`; `log_q` [rows] is each
    item's log of how often it comes up. Each of `keys`, int64 [rows], says which rows do not count as each other's
    negatives: those that share it.
    """
    tf = tensorflow()

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def loss(users: Any, items: Any) -> Any:
        one = tf.ones_like(log_q)[:, None]
        left, right = tf.concat([users, one], 1), tf.concat([items, -log_q[:, None]], 1)
        scores = tf.matmul(left, right, transpose_b=True)
        for key in keys:
            scores = without(scores, key)
        highest = tf.reduce_max(scores, 1, keepdims=True)
        weights = tf.exp(scores - highest)
        total = tf.reduce_sum(weights, 1, keepdims=True)
        own = tf.reduce_sum(left * right, 1)

        def gradient(upstream: Any) -> Any:
            share, up = upstream[:, None] / total, upstream[:, None]
            to_users = share * tf.matmul(weights, items) - up * items
            to_items = tf.matmul(weights, share * users, transpose_a=True) - up * users
            return to_users, to_items

        return tf.math.log(total[:, 0]) + highest[:, 0] - own, gradient

    return loss(users, items)


def without(scores: Any, key: Any) -> Any:
    """Return the scores [rows, rows], too low to matter where two rows, not one, share the key, int64 [rows]."""
    tf = tensorflow()
    _, group, sizes = tf.unique_with_counts(key)
    count = tf.cast(tf.size(key), "int64")

    def few() -> Any:
        pairs = shared(group, sizes)
        return tf.tensor_scatter_nd_update(scores, pairs, tf.fill([tf.shape(pairs)[0]], _LOWEST))

    def many() -> Any:
        apart = tf.linalg.set_diag(group[:, None] != group[None, :], tf.ones_like(group, "bool"))
        return tf.where(apart, scores, _LOWEST)

    return tf.cond(tf.reduce_sum(tf.cast(sizes, "int64") ** 2) * _MANY < count**2, few, many)


def shared(group: Any, sizes: Any) -> Any:
    """Return the pairs of different rows of one group, int32 [pairs, 2], of `group` [rows] and `sizes` [groups].

    Rows are sorted by group; each is then paired with the places of its group but its own. (tf.repeat would make a
    mask [rows, largest group].)
    """
    tf = tensorflow()
    order = tf.argsort(group, stable=True)
    own = tf.gather(group, order)
    partners, first = tf.gather(sizes, own) - 1, tf.gather(tf.cumsum(sizes, exclusive=True), own)
    start, total = tf.cumsum(partners, exclusive=True), tf.reduce_sum(partners)
    # Place r of the sorted rows, as often as it has partners; those without any add up at the start of the next.
    row = tf.cumsum(tf.scatter_nd(start[:, None], tf.ones_like(start), [total + 1]))[:-1] - 1
    partner = tf.range(total) - tf.gather(start - first, row)
    partner += tf.cast(partner >= row, "int32")
    return tf.stack([tf.gather(order, row), tf.gather(order, partner)], 1)

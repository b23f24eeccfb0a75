"""Tables in one variable give what separate tables give, and Mews' LazyAdam what Merlin's does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training import data
from training.config import ModelConfig
from training.models.blocks import embeddings, grouped
from training.models.lazy_adam import lazy_adam
from training.models.tables import in_large_pages
from training.tensorflow import merlin_models, quiet, tensorflow

CODES = ("user", "item", "tags")


@pytest.fixture(scope="module")
def inputs(features: Path) -> data.Inputs:
    return data.read_inputs(features / "train")


def pair(inputs: data.Inputs, **settings: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Separate tables and one for all with the same vectors, and a batch of codes."""
    tf = tensorflow()
    config = ModelConfig(embedding_dim=4, **settings)
    columns, *_ = next(iter(data.loader(inputs.folder, inputs, 64)))  # type: ignore[arg-type]
    codes = {name: columns[name][..., None] if name == "tags" else columns[name] for name in CODES}
    with quiet():
        apart, together = embeddings(inputs, CODES, config, seed=5), grouped(inputs, CODES, config, seed=5)
        apart(codes), together(codes)
    tables = {value.shape[0]: value for value in apart.trainable_variables}
    ordered = [tables[next(one.cardinality for one in inputs.features if one.name == name)] for name in CODES]
    together.embeddings.assign(tf.concat(ordered, 0))
    return (apart, ordered), together, codes


def gradients(block: Any, variables: Any, codes: Any) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss of priors alone, the vectors, and the gradient of a sum of squares, whole."""
    tf = tensorflow()
    with quiet(), tf.GradientTape() as tape:
        found = block(codes, training=True)
        vectors = tf.stack([found[name] for name in CODES], 1)
        prior = tf.add_n(block.losses)
        loss = tf.reduce_sum(vectors**2) + prior
    made = [tf.convert_to_tensor(each) for each in tape.gradient(loss, variables)]
    return float(prior), vectors.numpy(), np.concatenate([each.numpy() for each in made])


@pytest.mark.parametrize("id_dropout", [0.0, 0.5])
def test_one_table_gives_the_same_vectors_priors_and_gradients(inputs: data.Inputs, id_dropout: float) -> None:
    (apart, tables), together, codes = pair(inputs, l2=20.0, id_dropout=id_dropout)
    wanted, found = gradients(apart, tables, codes), gradients(together, [together.embeddings], codes)
    assert found[0] == pytest.approx(wanted[0], rel=1e-5)
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-7)
    np.testing.assert_allclose(found[2], wanted[2], atol=1e-6)
    assert (id_dropout > 0) == bool((found[1][:, 0] == 0).all(1).any())


def test_each_feature_has_rows_of_its_own(inputs: data.Inputs) -> None:
    _, together, _ = pair(inputs)
    sizes = {feature.name: feature.cardinality for feature in inputs.features if feature.categorical}
    ends = [together.starts[name] + (sizes[name] or 0) for name in CODES]
    assert [together.starts[name] for name in CODES] == [0, *ends[:-1]]
    assert together.rows == ends[-1]


def steps(optimizer: Any, sparse: bool) -> list[np.ndarray]:
    """Vectors after five steps in which rows occur several times, and some never."""
    tf, random = tensorflow(), np.random.default_rng(3)
    table = tf.Variable(random.normal(size=(40, 4)).astype("float32"))
    if hasattr(optimizer, "prepare"):
        optimizer.prepare([table])
    for _ in range(5):
        rows = random.integers(0, 20, 64)
        values = tf.constant(random.normal(size=(64, 4)).astype("float32"))
        given = tf.IndexedSlices(values, tf.constant(rows), tf.constant([40, 4]))
        optimizer.apply_gradients([(given if sparse else tf.convert_to_tensor(given), table)])
    return [table.numpy(), *(optimizer.get_slot(table, name).numpy() for name in ("m", "v"))]


def test_lazy_adam_gives_the_numbers_of_merlins() -> None:
    with quiet():
        wanted, found = (steps(made(0.01), sparse=True) for made in (merlin_models().LazyAdam, lazy_adam()))
    for one, two in zip(wanted, found, strict=True):
        np.testing.assert_allclose(two, one, rtol=2e-5, atol=1e-7)


def test_lazy_adam_is_adam_where_all_rows_are_touched_and_leaves_others_alone() -> None:
    tf = tensorflow()
    table, dense = (tf.Variable(tf.ones((6, 2))) for _ in range(2))
    with quiet():
        lazy, adam = lazy_adam()(0.1), tf.keras.optimizers.legacy.Adam(0.1)
        for step in range(3):
            values = tf.fill((4, 2), 1.0 + step)
            lazy.apply_gradients([(tf.IndexedSlices(values, tf.constant([0, 1, 2, 3]), tf.constant([6, 2])), table)])
            adam.apply_gradients([(tf.concat([values, tf.zeros((2, 2))], 0), dense)])
    np.testing.assert_allclose(table.numpy(), dense.numpy(), rtol=1e-6)
    assert (table.numpy()[4:] == 1).all()


def test_large_pages_change_no_value() -> None:
    tf = tensorflow()
    table = tf.Variable(tf.random.stateless_uniform((200_000, 16), (1, 2)))
    before = table.numpy().copy()
    in_large_pages(table)
    table.scatter_sub(tf.IndexedSlices(tf.ones((1, 16)), tf.constant([7])))
    before[7] -= 1
    np.testing.assert_array_equal(table.numpy(), before)

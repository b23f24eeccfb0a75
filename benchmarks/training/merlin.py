"""Merlin Models as its examples have it: its model, its loader, `fit`, Adam.

python -m benchmarks.training.merlin --data DIR --out DIR
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.training import BOTTOM, LABEL, LEARNING_RATE, TEMPERATURE, TOP, TOWER, Job, Meter, Scores, main
from training.tensorflow import merlin_models, quiet, tensorflow


def train(job: Job, meter: Meter) -> Scores:
    """Adam updates every row of every table."""
    return fit(job, meter, "adam")


def fit(job: Job, meter: Meter, optimizer: str) -> Scores:
    """One pass of `fit` with `adam` or Merlin's `lazy_adam`."""
    tf, mm = tensorflow(), merlin_models()
    from merlin.io import Dataset

    tf.keras.utils.set_random_seed(job.seed)
    with quiet():
        rows, held_out = (
            Dataset(str(folder / "*.parquet"), schema=_schema(folder, job.model)) for folder in (job.train, job.valid)
        )
        model = _dlrm(job, rows.schema) if job.model == "dlrm" else _two_tower(job, rows.schema)
        made = {"adam": tf.keras.optimizers.Adam, "lazy_adam": mm.LazyAdam}[optimizer]
        model.compile(optimizer=made(learning_rate=LEARNING_RATE), metrics=[])
        model.fit(mm.Loader(rows, job.batch, shuffle=True), epochs=1, verbose=0, callbacks=[_told(job, meter)])
        return _scores(job, model, mm.Loader(held_out, 16_384, shuffle=False))


def _schema(folder: Path, model: str) -> Any:
    """The schema; of two_tower without the label, since its target is the item."""
    from merlin.schema.io.tensorflow_metadata import TensorflowMetadata

    found = TensorflowMetadata.from_json_file(str(folder / ".merlin")).to_merlin_schema()
    return found.excluding_by_name([LABEL]) if model == "two_tower" else found


def _dlrm(job: Job, schema: Any) -> Any:
    mm = merlin_models()
    return mm.DLRMModel(
        schema,
        embedding_dim=job.dim,
        bottom_block=mm.MLPBlock([BOTTOM, job.dim]),
        top_block=mm.MLPBlock(list(TOP)),
        prediction_tasks=mm.BinaryOutput(LABEL),
    )


def _two_tower(job: Job, schema: Any) -> Any:
    from merlin.schema import Tags

    mm = merlin_models()
    tower = {"no_activation_last_layer": True}
    encoders = [
        mm.Encoder(
            mm.InputBlockV2(side, categorical=mm.Embeddings(side.select_by_tag(Tags.CATEGORICAL), dim=job.dim)),
            mm.MLPBlock([TOWER, job.dim], **tower),
            post=mm.L2Norm(),
        )
        for side in (schema.select_by_tag(Tags.USER), schema.select_by_tag(Tags.ITEM))
    ]
    return mm.TwoTowerModelV2(*encoders, schema=schema, logits_temperature=TEMPERATURE)


def _told(job: Job, meter: Meter) -> Any:
    class Told(tensorflow().keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            meter(min((batch + 1) * job.batch, job.rows))

    return Told()


def _scores(job: Job, model: Any, loader: Any) -> Scores:
    tf = tensorflow()
    if job.model == "dlrm":
        answer = tf.function(lambda columns: model(columns, training=False), reduce_retracing=True)
    else:
        sides = model.query_encoder, model.candidate_encoder
        answer = tf.function(
            lambda columns: tf.reduce_sum(sides[0](columns) * sides[1](columns), 1), reduce_retracing=True
        )
    return np.concatenate([np.reshape(answer(columns), -1) for columns, _ in loader])


if __name__ == "__main__":
    sys.exit(main(train))

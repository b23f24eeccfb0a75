"""Mews: the training loop, the loader and the model that `mews train` uses, without regularization.

python -m benchmarks.training.mews --data DIR --out DIR
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.training import BOTTOM, LEARNING_RATE, TEMPERATURE, TOP, TOWER, Job, Meter, Scores, main
from etl.names import SCORE
from training import data
from training.checkpoint import Checkpoint
from training.config import ModelConfig, TrainConfig
from training.distributed import Workers
from training.history import Position
from training.loop import Job as TrainingJob
from training.loop import Loop
from training.models.precision import networks
from training.tasks import task_of
from training.tensorflow import tensorflow
from training.tracking import Trackers
from training.weights import Weighting


def train(job: Job, meter: Meter) -> Scores:
    """One pass; nothing is written on the way."""
    tensorflow().config.experimental.enable_op_determinism()
    inputs, config = data.read_inputs(job.train), _config(job)
    nets = networks(inputs, config, TrainConfig(), job.seed)
    task = task_of(config.name)
    folders = job.train, job.valid
    own = TrainingJob(inputs, task, config, TrainConfig(), folders, job.scratch / "model", job.seed, Weighting(None))
    loop = _Once(
        own,
        nets,
        Workers(),
        Checkpoint(job.scratch / "checkpoint", "", nets.trained),
        Trackers(),
        lambda what, rows, *_: meter(rows),
        lambda _: None,
        Position(),
    )
    loop.run()
    return loop.scores()


class _Once(Loop):
    """The loop, which keeps no checkpoint here."""

    def _keep(self) -> None:
        """At 1 million rows a table it has gigabytes, and takes as long as the disk does."""

    def scores(self) -> Scores:
        """Return the probabilities of the held-out rows; of two_tower the products, since all its rows are choices."""
        if self.job.config.name == "two_tower":
            return np.concatenate([self._products(batch) for batch in self._held_out()])
        labels = data.labels(self.job.folders[1], self.job.inputs.label)
        return np.concatenate([answers[SCORE][:, 0] for _, answers in self._answers(labels)])

    def _held_out(self) -> Iterator[dict[str, Any]]:
        return data.batches(self.job.folders[1], self.job.inputs.features)

    def _products(self, batch: dict[str, Any]) -> Scores:
        tf, model = tensorflow(), self.networks.served
        columns = {name: tf.constant(values) for name, values in batch.items()}
        products: Scores = tf.reduce_sum(model.user_tower(columns) * model.item_tower(columns), 1).numpy()
        return products


def _config(job: Job) -> ModelConfig:
    tower = job.model == "two_tower"
    return ModelConfig(
        name=job.model,
        embedding_dim=job.dim,
        bottom=[BOTTOM, job.dim],
        top=[TOWER] if tower else list(TOP),
        temperature=TEMPERATURE,
        l2=0.0,
        learning_rate=LEARNING_RATE,
        batch_size=job.batch,
        epochs=1,
    )


if __name__ == "__main__":
    sys.exit(main(train))

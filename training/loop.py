"""The training loop: passes over the rows, checkpoints on the way, an epoch judged after each pass."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.atomic import atomic_file
from etl.errors import ConfigError, MewsError
from etl.progress import Progress
from training import data
from training.checkpoint import Checkpoint
from training.config import ModelConfig, TrainConfig
from training.distributed import Workers
from training.history import Epoch, Pass, Position
from training.models.precision import Networks
from training.schedules import factor
from training.tasks import Task
from training.tensorflow import quiet, tensorflow
from training.tracking import Tracker
from training.weights import Weighting


@dataclass(frozen=True)
class Job:
    """What is trained, on which rows, and how."""

    inputs: data.Inputs
    task: Task
    config: ModelConfig
    train: TrainConfig
    folders: tuple[Path, Path]
    out: Path
    seed: int
    weighting: Weighting

    @property
    def steps(self) -> int:
        """Steps of one epoch."""
        return math.ceil(self.inputs.rows / self.config.batch_size)


@dataclass
class Loop:
    """One training, from `position` to its end."""

    job: Job
    networks: Networks
    workers: Workers
    checkpoint: Checkpoint
    tracker: Tracker
    progress: Progress
    after_epoch: Callable[[Epoch], None]
    position: Position

    def __post_init__(self) -> None:
        job, tf = self.job, tensorflow()
        columns = {feature.name: tf.TensorSpec([None, feature.width], feature.dtype) for feature in job.inputs.features}
        batch = [columns, tf.TensorSpec([None, len(job.inputs.labels)], job.task.label_dtype)]
        if job.inputs.weight:
            batch.append(tf.TensorSpec([None, 1], "float32"))
        self.workers.join(self.networks.trained.optimizer)
        # One trace for every batch size; autograph would take 5 s to find nothing to rewrite.
        self.step = tf.function(self._step, input_signature=[batch, tf.TensorSpec([], "float32")], autograph=False)
        self.answer = tf.function(
            lambda columns: job.task.answer(self.networks.served, columns), input_signature=[columns], autograph=False
        )

    def _step(self, batch: list[Any], share: Any) -> Any:
        """The loss of the whole batch without and with regularization, [2]."""
        columns, labels, *weight = batch
        self.workers.share = share
        weights = self.job.weighting.of(labels, weight[0] if weight else None)
        given = (columns, labels) if weights is None else (columns, labels, weights)
        try:
            metrics = self.networks.trained.train_step(given)
        except (ValueError, TypeError) as error:
            if weights is None or "unpack" not in str(error):
                raise
            raise ConfigError(
                f"weights of rows with the model {self.job.config.name}",
                expected="a model that takes them",
                received="one that does not",
                hint="Leave out train.class_weight, and give the weight column the role ignore.",
            ) from error
        loss = tensorflow().cast(metrics["loss_batch"], "float32")
        data_loss = loss - tensorflow().cast(metrics["regularization_loss"], "float32")
        return self.workers.sum(tensorflow().stack([data_loss, loss]) * share)

    @property
    def finished(self) -> bool:
        """Whether training has stopped: all epochs, or no better one for more than `patience`."""
        done = len(self.position.epochs)
        return done >= self.job.config.epochs or (done > 0 and done - self.position.best > self.job.config.patience)

    def run(self) -> None:
        """Train until finished, with a checkpoint after every epoch and, if asked for, every so many steps."""
        job = self.job
        self.loader = data.loader(
            job.folders[0], job.inputs, job.config.batch_size, self._shuffle_seed, job.task.label_dtype
        )
        labels = data.targets(job.folders[1], job.inputs)
        optimizer, variables = self.networks.trained.optimizer, self.networks.trained.trainable_variables
        # State that the first step made would have it traced twice.
        (optimizer.prepare if hasattr(optimizer, "prepare") else optimizer._create_all_weights)(variables)
        while not self.finished:
            tensorflow().random.set_seed(job.seed)
            self._pass()
            epoch = self._judge(labels)
            self.position = Position((*self.position.epochs, epoch), self.position.step)
            self._keep()
            self.tracker.epoch(epoch, self.position.step)
            self.after_epoch(epoch)

    def _shuffle_seed(self) -> int:
        return (self.job.seed * 1_000_003 + len(self.position.epochs)) % 2**32

    def _pass(self) -> None:
        """The rest of a pass over the rows: what a checkpoint has seen of it is skipped."""
        seen, started = self.position.now, time.perf_counter()
        with quiet():
            for number, batch in enumerate(self.loader):
                if number >= seen.batches:
                    self._batch(batch, seen.seconds - started)
                    every = self.job.train.checkpoint_steps
                    if every and self.position.step % every == 0 and self.position.now.rows < self.job.inputs.rows:
                        self._keep()

    def _batch(self, batch: Any, began: float) -> None:
        """One step; `began` is the time at which the pass would have begun without a pause, below zero."""
        self._set_rate()
        part, share = (batch, 1.0) if self.workers.alone else self.workers.part(batch)
        loss, whole = self.step(list(part), share).numpy().tolist()
        if not math.isfinite(whole):
            raise self._not_a_number(batch)
        position, now, rows = self.position, self.position.now, int(batch[1].shape[0])
        now = Pass(now.batches + 1, now.rows + rows, now.loss + loss * rows, time.perf_counter() + began)
        self.position = replace(position, step=position.step + 1, now=now)
        mean, number = now.loss / now.rows, len(position.epochs) + 1
        self.tracker.step(position.step + 1, loss, now.rows / now.seconds)
        what = f"epoch {number}/{self.job.config.epochs}, loss {mean:.4f}"
        self.progress(what, now.rows, self.job.inputs.rows, "samples")

    def _set_rate(self) -> None:
        train, config = self.job.train, self.job.config
        if train.schedule != "constant" or train.warmup_steps:
            losses = [epoch.valid_loss for epoch in self.position.epochs]
            by = factor(train, self.position.step, self.job.steps, config.epochs, losses)
            self.networks.trained.optimizer.learning_rate = config.learning_rate * by

    def _keep(self) -> None:
        """Write a checkpoint, and begin random numbers anew, as a run that takes it up does."""
        if self.workers.chief:
            self.checkpoint.write(self.position)
        tensorflow().random.set_seed(self.job.seed)

    def _judge(self, labels: data.Array) -> Epoch:
        self.networks.match()
        now, number = self.position.now, len(self.position.epochs) + 1
        valid_loss, metrics = self.job.task.judge(self._answers(labels))
        if hasattr(self.networks.served, "valid_loss") and math.isfinite(valid_loss):
            # Models that learn which item comes first are judged by that, not by the probability of each row.
            valid_loss = self.networks.served.valid_loss(self.job.folders[1], labels)
        return Epoch(number, now.loss / now.rows, valid_loss, metrics, now.seconds, now.rows / now.seconds)

    def _answers(self, labels: data.Array) -> Iterator[tuple[data.Array, dict[str, data.Array]]]:
        done = 0
        for batch in data.batches(self.job.folders[1], self.job.inputs.features, self.job.task.rows_at_once):
            answers = {name: values.numpy() for name, values in self.answer(batch).items()}
            count = len(next(iter(answers.values())))
            yield labels[done : done + count], answers
            done += count

    def _not_a_number(self, batch: Any) -> MewsError:
        """Keep the batch whose loss is not finite, and say so."""
        self.loader.stop()
        out, position = self.job.out, self.position
        kept = out.with_name(f"{out.name}.bad_batch.parquet")
        if self.workers.chief:
            with atomic_file(kept) as temporary:
                self._frame(batch).write_parquet(temporary)
        return MewsError(
            f"training loss in epoch {len(position.epochs) + 1} after {position.now.rows} rows",
            expected="a finite number",
            received="NaN or infinity",
            hint=f"The batch is kept in {kept}. Try a smaller model.learning_rate, or train.clip_norm.",
        )

    def _frame(self, batch: Any) -> pl.DataFrame:
        columns, labels, *weight = batch
        inputs = self.job.inputs
        named = {name: labels[:, at : at + 1] for at, name in enumerate(inputs.labels)}
        arrays = {**columns, **named, **{str(inputs.weight): values for values in weight}}
        made = {name: np.asarray(values) for name, values in arrays.items()}
        return pl.DataFrame(
            {name: values[:, 0] if values.shape[1] == 1 else values.tolist() for name, values in made.items()}
        )

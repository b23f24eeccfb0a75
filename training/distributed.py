"""Several workers that train one model: the processes that TF_CONFIG names, as a Kubernetes TFJob starts them.

Every worker reads the same batches in the same order and computes the gradients of its share of each one; they are
added up before the optimizer sees them, so that all workers hold the same weights as one worker would. The cluster and
the collective operations are those of tf.distribute.MultiWorkerMirroredStrategy. Its mirrored variables are not used:
they would need models, optimizers and losses that know of them, and turn LazyAdam's rows into whole tables.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from etl.errors import ArtifactError, ConfigError, MewsError
from training.tensorflow import tensorflow

GradientsAndVariables = list[tuple[Any, Any]]


@dataclass
class Workers:
    """This worker and the others: number `rank` from 0 of `count`. Worker 0, the chief, writes what is written."""

    rank: int = 0
    count: int = 1
    strategy: Any = None
    share: Any = field(default=1.0, init=False)

    @property
    def chief(self) -> bool:
        """Whether this worker writes checkpoints and the model."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.count == 1

    def part(self, batch: Sequence[Any]) -> tuple[list[Any], float]:
        """Return this worker's rows of a batch of tensors, and the share of the whole batch that they are.

        Where rows are fewer than workers, those without one take the first for a share of 0.
        """
        rows = int(batch[-1].shape[0])
        start, stop = rows * self.rank // self.count, rows * (self.rank + 1) // self.count
        taken = slice(start, stop) if stop > start else slice(0, 1)
        return tensorflow().nest.map_structure(lambda tensor: tensor[taken], list(batch)), (stop - start) / rows

    def sum(self, tensor: Any) -> Any:
        """Return the sum of all workers' tensors of this shape."""
        return tensor if self.alone else self.strategy.reduce("SUM", tensor, axis=None)

    def join(self, optimizer: Any) -> None:
        """Let `optimizer` see the gradients of whole batches: those of all workers, each times its `share`.

        Dense gradients are added up in one vector, rows of embedding tables are gathered: an optimizer that touches
        only the rows of the batch still does.
        """
        if self.alone:
            return
        if not hasattr(optimizer, "gradient_aggregator"):
            raise ConfigError(
                "model.optimizer of a distributed training",
                expected="one of tf.keras.optimizers.legacy",
                received=type(optimizer).__name__,
            )
        optimizer.gradient_aggregator = self._added

    def _added(self, gradients: GradientsAndVariables) -> GradientsAndVariables:
        tf = tensorflow()
        sparse = {at: one for at, (one, _) in enumerate(gradients) if isinstance(one, tf.IndexedSlices)}
        dense = {at: one * self.share for at, (one, _) in enumerate(gradients) if at not in sparse}
        made = {at: self._gathered(one) for at, one in sparse.items()}
        if dense:
            flat = self.sum(tf.concat([tf.reshape(one, [-1]) for one in dense.values()], 0))
            pieces = tf.split(flat, [one.shape.num_elements() for one in dense.values()])
            shaped = zip(dense.items(), pieces, strict=True)
            made |= {at: tf.reshape(piece, one.shape) for (at, one), piece in shaped}
        return [(made[at], variable) for at, (_, variable) in enumerate(gradients)]

    def _gathered(self, rows: Any) -> Any:
        values, at = (self.strategy.gather(one, axis=0) for one in (rows.values * self.share, rows.indices))
        return tensorflow().IndexedSlices(values, at, rows.dense_shape)

    def agree(self, key: str, step: int) -> None:
        """ArtifactError unless all workers are about to do the same: features, configuration, checkpoint and code."""
        if self.alone:
            return
        mine = tensorflow().constant([[int(key[:15], 16), step]], "int64")
        found = self.strategy.gather(mine, axis=0).numpy().tolist()
        if any(one != found[0] for one in found):
            what = "facts" if len({one[0] for one in found}) > 1 else "checkpoints"
            raise ArtifactError(
                "the workers of this training",
                expected="the same features, configuration and checkpoint for all",
                received=f"different {what}",
                hint="Let all workers read and write one shared folder.",
            )

    def wait(self) -> None:
        """Wait until all workers are here."""
        if not self.alone:
            self.sum(tensorflow().constant(1.0)).numpy()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Turn TensorFlow's error about a worker that is gone into a MewsError."""
        if self.alone:
            yield
            return
        errors = tensorflow().errors
        gone = (errors.UnavailableError, errors.DeadlineExceededError, errors.AbortedError, errors.CancelledError)
        try:
            yield
        except (*gone, errors.InternalError) as error:
            raise _lost(str(error)) from error


def start(timeout: int) -> Workers:
    """Join the cluster that TF_CONFIG describes, before TensorFlow has computed anything; one worker without it.

    `timeout` is in seconds. ConfigError for a TF_CONFIG that cannot be read, MewsError when the others do not come.
    """
    if (rank_count := _cluster()) is None:
        return Workers()
    tf, (rank, count) = tensorflow(), rank_count
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) > 1:  # one for each worker
        tf.config.set_visible_devices(gpus[rank % len(gpus)], "GPU")
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=timeout)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise _lost(str(error)) from error
    return Workers(rank, count, strategy)


def _cluster() -> tuple[int, int] | None:
    """This worker's number and how many there are, None for a single one."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        found = json.loads(text)
        cluster, task = found.get("cluster") or {}, found.get("task") or {"type": "worker", "index": 0}
        places = [(kind, at) for kind in ("chief", "worker") for at in range(len(cluster.get(kind, [])))]
        rank = places.index((task["type"], int(task["index"]))) if places else 0
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            "TF_CONFIG",
            expected='{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}',
            received=text[:200],
        ) from error
    return (rank, len(places)) if len(places) > 1 else None


def _lost(said: str) -> MewsError:
    first = next((line for line in said.splitlines() if "task:" in line or "Timeout" in line), said.splitlines()[0])
    return MewsError(
        "distributed training",
        expected="all workers",
        received=f"one is gone: {first.strip()[:300]}",
        hint="Start all workers again: they go on from the last checkpoint.",
    )

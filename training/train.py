"""Train a model with early stopping; the best epoch's weights become a SavedModel.

After every epoch, and every `train.checkpoint_steps`, a checkpoint (`<out>.checkpoint/`) is written whole: a run that
was killed goes on from the last one, with the same result as one that was not. `out` appears at the end:

    saved_model/    inputs {feature: [batch, width]}, outputs of the model's task; no optimizer state
    history.json    one entry an epoch
    training.json   configuration, fingerprint of the features, inputs, versions
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from etl.atomic import atomic_folder
from etl.errors import ArtifactError
from etl.progress import Progress, silent
from training import data
from training.artifacts import read_training, save
from training.checkpoint import Checkpoint, key_of
from training.config import ModelConfig, TrainConfig
from training.distributed import Workers, start
from training.history import Epoch, Position
from training.loop import Job, Loop
from training.models.precision import allow_xla, networks
from training.tasks import task_of
from training.tensorflow import tensorflow
from training.tracking import trackers
from training.warm_start import vocabularies, warm_start
from training.weights import weighting

__all__ = ["Epoch", "Trained", "read_training", "save", "train", "trained_by_workers"]

_PACKAGES = ("tensorflow", "merlin-models", "merlin-dataloader", "numpy")
_NO_RESULT = {"tensorboard", "mlflow", "worker_timeout", "warm_start"}
"""Settings that the weights do not depend on; of an earlier model, the contents count and not the place."""


@dataclass(frozen=True)
class Trained:
    """A finished training: `samples_per_s` counts training steps only, `seconds` everything."""

    folder: Path
    history: tuple[Epoch, ...]
    best_epoch: int
    seconds: float
    samples_per_s: float
    rows: int
    resumed: bool


def train(
    features: Path,
    config: ModelConfig,
    out: Path,
    seed: int = 0,
    progress: Progress = silent,
    after_epoch: Callable[[Epoch], None] = lambda epoch: None,
    settings: TrainConfig | None = None,
) -> Trained:
    """Train on `features/train`, stop early by the log loss on `features/valid`, and write the folder `out`.

    Runs with the same seed, features and configuration give the same weights on the same machine. Where TF_CONFIG
    names several workers this is one of them, and the first one writes. ConfigError when the features do not suit the
    model, DataError for labels, codes or weights that cannot be trained on, MewsError when the loss becomes NaN (the
    batch is kept beside `out`) or a worker is lost. `after_epoch` is called with each epoch once its checkpoint is
    written; what it raises ends the training, which a later call goes on with.
    """
    started, settings = time.perf_counter(), settings or TrainConfig()
    if settings.xla:
        allow_xla()
    workers = start(settings.worker_timeout)
    tensorflow().config.experimental.enable_op_determinism()
    job, facts, labelled = _prepare(features, config, settings, out, seed)
    with ExitStack() as stack:
        stack.enter_context(workers.watched())
        loop, resumed, warm = _loop(job, facts, workers, progress if workers.chief else silent, after_epoch, stack)
        loop.run()
        loop.checkpoint.restore_best()
        loop.networks.match()
        position, seconds = loop.position, time.perf_counter() - started
        trained = Trained(out, position.epochs, position.best, seconds, position.samples_per_s, facts["rows"], resumed)
        if workers.chief:
            summary = {"best_epoch": position.best, **labelled, "seconds": seconds, "workers": workers.count}
            described = {"warm_start": warm, "vocabularies": vocabularies(features), **summary}
            _write(loop, {**facts, **described, "samples_per_s": position.samples_per_s})
        workers.wait()
    if workers.chief:
        shutil.rmtree(loop.checkpoint.folder, ignore_errors=True)
    return trained


def trained_by_workers(
    features: Path, config: ModelConfig, out: Path, seed: int, settings: TrainConfig
) -> Trained | None:
    """Return the model in `out` if several workers have trained it with just these arguments, else None."""
    try:
        found = read_training(out)
        epochs = tuple(Epoch(**epoch) for epoch in json.loads((out / "history.json").read_text()))
    except (ArtifactError, OSError, ValueError, TypeError):
        return None
    if found.get("workers", 1) == 1:
        return None
    facts = json.loads(json.dumps(_prepare(features, config, settings, out, seed)[1]))
    if any(found.get(name) != value for name, value in facts.items()):
        return None
    return Trained(
        out, epochs, found["best_epoch"], found["seconds"], found["samples_per_s"], found["rows"], resumed=False
    )


def _prepare(
    features: Path, config: ModelConfig, settings: TrainConfig, out: Path, seed: int
) -> tuple[Job, dict[str, Any], dict[str, Any]]:
    """Check everything that can be checked before a step: the job, what its result depends on, facts of the labels."""
    folders, task = (features / "train", features / "valid"), task_of(config.name)
    inputs = data.read_inputs(folders[0], task.several)
    labelled = task.check(folders, inputs)
    for folder in folders:
        data.check_codes(folder, inputs)
    weighed = weighting(folders[0], inputs, settings, task)
    job = Job(inputs, task, config, settings, folders, out, seed, weighed)
    return job, _facts(job), labelled


def _facts(job: Job) -> dict[str, Any]:
    """What the result depends on; two runs with equal facts are the same run."""
    earlier = job.train.warm_start
    return {
        "format": 1,
        "config": job.config.model_dump(mode="json"),
        "train": job.train.model_dump(mode="json", exclude=_NO_RESULT),
        "earlier": hashlib.sha256(json.dumps(read_training(earlier)).encode()).hexdigest() if earlier else None,
        "seed": job.seed,
        "fingerprint": data.fingerprint(*job.folders),
        "features": [feature.to_json() for feature in job.inputs.features],
        "label": job.inputs.label,
        "others": list(job.inputs.others),
        "rows": data.rows(job.folders[0]),
        "valid_rows": data.rows(job.folders[1]),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def _loop(
    job: Job,
    facts: dict[str, Any],
    workers: Workers,
    progress: Progress,
    after_epoch: Callable[[Epoch], None],
    stack: ExitStack,
) -> tuple[Loop, bool, dict[str, int] | None]:
    """The loop where it begins or goes on, whether it goes on, and what was taken from an earlier model."""
    nets = networks(job.inputs, job.config, job.train, job.seed)
    warm = None
    if job.train.warm_start is not None:
        features = job.folders[0].parent
        warm = warm_start(nets.trained, job.inputs, features, job.train.warm_start, job.train.evict_below).to_json()
    checkpoint = Checkpoint(job.out.with_name(f"{job.out.name}.checkpoint"), key_of(facts), nets.trained)
    found = checkpoint.read()
    position = found or Position()
    workers.agree(checkpoint.key, position.step)
    told = trackers(job.train, facts, stack) if workers.chief else trackers(TrainConfig(), facts, stack)
    loop = Loop(job, nets, workers, checkpoint, told, progress, after_epoch, position)
    return loop, found is not None, warm


def _write(loop: Loop, described: dict[str, Any]) -> None:
    job = loop.job
    with atomic_folder(job.out) as temporary:
        save(loop.networks.served, job.task, job.inputs, temporary / "saved_model")
        (temporary / "history.json").write_text(json.dumps([asdict(epoch) for epoch in loop.position.epochs], indent=1))
        (temporary / "training.json").write_text(json.dumps(described, indent=1))

"""Train a model with early stopping; the best epoch's weights become a SavedModel.

After every epoch a checkpoint (`<out>.checkpoint/`) is written whole: a run that was killed goes on after its last
whole epoch, with the same result as one that was not. `out` appears at the end:

    saved_model/    inputs {feature: [batch, width]}, outputs of the model's task; no optimizer state
    history.json    one entry an epoch
    training.json   configuration, fingerprint of the features, inputs, versions
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.atomic import atomic_file, atomic_folder
from etl.errors import ArtifactError, MewsError
from etl.progress import Progress, silent
from training import data
from training.config import ModelConfig
from training.models.registry import build
from training.tasks import Task, task_of
from training.tensorflow import quiet, tensorflow

_PACKAGES = ("tensorflow", "merlin-models", "merlin-dataloader", "numpy")


@dataclass(frozen=True)
class Epoch:
    """One pass over the training rows; `train_loss` is the mean while the weights changed, `valid` the metrics."""

    epoch: int
    train_loss: float
    valid_loss: float
    valid: dict[str, float]
    seconds: float
    samples_per_s: float


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


def train(features: Path, config: ModelConfig, out: Path, seed: int = 0, progress: Progress = silent) -> Trained:
    """Train on `features/train`, stop early by the log loss on `features/valid`, and write the folder `out`.

    Runs with the same seed, features and configuration give the same weights on the same machine. ConfigError when the
    features do not suit the model, DataError for labels or codes that cannot be trained on, MewsError when the loss
    becomes NaN (the batch is kept beside `out`).
    """
    started = time.perf_counter()
    folders = features / "train", features / "valid"
    inputs = data.read_inputs(folders[0])
    labelled = task_of(config.name).check(folders, inputs)
    for folder in folders:
        data.check_codes(folder, inputs)
    facts = _facts(folders, inputs, config, seed)
    tensorflow().config.experimental.enable_op_determinism()
    run = _Run(inputs, config, folders, out, seed, progress)
    resumed = run.resume(facts)
    run.fit(facts)
    run.restore_best()
    trained = Trained(
        out, tuple(run.history), run.best, time.perf_counter() - started, run.samples_per_s, facts["rows"], resumed
    )
    with atomic_folder(out) as temporary:
        save(run.model, run.task, inputs, temporary / "saved_model")
        (temporary / "history.json").write_text(json.dumps([asdict(epoch) for epoch in run.history], indent=1))
        summary = {"best_epoch": run.best, **labelled, "seconds": trained.seconds}
        described = {**facts, **summary, "samples_per_s": run.samples_per_s}
        (temporary / "training.json").write_text(json.dumps(described, indent=1))
    shutil.rmtree(run.checkpoint, ignore_errors=True)
    return trained


def save(model: Any, task: Task, inputs: data.Inputs, folder: Path) -> None:
    """Write the model as a SavedModel for inference: {feature: [batch, width]} -> the answers of its task.

    Features are called there as data.tensor_names says.
    """
    tf = tensorflow()
    names = data.tensor_names(inputs.features)
    signature = {
        names[feature.name]: tf.TensorSpec([None, feature.width], feature.dtype, name=names[feature.name])
        for feature in inputs.features
    }

    def score(columns: dict[str, Any]) -> dict[str, Any]:
        return task.answer(model, {name: columns[tensor] for name, tensor in names.items()})

    module = tf.Module()
    # Only the variables are tracked: Keras' own format holds a trace of every layer, and takes far longer to write.
    module.weights = model.variables
    module.score = tf.function(score, input_signature=[signature], autograph=False)
    with quiet():
        tf.saved_model.save(module, str(folder), signatures=module.score)


def read_training(model: Path) -> dict[str, Any]:
    """The contents of a model folder's training.json; ArtifactError when it is not one."""
    try:
        found: dict[str, Any] = json.loads((model / "training.json").read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"model folder {model}", expected="training.json", received=str(error)) from error
    return found


def _facts(folders: tuple[Path, ...], inputs: data.Inputs, config: ModelConfig, seed: int) -> dict[str, Any]:
    """What the result depends on; two runs with equal facts are the same run."""
    return {
        "format": 1,
        "config": config.model_dump(mode="json"),
        "seed": seed,
        "fingerprint": data.fingerprint(*folders),
        "features": [feature.to_json() for feature in inputs.features],
        "label": inputs.label,
        "rows": data.rows(folders[0]),
        "valid_rows": data.rows(folders[1]),
        "versions": {package: version(package) for package in _PACKAGES},
    }


@dataclass
class _Run:
    """The state of one training."""

    inputs: data.Inputs
    config: ModelConfig
    folders: tuple[Path, Path]
    out: Path
    seed: int
    progress: Progress
    history: list[Epoch] = field(default_factory=list)

    def __post_init__(self) -> None:
        tf, self.task = tensorflow(), task_of(self.config.name)
        self.model = build(self.inputs, self.config, self.seed)
        self.checkpoint = self.out.with_name(f"{self.out.name}.checkpoint")
        columns = {
            feature.name: tf.TensorSpec([None, feature.width], feature.dtype) for feature in self.inputs.features
        }
        label = tf.TensorSpec([None, 1], self.task.label_dtype)
        # One trace for every batch size; autograph would take 5 s to find nothing to rewrite.
        self.step = tf.function(self._step, input_signature=[columns, label], autograph=False)
        self.answer = tf.function(
            lambda columns: self.task.answer(self.model, columns), input_signature=[columns], autograph=False
        )

    def _step(self, columns: dict[str, Any], labels: Any) -> tuple[Any, Any]:
        metrics = self.model.train_step((columns, labels))
        return metrics["loss_batch"] - metrics["regularization_loss"], metrics["loss_batch"]

    @property
    def best(self) -> int:
        """Number of the epoch with the lowest validation loss, from 1."""
        return min(self.history, key=lambda epoch: epoch.valid_loss).epoch

    @property
    def samples_per_s(self) -> float:
        """Training rows over the seconds spent on them."""
        seconds = sum(epoch.seconds for epoch in self.history)
        return sum(epoch.seconds * epoch.samples_per_s for epoch in self.history) / seconds

    @property
    def finished(self) -> bool:
        """Whether training has stopped: all epochs, or no better one for more than `patience`."""
        done = len(self.history)
        return done >= self.config.epochs or (done > 0 and done - self.best > self.config.patience)

    def fit(self, facts: dict[str, Any]) -> None:
        """Train until finished, with a checkpoint after every epoch."""
        self.loader = data.loader(
            self.folders[0], self.inputs, self.config.batch_size, self._shuffle_seed, self.task.label_dtype
        )
        valid_labels = data.labels(self.folders[1], self.inputs.label)
        while not self.finished:
            number, started = len(self.history) + 1, time.perf_counter()
            loss = self._one_pass(number, facts["rows"])
            seconds = time.perf_counter() - started
            valid_loss, metrics = self.task.judge(self._answers(valid_labels))
            self.history.append(Epoch(number, loss, valid_loss, metrics, seconds, facts["rows"] / seconds))
            self._write_checkpoint(facts)

    def _shuffle_seed(self) -> int:
        return (self.seed * 1_000_003 + len(self.history)) % 2**32

    def _one_pass(self, number: int, rows: int) -> float:
        what, total, done = f"epoch {number}/{self.config.epochs}", 0.0, 0
        with quiet():
            for columns, labels in self.loader:
                loss, whole = (float(value) for value in self.step(columns, labels))
                count = len(labels)
                if not math.isfinite(whole):
                    raise self._not_a_number(number, done, columns, labels)
                total, done = total + loss * count, done + count
                self.progress(what, done, rows, "samples")
        return total / done

    def _answers(self, labels: data.Array) -> Iterator[tuple[data.Array, dict[str, data.Array]]]:
        done = 0
        for batch in data.batches(self.folders[1], self.inputs.features):
            answers = {name: values.numpy() for name, values in self.answer(batch).items()}
            count = len(next(iter(answers.values())))
            yield labels[done : done + count], answers
            done += count

    def _not_a_number(self, number: int, done: int, columns: dict[str, Any], labels: Any) -> MewsError:
        """Keep the batch whose loss is not finite, and say so."""
        self.loader.stop()
        kept = self.out.with_name(f"{self.out.name}.bad_batch.parquet")
        arrays = {name: np.asarray(values) for name, values in {**columns, self.inputs.label: labels}.items()}
        series = {name: values[:, 0] if values.shape[1] == 1 else values.tolist() for name, values in arrays.items()}
        with atomic_file(kept) as temporary:
            pl.DataFrame(series).write_parquet(temporary)
        return MewsError(
            f"training loss in epoch {number} after {done} rows",
            expected="a finite number",
            received="NaN or infinity",
            hint=f"The batch is kept in {kept}. Try a smaller model.learning_rate.",
        )

    def _write_checkpoint(self, facts: dict[str, Any]) -> None:
        """Replace the checkpoint as a whole: the last epoch with its optimizer, and the best epoch's weights."""
        with atomic_folder(self.checkpoint) as temporary, quiet():
            self._last().write(str(temporary / "last"))
            if self.best == len(self.history):
                self._best().write(str(temporary / "best"))
            else:
                for path in self.checkpoint.glob("best.*"):
                    shutil.copy(path, temporary)
            state = {"key": _key(facts), "history": [asdict(epoch) for epoch in self.history]}
            (temporary / "state.json").write_text(json.dumps(state))

    def resume(self, facts: dict[str, Any]) -> bool:
        """Take up the checkpoint of a killed run with the same facts; False if there is none."""
        try:
            state = json.loads((self.checkpoint / "state.json").read_text())
        except (OSError, ValueError):
            return False
        if state["key"] != _key(facts):
            return False
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self._last().read(str(self.checkpoint / "last")).expect_partial()
        return True

    def restore_best(self) -> None:
        """Put the best epoch's weights into the model."""
        self._best().read(str(self.checkpoint / "best")).assert_existing_objects_matched()

    def _last(self) -> Any:
        return tensorflow().train.Checkpoint(model=self.model, optimizer=self.model.optimizer)

    def _best(self) -> Any:
        return tensorflow().train.Checkpoint(model=self.model)


def _key(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

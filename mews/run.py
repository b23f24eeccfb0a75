"""The run folder: where every artifact of one pipeline lies."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from etl.atomic import remove_leftovers
from etl.errors import ConfigError

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Run:
    """The paths inside one run folder, so that no other module spells them."""

    folder: Path

    @property
    def config(self) -> Path:
        """The exact resolved configuration."""
        return self.folder / "config.yaml"

    @property
    def raw(self) -> Path:
        """Rows as the source gave them, and dataset.json."""
        return self.folder / "data" / "raw"

    @property
    def validated(self) -> Path:
        """The validation report, the rows that passed, and those that did not."""
        return self.folder / "data" / "validated"

    @property
    def clean(self) -> Path:
        """Rows that passed validation."""
        return self.validated / "clean"

    @property
    def validation(self) -> Path:
        """The validation report."""
        return self.validated / "validation.json"

    @property
    def quarantine(self) -> Path:
        """Rows that were refused, with the reason."""
        return self.validated / "quarantine.parquet"

    @property
    def split(self) -> Path:
        """train, valid and test rows, still raw."""
        return self.folder / "data" / "split"

    @property
    def split_rows(self) -> Path:
        """The rows of train, valid and test that examples with lists were made from, where there are such."""
        return self.folder / "data" / "split_rows"

    @property
    def split_checks(self) -> Path:
        """What was found when the three parts were compared."""
        return self.folder / "data" / "split_checks.json"

    @property
    def profile(self) -> Path:
        """What the data looks like, for the report."""
        return self.folder / "data" / "profile.json"

    @property
    def graph(self) -> Path:
        """The fitted FeatureGraph."""
        return self.folder / "features" / "graph"

    def features(self, part: str) -> Path:
        """Transformed rows of train, valid or test, with their Merlin schema."""
        return self.folder / "features" / part

    @property
    def features_summary(self) -> Path:
        """Operators, columns and seconds of the feature stages."""
        return self.folder / "features" / "features.json"

    @property
    def model(self) -> Path:
        """SavedModel, history and training.json."""
        return self.folder / "model"

    @property
    def evaluation(self) -> Path:
        """metrics.json and the offline scores of the test rows."""
        return self.folder / "evaluation"

    @property
    def onnx(self) -> Path:
        """workflow.onnx and model.onnx."""
        return self.folder / "onnx"

    @property
    def repository(self) -> Path:
        """The Triton model repository."""
        return self.folder / "repository"

    @property
    def exported(self) -> tuple[Path, ...]:
        """The version that was exported last; not what changes when another is published, or an older one deleted."""
        found = sorted(self.repository.glob("*/*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
        if not found:
            return ()
        folder = found[-1].parent
        models = json.loads(found[-1].read_text(encoding="utf-8"))["models"]
        archived = folder.parent / "configs" / f"{folder.name}.pbtxt"
        return (folder, archived, *(self.repository / model for model in models))

    @property
    def examples(self) -> Path:
        """A few held-out raw rows, to try `mews predict` with."""
        return self.folder / "examples"

    @property
    def serving(self) -> Path:
        """Where a running `mews serve` of this run listens."""
        return self.folder / "serve.json"

    @property
    def parity(self) -> Path:
        """Largest differences between served and offline scores."""
        return self.folder / "parity.json"

    @property
    def bench(self) -> Path:
        """Results of perf_analyzer."""
        return self.folder / "bench" / "serving.json"

    @property
    def compare(self) -> Path:
        """A folder for each model that `mews compare` trained, compare.json and its page."""
        return self.folder / "compare"

    @property
    def tune(self) -> Path:
        """The study of `mews tune`, what it found, its page, and trials that were interrupted."""
        return self.folder / "tune"

    @property
    def registry(self) -> Path:
        """Registered models, where the configuration names no other place."""
        return self.folder / "registry"

    @property
    def card(self) -> Path:
        """The model card."""
        return self.folder / "model_card.md"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def summary(self) -> Path:
        """The figures of the run."""
        return self.folder / "summary.json"

    @property
    def stages(self) -> Path:
        """One record per finished stage."""
        return self.folder / ".stages"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder, and remove what a killed one left half-written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"run folder {self.folder}",
                    expected="no other mews command working in it",
                    received="a lock held by one",
                    hint="Wait for it, or choose another folder with --run.",
                ) from None
            for inner in (self.folder, self.stages, *(self.folder / name for name in ("data", "features", "bench"))):
                remove_leftovers(inner)
            yield

"""Where each of the compared keeps its files, inside `<run>/compare/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from etl.atomic import remove_leftovers
from mews.run import Run


@dataclass(frozen=True)
class ModelRun(Run):
    """The run folder as one of the compared sees it: the same data and features, a place of its own for the rest."""

    name: str = ""

    @property
    def own(self) -> Path:
        """The folder of this model."""
        return self.compare / self.name

    @property
    def config(self) -> Path:
        """The configuration it was trained with."""
        return self.own / "config.yaml"

    @property
    def model(self) -> Path:
        """SavedModel, history and training.json."""
        return self.own / "model"

    @property
    def measures(self) -> Path:
        """measures.json and users.npz."""
        return self.own / "measures"

    @property
    def stages(self) -> Path:
        """Its records of finished work."""
        return self.own / ".stages"


@dataclass(frozen=True)
class ListRun(ModelRun):
    """The run folder as a model of item lists sees it: the same clean rows, and a split and features of its own."""

    @property
    def split(self) -> Path:
        """train, valid and test as examples with lists."""
        return self.own / "data" / "split"

    @property
    def split_rows(self) -> Path:
        """The rows they are made from: those of the run's split."""
        return self.own / "data" / "split_rows"

    @property
    def split_checks(self) -> Path:
        """What was found when the three parts were compared."""
        return self.own / "data" / "split_checks.json"

    @property
    def profile(self) -> Path:
        """What the data looks like."""
        return self.own / "data" / "profile.json"

    @property
    def graph(self) -> Path:
        """The fitted FeatureGraph of the lists."""
        return self.own / "features" / "graph"

    def features(self, part: str) -> Path:
        """Transformed examples of train, valid or test."""
        return self.own / "features" / part

    @property
    def features_summary(self) -> Path:
        """Operators, columns and seconds of the feature stages."""
        return self.own / "features" / "features.json"

    def clear_leftovers(self) -> None:
        """Remove what a killed process left half-written."""
        for folder in (self.own, self.own / "data", self.own / "features"):
            remove_leftovers(folder)

"""Checkpoints of a training: weights, optimizer and position, replaced as a whole.

A folder `<out>.checkpoint/` holds `last.*` (model and optimizer), `best.*` (the best epoch's weights, once there is
one) and `state.json`. What else a step depends on follows from the position: the order of rows from the epoch's number,
the learning rate from the step's, and random numbers begin anew after every checkpoint, in a run that was killed and
in one that was not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.atomic import atomic_folder
from etl.errors import ArtifactError
from training.history import Position
from training.tensorflow import quiet, tensorflow


def key_of(facts: Mapping[str, Any]) -> str:
    """Return the digest of what a result depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint in `folder` of a training whose facts have the digest `key`."""

    folder: Path
    key: str
    model: Any

    def write(self, position: Position) -> None:
        """Replace the checkpoint; weights after an epoch that is the best so far are kept as such."""
        best = position.now.batches == 0 and position.best == len(position.epochs) > 0
        with atomic_folder(self.folder) as temporary, quiet():
            self._last().write(str(temporary / "last"))
            if best:
                self._best().write(str(temporary / "best"))
            for path in () if best else self.folder.glob("best.*"):
                os.link(path, temporary / path.name)  # the old folder goes, the file stays
            state = {"key": self.key, "position": position.to_json()}
            (temporary / "state.json").write_text(json.dumps(state))

    def read(self) -> Position | None:
        """Take the weights and the optimizer of the checkpoint; None if there is none, or one of another training.

        ArtifactError for a checkpoint of this training that cannot be read.
        """
        try:
            state = json.loads((self.folder / "state.json").read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(state, dict) or state.get("key") != self.key:
            return None
        try:
            position = Position.from_json(state["position"])
            # The learning rate must be a variable by now: made at the first step, it would begin with the
            # checkpoint's value, whatever the schedule has said since.
            self.model.optimizer._create_hypers()
            with quiet():
                self._last().read(str(self.folder / "last")).expect_partial()
        # IndexError: the reader's word for a file that is too short
        except (KeyError, IndexError, TypeError, ValueError, tensorflow().errors.OpError) as error:
            raise ArtifactError(
                f"checkpoint {self.folder}",
                expected="a whole one",
                received=str(error)[:300],
                hint="Delete it: training then begins anew.",
            ) from error
        return position

    def restore_best(self) -> None:
        """Put the best epoch's weights into the model."""
        self._best().read(str(self.folder / "best")).assert_existing_objects_matched()

    def _last(self) -> Any:
        return tensorflow().train.Checkpoint(model=self.model, optimizer=self.model.optimizer)

    def _best(self) -> Any:
        return tensorflow().train.Checkpoint(model=self.model)

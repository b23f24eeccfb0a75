"""A folder of run folders, one for each retraining: which began last, which finished last, and whose model serves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mews.run import Run

CHAMPION = "champion"
"""The name of the file that names the serving generation, in the folder of generations or beside it."""
_LATER = ("query", "bench")
"""Stages that a generation may do without."""


@dataclass(frozen=True)
class Generations:
    """The generations that are told of, which may be the same; a single run folder is all three.

    `lost` is true where the champion file names none that is there.
    """

    begun: Run
    finished: Run
    served: Run
    several: bool = False
    lost: bool = False

    def roles(self) -> Iterator[tuple[str, Run]]:
        """Yield what each is, and its run folder."""
        yield from (("begun", self.begun), ("finished", self.finished), ("served", self.served))


def find(folder: Run, champion: Path | None = None) -> Generations:
    """Return the generations in `folder`, or the folder itself where it is a run folder or holds none.

    Without a champion file the one that was promoted last serves, or else the one that finished last.
    """
    runs = [] if _is_run(folder) else _runs_in(folder.folder)
    if not runs:
        return Generations(folder, folder, folder)
    begun = runs[-1]
    finished = next((run for run in reversed(runs) if _finished(run)), begun)
    named, lost = _named(folder.folder, champion)
    promoted = (run for run in reversed(runs) if _decision(run) == "promote")
    return Generations(begun, finished, named or next(promoted, finished), several=True, lost=lost)


def _is_run(run: Run) -> bool:
    return run.config.exists() or run.stages.is_dir() or run.repository.exists()


def _runs_in(folder: Path) -> list[Run]:
    """The run folders in a folder, in the order in which they were begun."""
    if not folder.is_dir():
        return []
    found = [Run(each) for each in sorted(folder.iterdir()) if not each.name.startswith(".")]
    return sorted((run for run in found if run.config.is_file()), key=_begun)


def _begun(run: Run) -> float:
    """When the first stage was done: later commands write the configuration anew, but not this record."""
    first = run.stages / "data.json"
    return (first if first.is_file() else run.config).stat().st_mtime


def decided(run: Run) -> bool:
    """Return whether a release has said that the run's model serves, or does not: nothing of it is under way."""
    return _decision(run) is not None


def _finished(run: Run) -> bool:
    from mews.pipeline import STAGES

    done = (run.stages / f"{stage}.json" for stage in STAGES if stage not in _LATER)
    return decided(run) or all(path.is_file() for path in done)


def _decision(run: Run) -> str | None:
    from mews.retraining import DECISION

    try:
        return str(json.loads((run.folder / DECISION).read_text(encoding="utf-8"))["decision"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _named(folder: Path, champion: Path | None) -> tuple[Run | None, bool]:
    """The run that the champion file names, and whether it names one that is not there.

    The file has the path of whoever wrote it: where that is not mounted, the folder of the same name is meant.
    """
    files = [champion] if champion else [folder / CHAMPION, folder.absolute().parent / CHAMPION]
    file = next((each for each in files if each.is_file()), None)
    if file is None:
        return None, False
    told = Path(file.read_text(encoding="utf-8").strip())
    found = next((Run(each) for each in (told, folder / told.name) if (each / "config.yaml").is_file()), None)
    return found, found is None

"""The run folder: its lock, and what a killed command left in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from etl.atomic import atomic_file
from etl.errors import ConfigError
from mews.run import Run

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import sys
from pathlib import Path
from mews.run import Run
with Run(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "runs" / "a")


def holder(run: Run) -> subprocess.Popen[str]:
    """Start a process that holds the folder's lock until its stdin closes."""
    command = [sys.executable, "-c", HOLDER, str(run.folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def is_free(run: Run) -> bool:
    """Whether the folder can be locked now."""
    try:
        with run.locked():
            return True
    except ConfigError:
        return False


def test_the_folder_is_made_and_locked_once(run: Run) -> None:
    with run.locked():
        assert run.folder.is_dir()
        with pytest.raises(ConfigError, match=r"no other mews command.*--run") as refused, run.locked():
            pass
        assert refused.value.exit_code == 2
    assert is_free(run)


def test_another_process_is_kept_out_until_this_one_is_through(run: Run) -> None:
    with holder(run) as process:
        with pytest.raises(ConfigError, match="a lock held by one"), run.locked():
            pass
        assert not is_free(run)
        process.communicate()
    assert is_free(run)


def test_the_lock_of_a_killed_process_is_free(run: Run) -> None:
    with holder(run) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert is_free(run)


def test_other_folders_are_not_locked(run: Run, tmp_path: Path) -> None:
    with run.locked():
        assert is_free(Run(tmp_path / "runs" / "b"))


def test_an_error_frees_the_lock(run: Run) -> None:
    with pytest.raises(KeyboardInterrupt), run.locked():
        raise KeyboardInterrupt
    assert is_free(run)


def written(run: Run) -> list[Path]:
    """What stages write, as a file each."""
    folders = [run.raw, run.validated, run.split, run.graph, run.features("train"), run.model, run.evaluation]
    folders += [run.onnx, run.examples]
    files = [run.split_checks, run.profile, run.features_summary, run.parity, run.bench, run.report, run.summary]
    return [folder / "file" for folder in folders] + [*files, run.config, run.stages / "fit.json"]


def test_what_a_killed_command_left_is_removed_and_nothing_else(run: Run) -> None:
    for path in written(run):
        with atomic_file(path) as temporary:
            temporary.write_text("whole")
        # The names of etl/atomic.py, beside a file or a folder that a stage replaces as a whole.
        target = path.parent if path.name == "file" else path
        target.with_name(f".{target.name}.0a1b2c3d.tmp").mkdir()
        target.with_name(f".{target.name}.0a1b2c3e.tmp").write_text("half")
    with run.locked():
        assert list(run.folder.rglob(".*.tmp")) == []
        assert all(path.read_text() == "whole" for path in written(run))


def test_no_two_artifacts_share_a_place(run: Run) -> None:
    names = [name for name, kind in vars(Run).items() if isinstance(kind, property) and name != "exported"]
    paths = [getattr(run, name) for name in names] + [run.features(part) for part in ("train", "valid", "test")]
    assert len(set(paths)) == len(paths)
    assert all(path.is_relative_to(run.folder) for path in paths)

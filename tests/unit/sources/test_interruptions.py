import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etl.atomic import remove_leftovers
from etl.config import DataConfig, SplitConfig, ValidationConfig
from etl.errors import MewsError
from etl.sources.dataset import Dataset
from etl.sources.registry import open_source
from etl.sources.split import split
from etl.sources.validate import validate

ROOT = Path(__file__).parents[3]
STAGES = {
    "generate": "open_source(DataConfig(rows=20_000_000, users=100, items=50), 1).prepare(out, show)",
    "validate": "validate(Dataset.load(out.parent / 'in'), ValidationConfig(), out, show)",
    "split": "split(Dataset.load(out.parent / 'in'), SplitConfig(), out, 1, show)",
}
SCRIPT = """
import signal, sys
from pathlib import Path
from etl.config import DataConfig, SplitConfig, ValidationConfig
from etl.sources.dataset import Dataset
from etl.sources.registry import open_source
from etl.sources.split import split
from etl.sources.validate import validate
out = Path(sys.argv[1])
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
def show(what, done, total, unit):
    if done:
        print("under way", flush=True)
        sys.stdin.readline()
STAGE
"""


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stage_that_is_interrupted_leaves_nothing_half_written(tmp_path, stage, how):
    if stage != "generate":
        open_source(DataConfig(rows=3000, users=100, items=50), 1).prepare(tmp_path / "in")
    command = [sys.executable, "-c", SCRIPT.replace("STAGE", STAGES[stage]), str(tmp_path / "out")]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout.readline() == "under way\n"
        time.sleep(0.05)
        process.send_signal(how)
        process.wait(30)
    assert not (tmp_path / "out").exists()
    assert remove_leftovers(tmp_path) == (1 if how == signal.SIGKILL else 0)
    assert {path.name for path in tmp_path.iterdir()} <= {"in"}


def test_what_was_there_before_survives_a_failure(tmp_path):
    first = open_source(DataConfig(rows=100), 1).prepare(tmp_path / "out")

    def stop(what: str, done: int, total: int | None, unit: str) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_source(DataConfig(rows=200), 1).prepare(tmp_path / "out", stop)
    assert Dataset.load(tmp_path / "out") == first
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small tmpfs")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_and_leaves_nothing(small_disk, tmp_path):
    dataset = open_source(DataConfig(rows=100_000, users=100, items=50), 1).prepare(tmp_path / "in")
    work = [
        lambda: open_source(DataConfig(rows=300_000), 1).prepare(small_disk / "out"),
        lambda: validate(dataset, ValidationConfig(), small_disk / "out"),
        lambda: split(dataset, SplitConfig(), small_disk / "out", 1),
    ]
    for stage in work:
        with pytest.raises(MewsError, match="disk full") as error:
            stage()
        assert error.value.exit_code == 1
        assert list(small_disk.iterdir()) == []

"""What a user meets when something goes wrong: exit codes, messages, nothing lost and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.conftest import MEWS, ROOT, SMALL, last_json, leftovers, mews, settings

TINY = (*SMALL, "data.rows=8000", "bench.concurrency=[1]", "bench.batch=[1]")
STAGES = ("data", "validate", "split", "fit", "transform", "train", "evaluate", "export", "query", "bench")


def _start(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [str(MEWS), "demo", "--run", str(folder), *settings(*TINY)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _interrupt_in(stage: str, folder: Path, environment: dict[str, str], number: signal.Signals) -> tuple[int, str]:
    """Start the demo, send the signal when `stage` has begun; return exit status and output."""
    before = STAGES[STAGES.index(stage) - 1] if stage != "data" else "mews demo"
    printed = ""
    with _start(folder, environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            printed += line
            if line.startswith(before):
                break
        time.sleep(0.6 if stage in ("train", "query", "bench") else 0.05)
        process.send_signal(number)
        printed += process.stdout.read()
    return process.returncode, printed


@pytest.mark.timeout(900)
def test_a_killed_run_resumes_at_the_stage_it_was_killed_in(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "run"
    for stage in STAGES:
        _interrupt_in(stage, folder, environment, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any("tritonserver" in line for line in leftovers(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    _finishes(folder)


@pytest.mark.timeout(900)
def test_ctrl_c_in_any_stage_leaves_nothing_and_says_how_to_go_on(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "run"
    for stage in STAGES:
        status, printed = _interrupt_in(stage, folder, environment, signal.SIGINT)
        assert status == 130, (stage, printed)
        assert "run the same command again to resume" in printed, stage
        assert "Traceback" not in printed, stage
        assert leftovers(folder) == [], stage
    _finishes(folder)


def _finishes(folder: Path) -> None:
    """The next run does what is left, and nothing that was done."""
    done = mews("demo", "--run", folder, "--json", *settings(*TINY))
    assert done.returncode == 0, done.stderr
    assert set(last_json(done)["cached"]) >= set(STAGES[:8])
    assert leftovers(folder) == []


def test_two_commands_cannot_work_in_one_run_folder(tmp_path: Path, environment: dict[str, str]) -> None:
    with _start(tmp_path / "run", environment) as first:
        assert first.stdout is not None
        first.stdout.readline()
        time.sleep(1)
        second = mews("data", "generate", "--run", tmp_path / "run")
        first.kill()
    assert second.returncode == 2
    assert "choose another folder with --run" in second.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["demo", "--set", "modle.name=x"], 2, "did you mean model?"),
        (["demo", "--config", "absent.yaml"], 2, "nothing there"),
        (["demo", "--data", "absent"], 2, "absent"),
        (["etl", "fit", "--set", "features.chains=[{columns: [price], ops: [Normalise]}]"], 2, "Normalize"),
        (["etl", "fit", "--set", "features.workflow=absent.py:build"], 2, "absent.py"),
        (["predict", "--input", "absent.json"], 1, "nothing there"),
        (["predict", "--input", "README.md", "--output", "x.txt"], 2, ".csv"),
        (["serve"], 2, "mews export"),
        (["report", "--run", "absent"], 1, "absent"),
        (["no-such-command"], 2, "No such command"),
        (["train", "--no-such-option"], 2, "No such option"),
    ],
)
def test_a_mistake_has_its_exit_code_and_a_message(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    run = [] if "--run" in arguments or arguments[0] == "no-such-command" else ["--run", str(tmp_path / "run")]
    small = settings(*TINY) if arguments[0] == "etl" else []
    done = mews(*arguments, *run, *small)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_is_one_json_line_too(tmp_path: Path) -> None:
    done = mews("demo", "--json", "--run", tmp_path / "run", "--set", "model.epochs=0")
    assert done.returncode == 2
    assert last_json(done)["exit_code"] == 2
    assert last_json(done)["kind"] == "ConfigError"


def _table(folder: Path, frame: pl.DataFrame) -> list[str]:
    frame.write_parquet(folder / "rows.parquet")
    roles = {"user": "user", "item": "item", "price": "numeric", "time": "timestamp", "label": "label"}
    columns = "{" + ", ".join(f"{name}: {{role: {role}}}" for name, role in roles.items()) + "}"
    return settings("data.source=table", f"data.path={folder / 'rows.parquet'}", f"data.columns={columns}")


def _rows(count: int = 400) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user": [number % 17 for number in range(count)],
            "item": [number % 11 for number in range(count)],
            "price": [float(number % 7) for number in range(count)],
            "time": list(range(count)),
            "label": [number % 3 == 0 for number in range(count)],
        },
        schema_overrides={"label": pl.Int8},
    )


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (_rows().drop("price"), "price"),
        (_rows().with_columns(label=pl.lit(1, pl.Int8)), "one class"),
        (_rows().with_columns(price=pl.lit(None, pl.Float64)), "nothing but nulls"),
        (_rows().head(0), "there are none"),
        (_rows().with_columns(label=pl.lit(5, pl.Int8)), "label"),
    ],
    ids=["missing column", "one class", "all null", "empty", "labels that are none"],
)
def test_refused_data_is_exit_3_and_leaves_nothing_half_written(tmp_path: Path, frame: pl.DataFrame, says: str) -> None:
    done = mews("data", "validate", "--run", tmp_path / "run", "--json", *_table(tmp_path, frame))
    assert done.returncode == 3, done.stdout + done.stderr
    assert says in done.stderr
    assert not (tmp_path / "run" / "data" / "split").exists()
    assert leftovers(tmp_path) == []


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    options = _table(tmp_path, _rows())
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 no more")
    done = mews("data", "validate", "--run", tmp_path / "run", *options)
    assert done.returncode == 3, done.stderr
    assert "rows.parquet" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_is_said_and_the_next_run_goes_on(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        full = mews("etl", "transform", "--run", disk / "run", *settings(*SMALL))
        assert full.returncode == 1, full.stdout + full.stderr
        assert "space" in full.stderr
        assert "Traceback" not in full.stderr
        assert leftovers(disk) == []
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        freed = mews("etl", "transform", "--run", disk / "run", *settings(*SMALL))
        assert freed.returncode == 0, freed.stderr
    finally:
        subprocess.run(["umount", disk], check=True)

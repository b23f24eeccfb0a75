"""`mews serve` and `mews predict`, against the real server, as two terminals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ensemble import Client, read_rows
from tests.e2e.conftest import MEWS, ROOT, Demo, last_json, leftovers, mews

pytestmark = pytest.mark.xdist_group("demo")
FREE = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]


@pytest.fixture
def served(demo: Demo, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A running `mews serve` and its addresses."""
    command = [str(MEWS), "serve", "--run", str(demo.folder), *FREE]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            break
    assert process.poll() is None, "".join(lines)
    yield process, json.loads((demo.folder / "serve.json").read_text())
    if process.poll() is None:
        process.terminate()
    process.communicate(timeout=60)


def test_predict_asks_the_running_server(demo: Demo, served: tuple[subprocess.Popen[str], dict[str, str]]) -> None:
    rows = demo.folder / "examples" / "rows.json"
    answers = {}
    for protocol in ("http", "grpc"):
        done = mews("predict", f"--{protocol}", "--input", rows, "--run", demo.folder, "--json")
        assert done.returncode == 0, done.stderr
        assert "embedded" not in done.stderr
        answers[protocol] = last_json(done)["scores"]
    offline = np.load(demo.folder / "evaluation" / "scores.npy")[:5]
    assert np.abs(np.array(answers["http"]) - offline).max() <= 1e-5
    assert np.abs(np.array(answers["grpc"]) - offline).max() <= 1e-5
    done = mews("predict", "--input", rows, "--triton-url", served[1]["http"], "--run", demo.folder, "--json")
    assert last_json(done)["scores"] == answers["http"]


def test_the_example_request_works_as_it_is(demo: Demo, served: tuple[subprocess.Popen[str], dict[str, str]]) -> None:
    body = (demo.folder / "repository" / "mews" / "1" / "request.example.json").read_bytes()
    url = f"http://{served[1]['http']}/v2/models/mews/infer"
    with urllib.request.urlopen(url, data=body, timeout=10) as answer:
        scores = json.loads(answer.read())["outputs"][0]
    assert scores["name"] == "score"
    assert all(0 < score < 1 for score in scores["data"])


def test_unknown_categories_and_nulls_are_answered(
    demo: Demo, served: tuple[subprocess.Popen[str], dict[str, str]]
) -> None:
    with Client(served[1]["http"]) as client:
        rows = read_rows(demo.folder / "examples" / "rows.json", client.metadata().request).head(1)
        score = client.predict(
            rows.with_columns(
                pl.lit("no such country").alias("country"),
                pl.lit(None, pl.Float32).alias("age"),
                pl.lit([], pl.List(pl.String)).alias("tags"),
            )
        )
    assert score.shape == (1,)
    assert 0 < score[0] < 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_stops_cleanly(
    demo: Demo, served: tuple[subprocess.Popen[str], dict[str, str]], number: signal.Signals
) -> None:
    process, _ = served
    process.send_signal(number)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 0, printed
    assert "stopped" in printed
    assert not (demo.folder / "serve.json").exists()
    assert leftovers(demo.folder) == []
    assert not [name for name in os.listdir("/dev/shm") if f"-{process.pid}-" in name]  # noqa: PTH208


def test_a_taken_port_is_named(demo: Demo, served: tuple[subprocess.Popen[str], dict[str, str]]) -> None:
    port = served[1]["http"].rpartition(":")[2]
    done = mews("serve", "--run", demo.folder, "--http-port", port, *FREE[2:])
    assert done.returncode == 1
    assert port in done.stderr


def test_a_damaged_model_is_named(demo: Demo, tmp_path: Path) -> None:
    shutil.copytree(demo.folder, tmp_path / "run")
    for model in (tmp_path / "run" / "repository").glob("mews_model_*/1/model.onnx"):
        model.write_bytes(b"nothing")
    done = mews("serve", "--run", tmp_path / "run", *FREE)
    assert done.returncode == 1
    assert "mews_model_" in done.stderr
    assert "Traceback" not in done.stderr

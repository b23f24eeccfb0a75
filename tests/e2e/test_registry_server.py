"""The registry and the figures of a training on a live MLflow server, which is given by its address."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from etl.errors import ArtifactError
from mews import registry
from mews.console import Terminal
from mews.run import Run
from mews.session import Session
from tests.e2e.conftest import Demo, last_json, mews, settings
from training.registry import server as asked

pytestmark = pytest.mark.xdist_group("demo")
MLFLOW = Path(sys.executable).parent / "mlflow"
STARTS = 180
"""Seconds; 12 where nothing else runs."""


@dataclass(frozen=True)
class Server:
    """A server that runs: its address, and where it keeps files."""

    url: str
    artifacts: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mlflow")
    url, artifacts, log = f"http://127.0.0.1:{free_port()}", folder / "artifacts", folder / "log"
    command = [MLFLOW, "server", "--host", "127.0.0.1", "--port", url.rpartition(":")[2], "--workers", "1"]
    kept = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.sqlite'}", "--artifacts-destination", artifacts]
    alone = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (
        log.open("w") as out,
        subprocess.Popen(
            [*command, *kept], cwd=folder, env={**os.environ, **alone}, stdout=out, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            until = time.monotonic() + STARTS
            while not healthy(url):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.2)
            yield Server(url, artifacts)
        finally:
            process.terminate()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except OSError:
        return False


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def session(run: Path, uri: str) -> Session:
    return Session(None, Run(run), [f"registry.uri={uri}"], Terminal(quiet=True))


def test_a_run_is_registered_promoted_shown_and_told_of_on_a_server(demo: Demo, server: Server, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(demo.folder, run)
    done = mews("models", "register", "--run", run, "--json", *settings(f"registry.uri={server.url}"))
    assert done.returncode == 0, done.stderr
    version = last_json(done)
    assert (version["version"], version["aliases"], version["registered"]) == (1, ["challenger"], True)
    assert "http" not in done.stdout + done.stderr, "MLflow's own messages"
    assert not (run / "registry").exists(), "nothing is kept beside the server"
    kept = {path.name for path in server.artifacts.rglob("*") if path.is_file()}
    assert {"saved_model.pb", "model.onnx", "config.yaml", "model_card.md", "metrics.json", "labels.npy"} <= kept

    assert registry.register(session(run, server.url), export=True)["registered"] is False
    promoted = registry.promote(session(run, server.url), None, False, None)
    assert (promoted["promoted"], promoted["aliases"]) == (True, ["champion"])
    shown = registry.show(session(run, server.url), "champion")
    assert (shown["version"], shown["parameters"]["model.name"]) == (1, '"dlrm"')
    assert shown["metrics"]["auc"] == json.loads((run / "evaluation" / "metrics.json").read_text())["auc"]
    assert len(shown["parameters"]) > 40
    history = [one for one in registry.history(session(run, server.url)) if one["where"] == "registry"]
    assert [(one["version"], one["event"]) for one in history] == [(1, "registered"), (1, "promoted")]


def test_a_training_tells_the_server_its_settings_and_every_epoch(demo: Demo, server: Server, tmp_path: Path) -> None:
    run, asks = tmp_path / "run", ["model.epochs=2", "registry.experiment=other", f"train.mlflow={server.url}"]
    shutil.copytree(demo.folder, run)
    done = mews("train", "--run", run, "--json", *settings(*asks))
    assert done.returncode == 0, done.stderr

    from mlflow import MlflowClient

    client = MlflowClient(server.url)
    experiments = [one.experiment_id for one in client.search_experiments()]
    (told,) = [one for one in client.search_runs(experiments) if "config.epochs" in one.data.params]
    assert told.info.status == "FINISHED"
    assert (told.data.params["config.epochs"], told.data.params["rows"]) == ("2", "16000")
    for name in ("train_loss", "valid_loss", "valid_auc", "samples_per_s"):
        points = client.get_metric_history(told.info.run_id, name)
        assert [one.step for one in points] == [1, 2], name
        assert all(one.value > 0 for one in points), name


def test_without_a_server_a_command_ends_within_seconds_and_nothing_is_lost(demo: Demo, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(demo.folder, run)
    before, nobody = files_of(run), f"http://127.0.0.1:{free_port()}"
    for ask in (
        lambda: registry.register(session(run, nobody), export=True),
        lambda: registry.promote(session(run, nobody), None, False, None),
        lambda: registry.show(session(run, nobody), None),
    ):
        began = time.monotonic()
        with pytest.raises(ArtifactError, match=f"registry {nobody}; expected a server that answers; received Conn"):
            ask()
        assert time.monotonic() - began < asked.ANSWERS
    assert files_of(run) == before


def test_a_server_that_takes_a_connection_and_says_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "ANSWERS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(ArtifactError, match="expected a server that answers; received timed out"):
            registry.show(session(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}"), None)
        assert time.monotonic() - began < 10


def test_user_and_password_of_the_environment_are_sent_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str | None] = []

    class Gateway(BaseHTTPRequestHandler):
        """Lets nobody through, as a gateway before an MLflow server does."""

        def _refuse(self) -> None:
            heard.append(self.headers["Authorization"])
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = _refuse  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    with HTTPServer(("127.0.0.1", 0), Gateway) as gateway:
        serving = Thread(target=gateway.serve_forever)
        serving.start()
        try:
            with pytest.raises(ArtifactError, match="401") as refused:
                registry.show(session(tmp_path, f"http://127.0.0.1:{gateway.server_port}"), None)
        finally:
            gateway.shutdown()
            serving.join()
    assert heard[-1] == "Basic " + base64.b64encode(b"ada:hunter2").decode()
    assert "hunter2" not in str(refused.value)

"""What Triton's own metrics say of ensembles: the rules and docs/watching.md are built on it, so it is held here."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from ensemble.client.client import Client
from ensemble.config import ExportConfig
from ensemble.export.export import export
from ensemble.repository import activate, labels_of
from ensemble.versions.change import publish, rollback
from ensemble.versions.check import Limits
from ensemble.versions.control import Control
from ensemble.versions.state import Place
from ensemble.versions.work import Work
from etl.errors import BusyError, RefusedError
from mews.cli import app
from tests.ensemble.conftest import SCHEMA, Parts, model_graph
from tests.watch.conftest import WatchedServer

_LINE = re.compile(r'^(\w+)\{model="([^"]+)"(?:,reason="(\w+)")?,version="(\d+)"\} (\d+)$', re.MULTILINE)


def _settings(name: str) -> ExportConfig:
    return ExportConfig.model_validate({"name": name, "max_batch_size": 8, "stable": name == "brittle"})


@pytest.fixture(scope="module")
def server(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedServer]:
    """`shop` with versions 1 and 2, of which 1 serves; `brittle`, whose table of items is too short for some; `narrow`,
    whose steps let one request wait.
    """
    folder = tmp_path_factory.mktemp("counts")
    graph = model_graph()
    table = next(each for each in graph.graph.initializer if each.name == "table_item")
    table.CopyFrom(numpy_helper.from_array(np.zeros((5, 3), dtype=np.float32), "table_item"))
    onnx.save(graph, folder / "brittle.onnx")
    repository = folder / "models"
    known = parts.rows(8).with_columns(item=pl.lit("apple"))
    export(parts.workflow, folder / "brittle.onnx", repository, _settings("brittle"), SCHEMA, {}, known)
    parts.export(repository, name="shop", max_batch_size=8)
    parts.export(repository, name="shop", max_batch_size=8, stable=False)
    queue = {"max_requests": 1}
    parts.export(repository, name="narrow", max_batch_size=8, scheduling={"queue": queue})
    with WatchedServer(repository, models=["shop", "brittle", "narrow"]) as started:
        yield started


def _counts(server: WatchedServer, metric: str, model: str) -> dict[tuple[str, int], int]:
    """The values of a metric by reason (empty for none) and version."""
    with urllib.request.urlopen(server.metrics_url, timeout=5) as answer:
        text = answer.read().decode()
    found = (match.groups() for match in _LINE.finditer(text))
    return {
        (reason or "", int(version)): int(value)
        for name, of_model, reason, version, value in found
        if (name, of_model) == (metric, model)
    }


def test_a_failure_within_an_ensemble_counts_twice_and_a_refusal_not_at_all(
    server: WatchedServer, parts: Parts
) -> None:
    with Client(server.http_url, "brittle") as client:
        with pytest.raises(RefusedError, match="out of data bounds"):
            client.predict(parts.rows(8).with_columns(item=pl.lit("überraschung")))
        with pytest.raises(RefusedError, match="missing required input"):
            client.infer({"user": np.zeros((3, 1), dtype=np.int64)})
    failed = _counts(server, "nv_inference_request_failure", "brittle")
    assert {key: value for key, value in failed.items() if value} == {("OTHER", 1): 2}


def test_what_a_full_queue_refuses_is_other_and_counted_at_no_step(server: WatchedServer, parts: Parts) -> None:
    rows, refusals, end = parts.rows(8), list[str](), time.monotonic() + 60

    def ask() -> None:
        with Client(server.http_url, "narrow", attempts=1) as client:
            while not refusals and time.monotonic() < end:
                try:
                    client.predict(rows)
                except BusyError as error:
                    refusals.append(str(error))

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(ask) for _ in range(16)]:
            done.result()
    assert refusals
    assert "Exceeds maximum queue size" in refusals[0]
    counted = {
        (model, reason)
        for model in ("narrow", "narrow_features_1", "narrow_model_1")
        for (reason, _), value in _counts(server, "nv_inference_request_failure", model).items()
        if value
    }
    assert counted == {("narrow", "OTHER")}


def test_only_the_gauge_of_waiting_requests_says_an_ensembles_version(server: WatchedServer, parts: Parts) -> None:
    gauge, place = "nv_inference_pending_request_count", Place(server.repository, "shop")
    with Control(server.grpc_url) as control, Client(server.http_url, "shop", refresh=0) as client:
        work = Work(place, control, limits=Limits(requests=0))
        publish(work, 2)
        before = _counts(server, "nv_inference_request_success", "shop")
        client.predict(parts.rows(4))
        after = _counts(server, "nv_inference_request_success", "shop")
        assert {version for _, version in _counts(server, gauge, "shop")} == {1, 2}
        assert {key: after[key] - before[key] for key in after} == {("", 1): 1, ("", 2): 0}
        rollback(work)
        assert {version for _, version in _counts(server, gauge, "shop")} == {1}


def test_list_tells_which_version_really_answers(server: WatchedServer, parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "repository").symlink_to(server.repository)
    where = ("--triton-url", server.http_url, "--triton-grpc-url", server.grpc_url)
    options = ["versions", "list", "--run", str(tmp_path), *where, "--set", "export.name=shop", "--json"]
    labels = labels_of(server.repository, "shop")
    activate(server.repository, "shop", 2, labels)  # as `mews export` does, with nobody telling the server
    try:
        done = CliRunner().invoke(app, options)
    finally:
        activate(server.repository, "shop", 1, labels)
    found = {each["version"]: (each["state"], each["ready"]) for each in json.loads(done.stdout.splitlines()[-1])}
    assert {version: ready for version, (_, ready) in found.items()} == {1: True, 2: False}
    assert found[2][0] == "stable"

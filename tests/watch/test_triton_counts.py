"""What Triton's own metrics say of ensembles: the rules and docs/watching.md are built on it, so it is held here."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import numpy_helper

from ensemble.client.client import Client
from ensemble.config import ExportConfig
from ensemble.export.export import export
from ensemble.versions.change import publish, rollback
from ensemble.versions.check import Limits
from ensemble.versions.control import Control
from ensemble.versions.state import Place
from ensemble.versions.work import Work
from etl.errors import RefusedError
from tests.ensemble.conftest import SCHEMA, Parts, model_graph
from tests.watch.conftest import WatchedServer

_LINE = re.compile(r'^(\w+)\{model="([^"]+)"(?:,reason="(\w+)")?,version="(\d+)"\} (\d+)$', re.MULTILINE)


def _settings(name: str) -> ExportConfig:
    return ExportConfig.model_validate({"name": name, "max_batch_size": 8, "stable": name == "brittle"})


@pytest.fixture(scope="module")
def server(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedServer]:
    """`shop` with versions 1 and 2, of which 1 serves, and `brittle`, whose table of items is too short for some."""
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
    with WatchedServer(repository, models=["shop", "brittle"]) as started:
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

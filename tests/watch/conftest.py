"""The embedded Triton under load, `mews metrics` of a run, and a Prometheus that scrapes both every second."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from ensemble.client.client import Client
from ensemble.server.embedded import Program
from ensemble.server.ports import choose
from ensemble.server.triton import TritonServer
from mews import cache
from mews.metrics import server as metrics_server
from mews.run import Run
from tests.ensemble.conftest import SCHEMA, Parts, parts_in, random_rows

ROOT = Path(__file__).resolve().parents[2]
WATCH = ROOT / "docker" / "watch"
SUMMARIES = "--metrics-config=summary_latencies=true"
_LONGEST_SECONDS = 30
_SEEN = "count(mews:latency:mean_seconds > 0) > 2 and on () mews:model:age_seconds > 0"

STAGES: dict[str, dict[str, Any]] = {
    "data": {"rows": 1000},
    "validate": {"rows": 1000, "quarantined": 3},
    "split": {"rows": {"train": 800, "valid": 100, "test": 97}},
    "fit": {"fit_seconds": 1.0},
    "transform": {"rows_per_s": 1e6, "rows": {}},
    "train": {"samples_per_s": 2e5},
    "evaluate": {"auc": 0.75, "logloss": 0.4, "ece": 0.01, "rows": 97},
    "query": {"http_max_abs_diff": 1e-7, "grpc_max_abs_diff": 1e-7},
}
METRICS = {
    name: value
    for key, middle in (("auc", 0.75), ("logloss", 0.4), ("ece", 0.01))
    for name, value in ((key, middle), (f"{key}_low", middle - 0.005), (f"{key}_high", middle + 0.005))
} | {"click_rate": 0.2}


class WatchedServer(TritonServer):
    """A server with more options of tritonserver's."""

    options: Sequence[str] = ()

    def _command(self, program: Program) -> list[str]:
        return [*super()._command(program), *self.options]


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return parts_in(tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="session")
def run(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run folder with two versions of `mews`, and the records of its stages."""
    from ensemble.config import ExportConfig
    from ensemble.export.export import export

    run = Run(tmp_path_factory.mktemp("run"))
    for rows in (4, 8):
        settings = ExportConfig.model_validate({"name": "mews", "max_batch_size": 8, "warmup_rows": 2})
        export(parts.workflow, parts.model, run.repository, settings, SCHEMA, METRICS, parts.rows(rows))
    for stage, result in STAGES.items():
        cache.write(run.stages, stage, "key", [], run.folder, result | {"peak_rss_mb": 300}, 1.5)
    run.model.mkdir()
    (run.model / "history.json").write_text(json.dumps([{"epoch": 1, "train_loss": 0.5, "valid_loss": 0.51}]))
    return run


@dataclass
class Collector:
    """Takes OpenTelemetry's traces over HTTP and keeps them."""

    url: str = ""
    spans: list[dict[str, Any]] = field(default_factory=list)

    def of(self, trace: int, count: int) -> list[dict[str, Any]]:
        """Return the spans of one trace as soon as there are `count`."""
        end = time.monotonic() + _LONGEST_SECONDS
        while time.monotonic() < end:
            found = [span for span in self.spans if span["traceId"] == f"{trace:032x}"]
            if len(found) >= count:
                return found
            time.sleep(0.05)
        raise AssertionError(f"{len(found)} spans of the trace, {len(self.spans)} in all")


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    found = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in said["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    found.spans.extend(scope["spans"])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        found.url = f"http://127.0.0.1:{listening.server_address[1]}/v1/traces"
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        yield found
        listening.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def watched(run: Run, collector: Collector) -> Iterator[WatchedServer]:
    """A server with everything on that tells what it does; it traces only requests that carry a trace."""
    server = WatchedServer(run.repository, models=["mews"])
    server.options = (
        SUMMARIES,
        "--trace-config=mode=opentelemetry",
        f"--trace-config=opentelemetry,url={collector.url}",
        "--trace-config=opentelemetry,bsp_schedule_delay=200",
        "--trace-config=rate=0",
        "--trace-config=level=TIMESTAMPS",
        "--log-format=ISO8601",
        "--log-verbose=1",
    )
    with server:
        yield server


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus, asked over HTTP."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query; its error is an AssertionError."""
        return list(self._get("query", query=expression)["result"])

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules with their health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None


@pytest.fixture(scope="session")
def prometheus(run: Run, watched: WatchedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus with our rules and configuration (other addresses, each second) after seconds of load."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is missing: `apt-get install prometheus`")
    folder = tmp_path_factory.mktemp("prometheus")
    exporter = metrics_server(run, "mews", "127.0.0.1", 0)
    thread = threading.Thread(target=exporter.serve_forever, args=(0.05,))
    thread.start()
    try:
        targets = [f"127.0.0.1:{watched.ports.metrics}", f"127.0.0.1:{exporter.server_address[1]}"]
        with Started(folder, targets) as found:
            _load(watched, found)
            yield found
    finally:
        exporter.shutdown()
        thread.join()
        exporter.server_close()


def _load(triton: TritonServer, watching: Prometheus) -> None:
    """Ask until Prometheus has seen it: rates need two scrapes, and it begins to scrape after five seconds."""
    end, seen = time.monotonic() + _LONGEST_SECONDS, False
    with Client(triton.http_url, "mews") as client:
        while not seen and time.monotonic() < end:
            for _ in range(100):
                client.predict(random_rows(5))
                time.sleep(0.005)
            seen = bool(watching.query(_SEEN))
    assert seen, f"Prometheus has no {_SEEN}"


class Started:
    """A Prometheus of our configuration in `folder`, on a free port, until the block ends."""

    def __init__(self, folder: Path, targets: Sequence[str]) -> None:
        self.folder = folder
        said = yaml.safe_load((WATCH / "prometheus.yml").read_text())
        said["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        said["rule_files"] = [str(WATCH / pattern) for pattern in said["rule_files"]]
        for job, target in zip(said["scrape_configs"], targets, strict=True):
            job.pop("scrape_interval", None)
            job["static_configs"] = [{"targets": [target]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(said))

    def __enter__(self) -> Prometheus:
        port = choose("127.0.0.1", [0, 0, 0]).http
        self.log = (self.folder / "log").open("w")
        options = [
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self.process = subprocess.Popen(["prometheus", *options], stdout=self.log, stderr=self.log)
        found = Prometheus(f"http://127.0.0.1:{port}")
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{found.url}/-/ready", timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return found
        self.__exit__()
        raise AssertionError((self.folder / "log").read_text())

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)
        self.log.close()

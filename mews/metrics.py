"""What a run folder, or a folder of generations, tells Prometheus: versions, stages, rows and how good the model is.

Triton's metrics say how requests go; they do not know how old a model is or which version should serve. That stands in
files, so it is read from them anew at every scrape, and nothing else is asked.
"""

from __future__ import annotations

import http.server
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from etl.errors import MewsError, ServerError
from mews.generations import Generations, decided, find
from mews.run import PARTS, Run

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Sample:
    """One number of one metric."""

    name: str
    value: float
    labels: Labels


HELP = {
    "mews_version_info": "1 for each version in the model repository, with what it is: stable, previous, ...",
    "mews_version_created_timestamp_seconds": "When the version was exported.",
    "mews_version_bytes": "Size of the version's files.",
    "mews_version_share": "Share of the requests that clients send to the canary.",
    "mews_version_metric": "What the evaluation found before the version was exported.",
    "mews_version_damaged": "1 for a version whose manifest cannot be read.",
    "mews_switch_unfinished": "1 while a change of the stable version has begun and not ended.",
    "mews_stage_done": "1 for a stage of the pipeline that has finished, 0 for one that failed or is under way.",
    "mews_stage_finished_timestamp_seconds": "When the stage finished.",
    "mews_stage_seconds": "How long the stage took.",
    "mews_stage_peak_memory_bytes": "Most memory that the stage's process held.",
    "mews_rows": "Rows by part: raw, quarantined, train, valid, test.",
    "mews_transform_rows_per_second": "Throughput of the feature transformation.",
    "mews_train_samples_per_second": "Throughput of training.",
    "mews_train_loss": "Loss by epoch; of the training or the validation rows.",
    "mews_evaluation": "What the last evaluation found.",
    "mews_parity_difference": "Largest difference between a served and an offline score, by protocol.",
    "mews_release_timestamp_seconds": "When it was decided whether the new model serves: promote or stop.",
    "mews_generation_info": "1 for the generation that was begun last, that finished last, and that serves.",
    "mews_unreadable": "1 for a part of the run folder that could not be read.",
}
"""Every metric with its help; all are gauges."""


def collect(run: Run, name: str | None = None, champion: Path | None = None) -> list[Sample]:
    """Return what a run folder says of ensemble `name`; what cannot be read is `mews_unreadable`, and the rest stays.

    A folder of generations tells of those that `mews.generations.find` finds: versions of the one that serves,
    `mews_stage_done` of the one that was begun last, all else of the one that finished last. Without a `name` it is
    that of the serving one's configuration. Seconds, bytes and rows are as they are; times are seconds since 1970.
    """
    try:
        told = find(run, champion)
    except (OSError, ValueError):
        told = Generations(run, run, run, several=True, lost=True)
    found: list[Sample] = []
    readers: dict[str, Callable[[], Iterator[Sample]]] = {
        "versions": lambda: _versions(told.served, name or _name_in(told.served)),
        "stages": lambda: _stages(told),
        "training": lambda: _training(told.finished),
        "release": lambda: _release(told.finished),
    }
    if told.several:
        readers["generations"] = lambda: _generations(told)
    for part, read in readers.items():
        try:
            found += list(read())
            bad = part == "generations" and told.lost
        except (MewsError, OSError, ValueError, KeyError, TypeError, AttributeError):
            bad = True
        found.append(Sample("mews_unreadable", float(bad), {"part": part}))
    return [sample for sample in found if math.isfinite(sample.value)]


def render(samples: list[Sample]) -> str:
    """Return the samples in Prometheus' text format, each metric once with its help."""
    lines = []
    for name, text in HELP.items():
        of_metric = [sample for sample in samples if sample.name == name]
        if of_metric:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
            lines += [f"{name}{_labels(sample.labels)} {sample.value!r}" for sample in of_metric]
    return "\n".join(lines) + "\n"


def server(
    run: Run, name: str | None, host: str, port: int, champion: Path | None = None
) -> http.server.ThreadingHTTPServer:
    """Return a server that answers GET /metrics; 0 is any free port. ServerError when it cannot listen there."""

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10  # seconds for a request to arrive: nobody holds a thread for longer

        def do_GET(self) -> None:
            known = self.path.partition("?")[0] == "/metrics"
            body = render(collect(run, name, champion)).encode() if known else b"metrics are at /metrics\n"
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", CONTENT_TYPE if known else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Scrapes are no news."""

    try:
        return http.server.ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise ServerError(
            f"cannot listen on {host}:{port}",
            expected="a free port",
            received=error.strerror or str(error),
            hint="Choose another port, or 0 for any free one.",
        ) from None


def _labels(labels: Labels) -> str:
    def quoted(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{key}="{quoted(value)}"' for key, value in labels.items()) + "}" if labels else ""


def _versions(run: Run, name: str) -> Iterator[Sample]:
    from ensemble.versions.state import Place, describe

    place = Place(run.repository, name)
    if not (run.repository / name).is_dir():
        return
    yield Sample("mews_switch_unfinished", float(place.state.labels.switch is not None), {"model": name})
    for each in describe(place):
        known = {"model": name, "version": str(each["version"]), "state": str(each["state"])}
        yield Sample("mews_version_damaged", float("problem" in each), {"model": name, "version": known["version"]})
        yield Sample("mews_version_info", 1, known | {"fingerprint": str(each.get("fingerprint", ""))[:12]})
        if "share" in each:
            yield Sample("mews_version_share", float(each["share"]), known)
        if "problem" in each:
            continue
        created = datetime.fromisoformat(each["created"]).timestamp()
        yield Sample("mews_version_created_timestamp_seconds", created, known)
        yield Sample("mews_version_bytes", float(each["size"]), known)
        for metric, value in _numbers(each["metrics"]):
            yield Sample("mews_version_metric", value, known | {"metric": metric})


def _name_in(run: Run) -> str:
    from mews.config import load

    return load(run.config if run.config.is_file() else None).export.name


def _generations(told: Generations) -> Iterator[Sample]:
    for role, run in told.roles():
        yield Sample("mews_generation_info", 1, {"role": role, "generation": run.folder.name})


def _stages(told: Generations) -> Iterator[Sample]:
    from mews.pipeline import STAGES

    over = decided(told.begun)
    for stage in STAGES:
        labels = {"stage": stage}
        done = (told.begun.stages / f"{stage}.json").is_file()
        if done or not over:  # a release that stops leaves later stages out, and nothing waits for them
            yield Sample("mews_stage_done", float(done), labels)
        path = told.finished.stages / f"{stage}.json"
        if not path.is_file():
            continue
        record = _read(path)
        yield Sample("mews_stage_finished_timestamp_seconds", path.stat().st_mtime, labels)
        yield Sample("mews_stage_seconds", float(record["seconds"]), labels)
        result = record["result"]
        if (peak := result.get("peak_rss_mb")) is not None:
            yield Sample("mews_stage_peak_memory_bytes", peak * 2.0**20, labels)
        yield from _of_stage(stage, result)


def _of_stage(stage: str, result: Mapping[str, Any]) -> Iterator[Sample]:
    """What single stages say beside their seconds."""
    if stage == "validate":
        yield Sample("mews_rows", float(result["rows"]), {"part": "raw"})
        yield Sample("mews_rows", float(result["quarantined"]), {"part": "quarantined"})
    elif stage == "split":
        for part in PARTS:
            yield Sample("mews_rows", float(result["rows"].get(part, 0)), {"part": part})
    elif stage == "transform":
        yield Sample("mews_transform_rows_per_second", float(result["rows_per_s"]), {})
    elif stage == "train":
        yield Sample("mews_train_samples_per_second", float(result["samples_per_s"]), {})
    elif stage == "evaluate":
        for metric, value in _numbers(result):
            if metric != "peak_rss_mb":
                yield Sample("mews_evaluation", value, {"metric": metric})
    elif stage == "query":
        for protocol in ("http", "grpc"):
            value = float(result[f"{protocol}_max_abs_diff"])
            yield Sample("mews_parity_difference", value, {"protocol": protocol})


def _training(run: Run) -> Iterator[Sample]:
    path = run.model / "history.json"
    if not path.is_file():
        return
    for epoch in _read(path):
        for part in ("train", "valid"):
            if (loss := epoch.get(f"{part}_loss")) is not None:
                yield Sample("mews_train_loss", float(loss), {"epoch": str(epoch["epoch"]), "part": part})


def _release(run: Run) -> Iterator[Sample]:
    path = run.folder / "release.json"
    if path.is_file():
        yield Sample("mews_release_timestamp_seconds", path.stat().st_mtime, {"decision": _read(path)["decision"]})


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _numbers(values: Mapping[str, Any]) -> list[tuple[str, float]]:
    plain = (int, float)
    return [
        (key, float(value)) for key, value in values.items() if isinstance(value, plain) and not isinstance(value, bool)
    ]

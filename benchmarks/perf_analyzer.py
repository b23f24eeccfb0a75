"""NVIDIA's perf_analyzer, as it comes inside tritonclient's wheel: found, made runnable, run, and its answers read.

Its window rule: three windows in a row, each at least `--measurement-interval` long, whose figures agree within
`--stability-percentage`; otherwise it prints no figures. Here it always measures three windows and prints them, and
whether they agreed within `STABLE` is part of the answer.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from etl.errors import MewsError

WINDOWS = 3
STABLE = 0.25
_ANY_SPREAD = 100_000  # percent
_PASS = re.compile(r"Pass \[\d+\] throughput: (?P<throughput>[\d.]+) infer/sec\.")
_START_SECONDS = 60  # beyond the measurement: start, warm-up, and a window that waits for slow answers
_NO_ANSWER = "No valid requests recorded"
_LONGER = (1, 4, 16)
_JSON = ("--input-tensor-format", "json", "--output-tensor-format", "json")


class BenchmarkError(MewsError):
    """perf_analyzer is missing, or measured nothing."""


class NothingAnsweredError(BenchmarkError):
    """No request was answered within a window."""


@dataclass(frozen=True)
class Load:
    """What is sent: rows of `batch` to `model` over `protocol`, `concurrency` requests at any time.

    `as_json` sends and asks tensors as JSON over HTTP, in place of KServe's binary form.
    """

    model: str
    protocol: str
    concurrency: int
    batch: int
    as_json: bool = False


@dataclass(frozen=True)
class Figures:
    """What perf_analyzer saw: microseconds of latency at the client, requests a second, and whether windows agreed."""

    p50_us: int
    p90_us: int
    p99_us: int
    requests_per_s: float
    stable: bool
    latencies_us: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class PerfAnalyzer:
    """A perf_analyzer that runs here; `work` is a folder for its files."""

    program: Path
    environment: Mapping[str, str]
    work: Path

    @classmethod
    def find(cls, work: Path) -> PerfAnalyzer:
        """Return the perf_analyzer of this environment, with its two libraries linked under `work`.

        BenchmarkError says which of the packages that hold them is missing.
        """
        program = Path(sysconfig.get_path("scripts")) / "perf_analyzer"
        if not program.is_file():
            raise BenchmarkError(
                f"{program} is missing",
                expected="tritonclient 2.60 or older, whose wheel holds it",
                hint="Run `make setup`.",
            )
        libraries = work / "lib"
        libraries.mkdir(parents=True, exist_ok=True)
        for name, found in (("libb64.so.0d", _libb64()), ("libcudart.so.12", _libcudart())):
            (libraries / name).unlink(missing_ok=True)
            (libraries / name).symlink_to(found)
        path = os.pathsep.join(filter(None, [str(libraries), os.environ.get("LD_LIBRARY_PATH", "")]))
        return cls(program, {**os.environ, "LD_LIBRARY_PATH": path}, work)

    def measure(self, url: str, load: Load, data: Path, seconds: float, *, latencies: bool = False) -> Figures:
        """Send `data` for about `seconds`; `latencies` keeps that of every request.

        A load that leaves a window without an answer is sent again, for longer. BenchmarkError with perf_analyzer's own
        words if a request failed, or none was answered then either.
        """
        for length in _LONGER[:-1]:
            try:
                return self._measure(url, load, data, seconds * length, latencies)
            except NothingAnsweredError:
                continue
        return self._measure(url, load, data, seconds * _LONGER[-1], latencies)

    def _measure(self, url: str, load: Load, data: Path, seconds: float, latencies: bool) -> Figures:
        report, profile = self.work / "report.csv", self.work / "profile.json"
        for path in (report, profile):
            path.unlink(missing_ok=True)
        command = [
            str(self.program),
            *("-m", load.model, "-u", url, "-i", load.protocol, "-b", str(load.batch)),
            *("--concurrency-range", str(load.concurrency), "--input-data", str(data)),
            *(_JSON if load.as_json else ()),
            *("--measurement-interval", str(max(1, round(seconds * 1000 / WINDOWS)))),
            *("--max-trials", str(WINDOWS), "--stability-percentage", str(_ANY_SPREAD)),
            *("-v", "-f", str(report)),
            *(("--profile-export-file", str(profile)) if latencies else ()),
        ]
        output = self._run(command, seconds * 4 + _START_SECONDS)
        figures = read_report(report.read_text(encoding="utf-8"), output, load.batch)
        if not latencies:
            return figures
        return Figures(**{**vars(figures), "latencies_us": read_latencies(profile)})

    def _run(self, command: Sequence[str], timeout: float) -> str:
        try:
            done = subprocess.run(
                command, env=dict(self.environment), capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"perf_analyzer did not end within {timeout:.0f} seconds") from None
        if done.returncode != 0:
            said = "\n".join(line for line in (done.stderr + done.stdout).splitlines() if line.strip())
            said = said.split("Usage:")[0] or said  # it prints its whole manual at a wrong option
            kind = NothingAnsweredError if _NO_ANSWER in said else BenchmarkError
            raise kind("perf_analyzer measured nothing", received=f"this from it:\n{said[-3000:]}\n")
        return done.stdout


def read_report(text: str, output: str, batch: int) -> Figures:
    """Read its CSV report (one row) and, for the agreement of the windows, what it printed with -v."""
    rows = list(csv.DictReader(text.splitlines()))
    if len(rows) != 1:
        raise BenchmarkError("perf_analyzer's report", expected="one row", received=f"{len(rows)} rows")
    row = rows[0]
    windows = [float(match["throughput"]) for match in _PASS.finditer(output)][-WINDOWS:]
    agree = len(windows) == WINDOWS and min(windows) > 0 and max(windows) <= min(windows) * (1 + STABLE)
    return Figures(
        p50_us=int(float(row["p50 latency"])),
        p90_us=int(float(row["p90 latency"])),
        p99_us=int(float(row["p99 latency"])),
        requests_per_s=float(row["Inferences/Second"]) / batch,
        stable=agree,
    )


def read_latencies(profile: Path) -> npt.NDArray[np.float64]:
    """Return the latency (microseconds) of every answered request of a profile export, sorted."""
    # Tensors are in it byte by byte, which is not UTF-8; only the timestamps are wanted.
    content = json.loads(profile.read_bytes().decode("latin-1"), strict=False)
    spent = [
        (request["response_timestamps"][-1] - request["timestamp"]) / 1000
        for experiment in content["experiments"]
        for request in experiment["requests"]
        if request["response_timestamps"]
    ]
    return np.sort(np.asarray(spent, dtype=np.float64))


def write_data(path: Path, requests: Sequence[Mapping[str, npt.NDArray[Any]]], *, batched: bool) -> None:
    """Write `requests` (tensors by name) as perf_analyzer's input data, one step each, sent in turn.

    With `batched`, the first dimension (1) is left out, as perf_analyzer adds the batch itself.
    """
    steps = []
    for request in requests:
        shapes = {name: tensor.shape[1:] if batched else tensor.shape for name, tensor in request.items()}
        steps.append({name: {"content": _values(request[name]), "shape": list(shapes[name])} for name in request})
    path.write_text(json.dumps({"data": steps}), encoding="utf-8")


def _values(tensor: npt.NDArray[Any]) -> list[Any]:
    return [value.decode() if isinstance(value, bytes) else value for value in tensor.reshape(-1).tolist()]


def _libb64() -> Path:
    return _library("pytriton", "../nvidia_pytriton.libs", "libb64*.so.0d", "nvidia-pytriton")


def _libcudart() -> Path:
    return _library("nvidia", "cuda_runtime/lib", "libcudart.so.12", "nvidia-cuda-runtime-cu12")


def _library(module: str, folder: str, pattern: str, package: str) -> Path:
    spec = importlib.util.find_spec(module)
    for place in (spec and spec.submodule_search_locations) or ():
        for path in sorted((Path(place) / folder).glob(pattern)):
            return path.resolve()
    raise BenchmarkError(f"{pattern} is missing", expected=f"it in the package {package}", hint="Run `make setup`.")

"""Whether all targets answer the same: scores of the same rows, one by one and together, before any measurement."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.perf_analyzer import BenchmarkError
from benchmarks.targets import Target, to_body
from etl.names import SCORE

TOLERANCE = 1e-5
"""Largest difference of a score to the reference; beyond it a target does something else, and is not compared."""
ROWS, SINGLE = 64, 16
_TIMEOUT_SECONDS = 60

Scores = npt.NDArray[np.float64]


def scores(url: str, target: Target, frame: pl.DataFrame) -> Scores:
    """Return the scores of SINGLE rows, asked one by one, and then of ROWS rows asked at once."""
    parts = [frame[place : place + 1] for place in range(min(SINGLE, frame.height))] + [frame.head(ROWS)]
    return np.concatenate([_ask(url, target, part) for part in parts])


def _ask(url: str, target: Target, rows: pl.DataFrame) -> Scores:
    """Ask as perf_analyzer will: in JSON, or in KServe's binary form."""
    outputs = _ask_json(url, target, rows) if target.as_json else _ask_binary(url, target, rows)
    if not target.scored:
        return np.full(rows.height, np.nan)
    found = outputs.get(SCORE, next(iter(outputs.values())))
    return found.reshape(-1).astype(np.float64)


def _ask_json(url: str, target: Target, rows: pl.DataFrame) -> dict[str, npt.NDArray[Any]]:
    headers = {"Content-Type": "application/json"}
    path = f"http://{url}/v2/models/{target.model}/infer"
    question = urllib.request.Request(path, to_body(target.encode(rows)), headers)
    try:
        with urllib.request.urlopen(question, timeout=_TIMEOUT_SECONDS) as answer:
            outputs = json.load(answer)["outputs"]
    except urllib.error.HTTPError as error:
        raise BenchmarkError(f"{target.name} refuses a request", received=error.read().decode()[:500]) from error
    return {output["name"]: np.array(output["data"]) for output in outputs}


def _ask_binary(url: str, target: Target, rows: pl.DataFrame) -> dict[str, npt.NDArray[Any]]:
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException, np_to_triton_dtype

    inputs = []
    for name, values in target.encode(rows).items():
        tensor = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
        inputs.append(tensor.set_data_from_numpy(values))
    client = triton.InferenceServerClient(url, connection_timeout=_TIMEOUT_SECONDS, network_timeout=_TIMEOUT_SECONDS)
    try:
        answer = client.infer(target.model, inputs)
    except InferenceServerException as error:
        raise BenchmarkError(f"{target.name} refuses a request", received=str(error)[-500:]) from error
    finally:
        client.close()
    return {output["name"]: answer.as_numpy(output["name"]) for output in answer.get_response()["outputs"]}


def differences(found: Mapping[str, Scores], reference: str) -> dict[str, float | None]:
    """Return each target's largest difference to `reference`; None for what has no scores."""
    wanted = found[reference]
    return {name: None if np.isnan(values).all() else _largest(values, wanted) for name, values in found.items()}


def _largest(values: Scores, wanted: Scores) -> float:
    return float(np.abs(values - wanted).max()) if values.shape == wanted.shape else float("inf")


def differs(difference: float | None) -> bool:
    """Whether a difference is too large to compare the speed of the two."""
    return difference is not None and not difference <= TOLERANCE


def table(targets: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return one line for each target: name, largest difference, verdict."""
    return [
        [name, "-" if (found := each.get("max_abs_diff")) is None else f"{found:.1e}", _verdict(each)]
        for name, each in targets.items()
    ]


def _verdict(found: Mapping[str, Any]) -> str:
    if "failed" in found:
        return str(found["failed"]).splitlines()[0]
    if found.get("max_abs_diff") is None:
        return "no score"
    return "differs: not compared" if found.get("differs") else "same"

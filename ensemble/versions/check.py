"""Whether a loaded version may become stable: its answers to recorded requests, and how fast it gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble.requests.encode import Array
from ensemble.versions.control import Control, Reply
from ensemble.versions.recorded import Recorded
from etl.errors import ArtifactError

_WARM_UP, _ATTEMPTS = 20, 3
_NOISE_SECONDS = 0.002


@dataclass(frozen=True)
class Limits:
    """What a version must keep to: largest difference of an answer, and the 99th percentile of its latency.

    The latter absolutely (`p99_ms`, if given), and as a multiple (`slower`) of the stable version's in the same
    seconds, 2 ms added for what the machine does besides. `requests` are sent to each.
    """

    parity: float = 1e-5
    p99_ms: float | None = None
    slower: float = 3.0
    requests: int = 100


def warm_up(control: Control, model: str, recorded: Recorded) -> None:
    """Send the recorded request a few times, so that no client is the first."""
    for _ in range(_WARM_UP):
        control.ask(model, recorded.inputs, tuple(recorded.expected))


def parity(control: Control, model: str, version: int, recorded: Recorded, tolerance: float) -> float:
    """Return the largest difference from the recorded answer; ArtifactError if too large, or another version's."""
    reply = control.ask(model, recorded.inputs, tuple(recorded.expected))
    if reply.version != version:
        raise ArtifactError(f"{model} answers as another version", expected=str(version), received=str(reply.version))
    found = [(difference(reply.outputs[name], expected), name) for name, expected in recorded.expected.items()]
    largest, name = max(found)
    if not largest <= tolerance:
        raise ArtifactError(
            f"version {version} does not answer the recorded rows as it did when it was exported",
            expected=f"a difference of at most {tolerance:g}",
            received=f"{largest:.3g} in {name!r}",
        )
    return largest


def difference(found: Array, expected: Array) -> float:
    """Return the largest difference of two arrays; infinite for other shapes, strings or missing values."""
    if found.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind not in "fiub":
        return 0.0 if _decoded(found) == _decoded(expected) else float("inf")
    if (np.isnan(found) != np.isnan(expected)).any():
        return float("inf")
    if not found.size:
        return 0.0
    apart = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    return float(np.nan_to_num(apart, nan=0.0, posinf=np.inf)[found != expected].max(initial=0.0))


def _decoded(texts: Array) -> list[Any]:
    return [text.decode(errors="replace") if isinstance(text, bytes) else text for text in texts.reshape(-1)]


def latency(
    control: Control, model: str, recorded: Recorded, limits: Limits, stable: tuple[str, Recorded] | None
) -> dict[str, float]:
    """Return `p99_us` of `model`, and `stable_p99_us` of the stable one, asked in turns; ArtifactError when it is slow.

    A limit is missed when it is missed three times.
    """
    for attempt in range(_ATTEMPTS):
        times: dict[str, list[float]] = {"p99_us": [], "stable_p99_us": []}
        for _ in range(limits.requests):
            times["p99_us"].append(_ask(control, model, recorded).seconds)
            if stable is not None:
                times["stable_p99_us"].append(_ask(control, *stable).seconds)
        found = {key: float(np.percentile(values, 99)) for key, values in times.items() if values}
        problem = _too_slow(found, limits)
        if not problem:
            return {key: round(seconds * 1e6, 1) for key, seconds in found.items()}
        if attempt == _ATTEMPTS - 1:
            expected, received = problem
            raise ArtifactError(f"{model} is slow", expected=expected, received=received)
    raise AssertionError("unreachable")


def _ask(control: Control, model: str, recorded: Recorded) -> Reply:
    return control.ask(model, recorded.inputs, tuple(recorded.expected))


def _too_slow(found: dict[str, float], limits: Limits) -> tuple[str, str] | None:
    p99 = found["p99_us"]
    received = f"{p99 * 1e3:.2f} ms in the last of {_ATTEMPTS} tries"
    if limits.p99_ms is not None and p99 * 1e3 > limits.p99_ms:
        return f"a p99 of at most {limits.p99_ms:g} ms", received
    stable = found.get("stable_p99_us")
    if stable is not None and p99 > stable * limits.slower + _NOISE_SECONDS:
        return f"a p99 of at most {limits.slower:g} times the stable version's {stable * 1e3:.2f} ms", received
    return None

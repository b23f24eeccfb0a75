"""A limit on latency and throughput as a check: `p99=5ms,throughput=5000`.

Latencies (p50, p90, p99) hold at every load of one row, over every protocol; throughput, in requests a second, is that
of the most clients. What is judged is the fused ensemble, the chained one if there is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from etl.errors import ConfigError

_UNITS = {"us": 1.0, "ms": 1000.0, "s": 1e6}
_LATENCIES = ("p50", "p90", "p99")
_LIMIT = re.compile(r"\s*(?P<key>\w+)\s*=\s*(?P<value>[0-9.]+)\s*(?P<unit>[a-z/]*)\s*")
_EXPECTED = "such as p99=5ms,throughput=5000; keys: p50, p90, p99 (us, ms, s) and throughput (requests/s)"


def parse(text: str) -> dict[str, float]:
    """Return limits by key: latencies in microseconds, throughput in requests a second; ConfigError for others."""
    limits = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _LIMIT.fullmatch(part)
        latency = match is not None and match["key"] in _LATENCIES and match["unit"] in _UNITS
        rate = match is not None and match["key"] == "throughput" and match["unit"] in ("", "/s")
        if match is None or not (latency or rate) or match["value"].count(".") > 1 or match["value"] == ".":
            raise ConfigError("--budget", expected=_EXPECTED, received=repr(part))
        limits[match["key"]] = float(match["value"]) * (_UNITS[match["unit"]] if latency else 1.0)
    return limits


def broken(limits: Mapping[str, float], results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each point that breaks a limit; a budget that judges nothing is broken too."""
    if not limits:
        return []
    names = {result["target"] for result in results}
    judged = next((name for name in ("fused", "chained") if name in names), "")
    single = [result for result in results if result["target"] == judged and result["batch"] == 1]
    if not single:
        return ["nothing to judge: no load of one row was measured"]
    found = [
        f"{_where(result)}: {key} {result[f'{key}_us'] / 1000:.2f} ms, budget {limit / 1000:g} ms"
        for key, limit in limits.items()
        if key in _LATENCIES
        for result in single
        if result[f"{key}_us"] > limit
    ]
    if "throughput" in limits:
        most = max(result["concurrency"] for result in single)
        found += [
            f"{_where(result)}: {result['requests_per_s']:,.0f} requests/s, budget {limits['throughput']:,.0f}"
            for result in single
            if result["concurrency"] == most and result["requests_per_s"] < limits["throughput"]
        ]
    return found


def _where(result: Mapping[str, Any]) -> str:
    shape = f"{result['shape']}, " if "shape" in result else ""
    return f"{shape}{result['target']}, {result['protocol']}, {result['concurrency']} clients"

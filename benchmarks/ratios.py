"""Quotients of what was measured, for goals.py; a target that differs or is absent is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.servers import PEERS

OWN = ("fused", "chained", "packed")
STOCK_CLIENTS, BATCH_ROWS, PEER_CLIENTS = 16, 64, 64
"""The loads that goals speak of; where one was not measured, the nearest below it is taken."""

Results = Sequence[Mapping[str, Any]]


def ratios(results: Results, differing: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Return, by protocol, the quotients that goals.py names, and the same for chained and packed.

    Latencies are those of one row from one client, throughputs those of one row at STOCK_CLIENTS or PEER_CLIENTS, and
    rows a second those of BATCH_ROWS rows from one client.
    """
    usable = [result for result in results if result["target"] not in differing]
    found = {}
    for protocol in dict.fromkeys(result["protocol"] for result in usable):
        quotients = _of_protocol([result for result in usable if result["protocol"] == protocol])
        if quotients:
            found[protocol] = quotients
    return found


def _of_protocol(results: Results) -> dict[str, float]:
    single = [result for result in results if result["batch"] == 1]
    if not single:
        return {}
    p50 = _at(single, min(result["concurrency"] for result in single), "p50_us")
    speed = _at(single, _nearest(single, "concurrency", STOCK_CLIENTS), "requests_per_s")
    busy = _at(single, _nearest(single, "concurrency", PEER_CLIENTS), "requests_per_s")
    quotients: dict[str, float | None] = {}
    for target in OWN:
        quotients[f"{target}_p50_over_identity"] = _quotient(p50.get(target), p50.get("identity"))
        for stock in ("stock", "stock_preprocessing"):
            quotients[f"{stock}_p50_over_{target}"] = _quotient(p50.get(stock), p50.get(target))
            quotients[f"{target}_throughput_over_{stock}"] = _quotient(speed.get(target), speed.get(stock))
        rows = _batched(results)
        quotients[f"{target}_batch_rows_over_identity"] = _quotient(rows.get(target), rows.get("identity"))
        best = max((busy[peer] for peer in PEERS if peer in busy), default=None)
        quotients[f"{target}_throughput_over_best_peer"] = _quotient(busy.get(target), best)
    quotients["packed_p50_over_fused"] = _quotient(p50.get("packed"), p50.get("fused"))
    quotients["fused_json_p50_over_fused"] = _quotient(p50.get("fused_json"), p50.get("fused"))
    return {name: round(value, 3) for name, value in quotients.items() if value is not None}


def _batched(results: Results) -> dict[str, float]:
    batched = [result for result in results if result["batch"] > 1]
    if not batched:
        return {}
    size = _nearest(batched, "batch", BATCH_ROWS)
    return {result["target"]: result["rows_per_s"] for result in batched if result["batch"] == size}


def _nearest(results: Results, key: str, wanted: int) -> int:
    """The largest measured value of `key` that is at most `wanted`, else the smallest."""
    values = sorted({int(result[key]) for result in results})
    return max((value for value in values if value <= wanted), default=values[0])


def _at(results: Results, concurrency: int, key: str) -> dict[str, float]:
    return {result["target"]: result[key] for result in results if result["concurrency"] == concurrency}


def _quotient(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


def flatness(p50_by_vocabulary: Mapping[str, float]) -> float | None:
    """Return the largest p50 over that of the smallest vocabulary, given in rising order; None for fewer than two."""
    values = list(p50_by_vocabulary.values())
    return round(max(values) / values[0], 3) if len(values) > 1 else None

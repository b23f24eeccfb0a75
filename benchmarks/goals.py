"""Limits on figures, and those of serving: each quotient is of the same run; see ratios.py for what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Goal:
    """A limit on the quotient of two measured figures: at most, or at least, `limit`."""

    limit: float
    at_most: bool = False

    def met(self, measured: float) -> bool:
        """Whether `measured` keeps to the limit."""
        return measured <= self.limit if self.at_most else measured >= self.limit

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.limit:g}"


FLOOR = Goal(1.2, at_most=True)
"""Median latency of the ensemble over that of an identity ensemble."""
STOCK_LATENCY = Goal(20.0)
"""Median latency of stock Merlin Systems over that of the ensemble."""
STOCK_THROUGHPUT = Goal(100.0)
"""Requests a second of the ensemble over those of stock Merlin Systems, 16 clients."""
PREPROCESSING_THROUGHPUT = Goal(70.0)
"""The same over stock Merlin Systems' preprocessing alone."""
BATCH = Goal(0.7)
"""Rows a second of the ensemble over those of an identity ensemble, 64 rows a request."""
PEER = Goal(1.5)
"""Requests a second of the ensemble over those of the best peer, 64 clients."""
FLAT = Goal(1.2, at_most=True)
"""Largest median latency over that of the smallest vocabulary."""

GOALS: dict[str, Goal] = {
    "fused_p50_over_identity": FLOOR,
    "stock_p50_over_fused": STOCK_LATENCY,
    "fused_throughput_over_stock": STOCK_THROUGHPUT,
    "stock_preprocessing_p50_over_fused": STOCK_LATENCY,
    "fused_throughput_over_stock_preprocessing": PREPROCESSING_THROUGHPUT,
    "fused_batch_rows_over_identity": BATCH,
    "fused_throughput_over_best_peer": PEER,
    "fused_p50_over_smallest_vocabulary": FLAT,
}


def judge(measured: Mapping[str, float], goals: Mapping[str, Goal] = GOALS) -> dict[str, dict[str, Any]]:
    """Return {limit, measured, met} by name for the goals that were measured."""
    return {
        name: {"limit": str(goal), "measured": round(measured[name], 3), "met": goal.met(measured[name])}
        for name, goal in goals.items()
        if name in measured
    }

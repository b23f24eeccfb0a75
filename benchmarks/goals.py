"""Limits on figures, and those of serving: latency from one client, throughput from the most, one row over HTTP."""

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


FLOOR = Goal(1.4, at_most=True)
"""Median latency of the ensemble over that of an identity ensemble."""
STOCK_LATENCY = Goal(20.0)
"""Median latency of stock Merlin Systems' preprocessing over that of the whole ensemble."""
STOCK_THROUGHPUT = Goal(70.0)
"""Requests a second of the ensemble over those of stock Merlin Systems' preprocessing."""

GOALS: dict[str, Goal] = {
    "fused_p50_over_identity": FLOOR,
    "stock_p50_over_fused": STOCK_LATENCY,
    "fused_throughput_over_stock": STOCK_THROUGHPUT,
}


def judge(measured: Mapping[str, float], goals: Mapping[str, Goal] = GOALS) -> dict[str, dict[str, Any]]:
    """Return {limit, measured, met} by name for the goals that were measured."""
    return {
        name: {"limit": str(goal), "measured": round(measured[name], 3), "met": goal.met(measured[name])}
        for name, goal in goals.items()
        if name in measured
    }

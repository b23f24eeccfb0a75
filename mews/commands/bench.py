"""`mews bench`: measure."""

from __future__ import annotations

from typing import Any

from mews.commands.groups import bench_app
from mews.session import Session, command


@bench_app.command("serving")
@command
def bench_serving(session: Session) -> Any:
    """Measure the ensemble with perf_analyzer, beside an identity ensemble and stock Merlin Systems."""
    from mews.stages.serving import bench_table

    result = session.bring("bench", again=("bench",))["bench"].result
    session.terminal.line(bench_table(result))
    return {key: result[key] for key in ("results", "ratios", "goals", "machine")}

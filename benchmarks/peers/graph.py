"""The workload as an NVTabular graph: NVTabular and Mews are given the same."""

from __future__ import annotations

from typing import Any

from benchmarks.criteo import CATEGORICAL, CONTINUOUS, ROW


def workflow(freq_threshold: int, out_path: str | None = None) -> Any:
    """Return the unfitted nvtabular.Workflow; NVTabular keeps its vocabularies in `out_path`."""
    from nvtabular import Workflow, ops

    categorify = ops.Categorify(freq_threshold=freq_threshold, **({"out_path": out_path} if out_path else {}))
    codes = list(CATEGORICAL) >> categorify
    numbers = (
        list(CONTINUOUS)
        >> ops.FillMissing(fill_val=0)
        >> ops.Clip(min_value=0)
        >> ops.LogOp()
        >> ops.Normalize(out_dtype="float32")
    )
    return Workflow(codes + numbers + [ROW])

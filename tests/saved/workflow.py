"""The workflow of `nvtabular_graph/`, which NVTabular's own serializer (main at 08e06339f) wrote, and its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from etl.reader import door


def rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user": [1, 2, 3, 1, 2, 1],
            "country": ["a", "b", None, "a", "b", "c"],
            "first": ["a", "b", "c", "a", "b", "a"],
            "second": ["a", "b", "x", "y", "b", "b"],
            "price": np.array([1, 2, 3, 4, 5, 6.5], "float32"),
            "tags": [["x"], ["y", "x"], ["z"], [], ["x"], ["y"]],
            "age": [1, 2, 3, 4, 5, 6],
        }
    )


def workflow(folder: Path) -> Any:
    """Return it unfitted; Categorify writes its tables below `folder`."""
    ops = door.nvtabular().ops

    def categorify(**options: Any) -> Any:
        return ops.Categorify(out_path=str(folder), **options)

    users = ["user", "country"] >> categorify() >> ops.TagAsUserID()
    both = [["first", "second"]] >> categorify()
    tags = ["tags"] >> categorify() >> ops.ListSlice(0, 3, pad=True)
    prices = ["price"] >> ops.FillMissing(0) >> ops.LogOp() >> ops.Normalize(out_dtype=np.float32)
    scaled = ["age"] >> ops.NormalizeMinMax() >> ops.Rename(postfix="_scaled")
    bins = ["age"] >> ops.Bucketize({"age": [2, 4]})
    # Two ways of different length from one node: NVTabular's order of nodes then puts a child before its parent.
    filled = ["age"] >> ops.FillMissing()
    long_way = filled >> ops.LogOp() >> ops.Normalize() >> ops.Rename(f=lambda name: f"{name}_deep")
    short_way = filled >> ops.Rename(name="short")
    label = ["price"] >> ops.Rename(name="label") >> ops.AddMetadata(tags=["target"])
    return door.nvtabular().Workflow(users + both + tags + prices + scaled + bins + long_way + short_way + label)


def fitted(folder: Path) -> Any:
    found = workflow(folder)
    with door.quiet():
        return found.fit(door.nvtabular().Dataset(rows()))

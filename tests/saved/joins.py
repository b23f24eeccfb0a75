"""The workflow of `nvtabular_graph_joins/`, which NVTabular's own serializer wrote, on the rows of workflow.py.

Operators whose groups of columns that format does not tell, and arguments that it keeps as they were given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from etl.reader import door
from tests.saved.workflow import rows


def fitted(folder: Path) -> Any:
    """Return it fitted; tables are written below `folder`."""
    ops = door.nvtabular().ops
    # Of one folder for all, NVTabular writes the tables of one operator over those of another.
    first, second, third = ({"out_path": str(folder / name)} for name in ("pairs", "groups", "targets"))
    pairs = [["first", "second"], ["second", "user"]] >> ops.Categorify(encode_type="combo", **first)
    groups = ["age", ["user", "first"]] >> ops.JoinGroupby(cont_cols=["price"], stats=["sum", "mean"], **second)
    targets = ["age", ["user", "second"]] >> ops.TargetEncoding("price", kfold=3, p_smooth=2, **third)
    hashed = ["first"] >> ops.HashBucket({"first": 5}) >> ops.Rename(postfix="_hashed")
    filled = ["price"] >> ops.FillMissing(fill_val={"price": 0.5}) >> ops.Rename(postfix="_filled")
    median = ["age"] >> ops.FillMedian() >> ops.Bucketize([2, 4]) >> ops.Rename(postfix="_bin")
    with door.quiet():
        found = door.nvtabular().Workflow(pairs + groups + targets + hashed + filled + median)
        return found.fit(door.nvtabular().Dataset(rows()))

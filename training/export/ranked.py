"""Whether two programs that answer with ranked items gave the same answer.

Floats of two programs differ in their last digits, so items whose scores are as good as equal may change places.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_RELATIVE, _ABSOLUTE = 1e-4, 1e-7


def misplaced(found: Array, wanted: Array, scores: Array) -> int:
    """Count the places of `found` [rows, k] that hold another item than `wanted` and not for a tie.

    `scores` [rows, k] are those of `wanted`, falling. An item that `wanted` lacks may only stand where the score is
    that of the last place.
    """
    rows = np.flatnonzero((found != wanted).any(1))
    if not len(rows):
        return 0
    found, wanted, scores = found[rows], wanted[rows], scores[rows].astype("float64")
    same = found[:, :, None] == wanted[:, None, :]  # [rows, k, k]
    own = np.where(same.any(2), (same * scores[:, None, :]).sum(2), scores[:, -1:])
    return int((np.abs(own - scores) > _ABSOLUTE + _RELATIVE * np.abs(scores)).sum())

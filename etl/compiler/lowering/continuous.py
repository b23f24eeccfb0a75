"""Clip, LogOp, Normalize, NormalizeMinMax, Bucketize: numbers in, numbers out.

NumPy decides the types in NVTabular: float32 stays float32 against Python floats, integers become float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from etl.compiler.arithmetic import Mul
from etl.compiler.expr import Bucket, Cast, Clip, Const, Div, Expr, Log1p, Refusal, Sub
from etl.compiler.lowering import RULES, per_column
from etl.dtypes import EXACT, is_float, is_integer
from etl.graph import OpNode


@RULES.register("Clip")
@per_column
def clip(node: OpNode, column: str, x: Expr) -> Expr:
    """Values below `min_value` become it, then values above `max_value` become that."""
    _refuse_lists(x, "NVTabular compares a list with a number.")
    _refuse_others(x)
    low, high = (node.params.get(name) for name in ("min_value", "max_value"))
    if is_integer(x.type.dtype):
        limits = np.iinfo(x.type.dtype)
        low, high = (_whole(bound, limits) for bound in (low, high))
        low, high = (None if low == limits.min else low), (None if high == limits.max else high)
    return x if low is None and high is None else Clip(x, low, high)


@RULES.register("LogOp")
@per_column
def log(node: OpNode, column: str, x: Expr) -> Expr:
    """Natural logarithm of 1 + x, all in float32."""
    _refuse_others(x)
    return Log1p(_cast(x, "float32"))


@RULES.register("Normalize")
@per_column
def normalize(node: OpNode, column: str, x: Expr) -> Expr:
    """(x - mean) / std; only x - mean where std is 0 or unknown."""
    _refuse_others(x)
    moments = _row(node, "moments", column)
    dtype = "float32" if x.type.dtype == "float32" else "float64"
    centred = Sub(_cast(x, dtype), Const(moments["mean"], dtype))
    scaled = Div(centred, Const(moments["std"], dtype)) if moments["std"] > 0 else centred
    return _cast(scaled, _out_dtype(node))


@RULES.register("NormalizeMinMax")
@per_column
def normalize_min_max(node: OpNode, column: str, x: Expr) -> Expr:
    """(x - min) / (max - min), 0.5 for every finite x if max = min, NaN if nothing is known. Values are not clipped."""
    _refuse_lists(x, "NVTabular subtracts a number from a list.")
    _refuse_others(x)
    ranges = _row(node, "ranges", column)
    dtype = "float32" if x.type.dtype == "float32" else "float64"
    low, high = (np.dtype(dtype).type(ranges[name]) for name in ("min", "max"))
    with np.errstate(all="ignore"):
        width = float(high - low)
    value = _cast(x, dtype)
    if width == 0 and node.params.get("strict_nvtabular"):
        return _cast(Div(value, Mul(value, Const(2.0, dtype))), _out_dtype(node))
    if width == 0:  # x - x keeps NaN and makes inf NaN, as x / (2 * x) does there
        return _cast(Sub(Sub(value, value), Const(-0.5, dtype)), _out_dtype(node))
    return _cast(Div(Sub(value, Const(float(low), dtype)), Const(width, dtype)), _out_dtype(node))


@RULES.register("Bucketize")
@per_column
def bucketize(node: OpNode, column: str, x: Expr) -> Expr:
    """np.digitize: how many boundaries are <= x (ascending) or > x (descending); NaN is above every boundary."""
    _refuse_lists(x, "NVTabular compares a list with a number.")
    _refuse_others(x)
    boundaries = node.params["boundaries"]
    if isinstance(boundaries, dict):
        if column not in boundaries:
            raise Refusal("it has no boundaries for this column.", "Add them.")
        boundaries = boundaries[column]
    edges = tuple(float(edge) for edge in boundaries)
    if is_integer(x.type.dtype) and any(abs(edge) > EXACT for edge in edges):
        raise Refusal("a boundary beyond 2**53 is not exact.", "Use smaller boundaries.")
    value = _cast(x, "float64")
    if list(edges) == sorted(edges):
        return Bucket(value, edges)
    if list(edges) == sorted(edges, reverse=True):
        return Sub(Const(len(edges), "int32"), Bucket(value, edges[::-1]))
    raise Refusal("boundaries must be sorted.", "Sort them.")


def _cast(x: Expr, dtype: str) -> Expr:
    return x if x.type.dtype == dtype else Cast(x, dtype)


def _refuse_lists(x: Expr, why: str) -> None:
    if x.type.is_list:
        raise Refusal(f"it does not take lists: {why}", "Use it on a scalar column.")


def _refuse_others(x: Expr) -> None:
    if not (is_float(x.type.dtype) or is_integer(x.type.dtype)):
        raise Refusal(f"it takes numbers, not {x.type.dtype}.", "Take the column out of the selection.")


def _whole(bound: float | None, limits: np.iinfo[Any]) -> int | None:
    """Return a bound of an integer column as an integer; NVTabular's type would depend on the data otherwise."""
    if bound is None:
        return None
    if not float(bound).is_integer() or not limits.min <= bound <= limits.max:
        raise Refusal(f"the bound {bound!r} is not a value of type {limits.dtype}.", "Use one that is.")
    return int(bound)


def _row(node: OpNode, key: str, column: str) -> dict[str, float]:
    """Return what fit found for `column`; unknown values are NaN."""
    if node.state is None:
        raise Refusal("it is not fitted.", "Fit the graph first.")
    rows = node.state[key].filter(pl.col("column") == column).to_dicts()
    if not rows:
        raise Refusal("its state does not hold this column.", "Fit the graph again.")
    return {name: float("nan") if value is None else value for name, value in rows[0].items()}


def _out_dtype(node: OpNode) -> str:
    name = str(np.dtype(node.params.get("out_dtype") or "float64"))
    if not is_float(name) or name == "float16":
        raise Refusal(f"out_dtype {name} is not supported.", 'Use out_dtype="float32" or "float64".')
    return name

"""Runs the tree of a recorded function (etl/operators/traced.py) over a pandas frame."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from etl.operators import traced


def run(tree: Any, frame: Any) -> Any:
    """Return what `tree` makes of the columns of `frame`: a Series, or a scalar where it reads none."""
    name, parts = tree[0], tree[1:]
    if name == "column":
        return frame[parts[0]]
    if name == "value":
        return float(parts[0]["float"]) if isinstance(parts[0], dict) else parts[0]
    if name in ("moment", "span"):
        return (pd.Timestamp if name == "moment" else pd.Timedelta)(parts[0], unit="us")
    trees, literals = parts[: _COUNTS[name]], parts[_COUNTS[name] :]
    return _CALLS[name](*(run(part, frame) for part in trees), *literals)


def _where(condition: Any, x: Any, y: Any) -> Any:
    if hasattr(x, "where"):
        return x.where(condition, np.nan if y is None else y)
    if hasattr(y, "mask"):
        return y.mask(condition, np.nan if x is None else x)
    return pd.Series(np.where(condition, x, y), index=condition.index)


def _date(x: Any, part: str) -> Any:
    if part == "total_seconds":
        return x.dt.total_seconds()
    if part == "normalize":
        return x.dt.normalize()
    floors = {"floor_hour": "h", "floor_minute": "min", "floor_second": "s"}
    return x.dt.floor(floors[part]) if part in floors else getattr(x.dt, part)


def _text(x: Any, name: str, arguments: Any) -> Any:
    plain_text = {"regex": False} if name in ("contains", "replace") else {}
    missing = {"na": False} if name in ("contains", "startswith", "endswith") else {}
    made = getattr(x.str, name)(*arguments, **plain_text, **missing)
    return made.astype(bool) if missing else made


def _astype(x: Any, dtype: str) -> Any:
    names = {"string": "object", "datetime": "datetime64[us]"}
    dtype = names.get(dtype, dtype)
    if x.dtype.kind != "f" or np.dtype(dtype).kind not in "iu":
        return x.astype(dtype)
    limits = np.iinfo(dtype)
    held = (x > limits.min) & (x < float(limits.max) + (dtype != "int64"))
    return x.astype(dtype) if held.all() else np.trunc(x.where(held))


_OPERATORS = ("add", "sub", "mul", "floordiv", "mod", "pow", "eq", "ne", "lt", "le", "gt", "ge", "neg", "xor", "abs")
_UFUNCS = (
    *("sign", "floor", "ceil", "rint", "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "square"),
    *("sin", "cos", "tan", "tanh", "isnan", "isinf", "minimum", "maximum"),
)
_CALLS: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in _OPERATORS},
    **{name: getattr(np, name) for name in _UFUNCS},
    "div": operator.truediv,
    "and": operator.and_,
    "or": operator.or_,
    "not": operator.invert,
    "where": _where,
    "fillna": lambda x, value: x.fillna(value),
    "isna": lambda x: x.isna(),
    "isin": lambda x, values: x.isin(values),
    "clip": lambda x, low, high: x.clip(low, high),
    "round": lambda x, decimals: x.round(decimals),
    "astype": _astype,
    "date": _date,
    "text": _text,
}
_COUNTS = {name: count for name, (count, _) in traced.CALLS.items()}

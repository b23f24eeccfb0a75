"""Categorify: 0 padding, 1 null, 2 .. 1+B unknown, then the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from etl.compiler.expr import Cast, Const, Expr, Hash, Lookup, Refusal
from etl.compiler.lowering import RULES, per_column
from etl.dtypes import EXACT, is_float, is_integer
from etl.dtypes import dtype as dtype_named
from etl.graph import OpNode
from etl.operators.categorical import buckets_of, vocabulary_of

NULL, UNKNOWN = 1, 2


@RULES.register("Categorify")
def categorify(node: OpNode, inputs: Mapping[str, Expr]) -> dict[str, Expr]:
    """Each column on its own; what NVTabular has beyond that is refused."""
    for option, default, reason in (
        ("encode_type", "joint", "combo encoding is not written yet."),
        ("single_table", False, "in NVTabular it gives null and unknown the codes of real categories."),
    ):
        if (node.params.get(option) or default) != default:
            raise Refusal(f"{option}={node.params[option]!r}: {reason}", f"Use {option}={default!r}.")
    return _encode(node, inputs)


@per_column
def _encode(node: OpNode, column: str, x: Expr) -> Expr:
    """The row in the vocabulary + 2 + B; unknown values share code 2, or spread over B codes by a hash."""
    table = (node.state or {}).get(vocabulary_of(node, column))
    if table is None:
        raise Refusal("it is not fitted.", "Fit the graph first.")
    buckets = buckets_of(node, column)
    keys, codes = _keys(table.get_column("value"), x.type.dtype, UNKNOWN + buckets)
    unknown = Const(UNKNOWN, "int64") if buckets == 1 else Hash(x, buckets, UNKNOWN)
    code = Lookup(x, keys, codes, NULL, unknown)
    out = str(np.dtype(node.params.get("dtype") or "int64"))
    return code if out == "int64" else Cast(code, out)


def _keys(values: pl.Series, dtype: str, first: int) -> tuple[pl.Series, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Return the vocabulary in the column's own type, and its codes; values that the type cannot hold are left out."""
    wanted = dtype_named(dtype)
    if not values.len() or values.null_count() == values.len():
        return pl.Series("value", [], wanted.polars), np.empty(0, np.int64)
    _refuse_other_kinds(values, dtype)
    # NVTabular fits an integer column with nulls on floats, so its vocabulary may hold 3.0 for 3.
    keys = values.cast(wanted.polars, strict=False)
    kept = keys.is_not_null() & (keys.is_not_nan() if is_float(dtype) else pl.lit(True))
    kept = pl.select(kept & (keys.cast(values.dtype, strict=False) == values)).to_series()
    if not is_float(dtype) and wanted.null is not None and (keys == wanted.null).any():
        raise Refusal(
            f"its vocabulary holds {wanted.null!r}, which means null in a request.",
            f"Replace {wanted.null!r} in the data by null, and fit again.",
        )
    codes = np.arange(first, first + values.len(), dtype=np.int64)
    return keys.filter(kept), codes[kept.to_numpy()]


def _refuse_other_kinds(values: pl.Series, dtype: str) -> None:
    """Refuse a vocabulary of strings for numbers and the reverse, and floats that stand for integers inexactly."""
    if (values.dtype == pl.String) != (dtype == "string"):
        raise Refusal(f"its vocabulary is of {values.dtype}, the column of {dtype}.", "Fit again on this column.")
    if is_integer(dtype) and values.dtype.is_float() and (values.abs() > EXACT).any():
        raise Refusal(
            "its vocabulary holds integers beyond 2**53 as floats, which are not exact.",
            "Fit again with Mews, or on a column without nulls.",
        )

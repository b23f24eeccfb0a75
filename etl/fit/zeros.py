"""One zero: -0.0 equals 0.0, so which of them is kept must not depend on which came first."""

from __future__ import annotations

import polars as pl


def one_zero(x: pl.Expr) -> pl.Expr:
    """Return floats with 0.0 for -0.0 and NaN as it is."""
    # Polars does not add a literal 0.0, and takes no filtered expression in a `when`; it does add a column of zeros.
    return x + x.is_nan().cast(pl.Float32)

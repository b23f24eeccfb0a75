"""JoinGroupby, TargetEncoding, JoinExternal, ColumnSimilarity.

NVTabular cannot give a count to a group that it did not see, so cases with counts serve rows of known groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from tests.conformance.case import FIT, SERVE, Case

_STATS = ["sum", "mean", "std", "var", "min", "max"]
_KNOWN = FIT.reverse()
_TARGET = FIT.with_columns(
    y=pl.Series([1, 0, 1, 1, 0, 1, 0, 0]), z=pl.Series([0.5, 2.0, -1.0, 3.0, 0.25, 0.0, 9.0, 7.5])
)
_TARGET_SERVE = SERVE.with_columns(y=pl.Series([0] * 8), z=pl.Series([0.0] * 8))
_PAIRS = pl.DataFrame({"a": [0, 1, 2, 3, 3], "b": [1, 1, 0, 2, 3], "c": [3, 2, 1, 0, 0]})


def _external() -> Any:
    import pandas as pd

    return pd.DataFrame(
        {"k": ["a", "é", None, "zz"], "v": [1.5, np.nan, 9.0, 0.0], "w": [5, 3, 9, 0], "x": list("pqrs")}
    )


def _twice() -> Any:
    import pandas as pd

    return pd.concat([_external(), _external()])


def _matrix(seed: int = 0) -> Any:
    from scipy.sparse import coo_matrix

    draws = np.random.default_rng(seed).random((4, 6))
    return coo_matrix(np.where(draws < 0.6, draws, 0.0))


def _target(name: str, build: object) -> Case:
    return Case(name, build, fit=_TARGET, serve=_TARGET_SERVE)  # type: ignore[arg-type]


CASES = [
    Case("join-groupby-count", lambda o: ["i", "i8", "u8"] >> o.JoinGroupby(cont_cols=["c"]), serve=_KNOWN),
    Case(
        "join-groupby-all",
        lambda o: ["i"] >> o.JoinGroupby(cont_cols=["i32", "c"], stats=["count", *_STATS]),
        serve=_KNOWN,
    ),
    Case("join-groupby-unknown", lambda o: ["i", "u8"] >> o.JoinGroupby(cont_cols=["i32", "c"], stats=_STATS)),
    Case(
        "join-groupby-string",
        lambda o: ["s", "t"] >> o.JoinGroupby(cont_cols=["i", "i32"], stats=["sum", "min", "max"]),
    ),
    Case("join-groupby-null-key", lambda o: ["n", "f"] >> o.JoinGroupby(cont_cols=["i"], stats=["sum", "max"])),
    Case(
        "join-groupby-tuple", lambda o: [["s", "i"]] >> o.JoinGroupby(cont_cols=["i32"], stats=["mean", "sum", "std"])
    ),
    Case(
        "join-groupby-tuple-types",
        lambda o: [["i", "u8", "f"], ["i8", "s"]] >> o.JoinGroupby(cont_cols=["c", "i32"], stats=["mean", "min"]),
    ),
    Case(
        "join-groupby-float32",
        lambda o: ["i"] >> o.JoinGroupby(cont_cols=["g"], stats=["sum", "mean", "min"]),
        fit=FIT.with_columns(g=pl.Series([0.5, 1.25, 3, 4, 5, 6, 7, 8], dtype=pl.Float32)),
        serve=SERVE.with_columns(g=pl.Series([0.0] * 8, dtype=pl.Float32)),
    ),
    Case(
        "join-groupby-then-fill",
        lambda o: ["i"] >> o.JoinGroupby(cont_cols=["i32"], stats=["mean"]) >> o.FillMissing() >> o.Normalize(),
        serve=_KNOWN,
    ),
    Case(
        "join-groupby-one-row",
        lambda o: ["i"] >> o.JoinGroupby(cont_cols=["c"], stats=["mean", "std"]),
        fit=FIT.head(1),
    ),
    _target("target", lambda o: ["i"] >> o.TargetEncoding("y", kfold=1)),
    _target("target-smooth", lambda o: ["i", "i8"] >> o.TargetEncoding("y", kfold=1, p_smooth=3)),
    _target("target-float64", lambda o: ["u8"] >> o.TargetEncoding("z", kfold=1, p_smooth=0.5, out_dtype="float64")),
    _target("target-several", lambda o: ["i", "i8"] >> o.TargetEncoding(["y", "z"], kfold=1, p_smooth=1)),
    _target("target-tuple", lambda o: ["u8", ["i", "s"]] >> o.TargetEncoding("y", kfold=1, p_smooth=2)),
    _target("target-strings", lambda o: [["i", "t", "s"]] >> o.TargetEncoding("z", kfold=1, p_smooth=2, name_sep="-")),
    Case("external", lambda o: ["s", "i"] >> o.JoinExternal(_external(), on="s", on_ext="k")),
    Case(
        "external-columns",
        lambda o: ["s", "f"] >> o.JoinExternal(_external(), on=["s"], on_ext=["k"], columns_ext=["k", "w"]),
    ),
    Case(
        "external-same-name",
        lambda o: ["i", "t"] >> o.JoinExternal(_external().rename(columns={"w": "i"}), on="i", columns_ext=["i", "x"]),
    ),
    Case(
        "external-two-keys",
        lambda o: ["s", "i", "c"] >> o.JoinExternal(_external(), on=["s", "i"], on_ext=["k", "w"]),
    ),
    Case(
        "external-duplicates",
        lambda o: ["s"] >> o.JoinExternal(_twice(), on="s", on_ext="k", drop_duplicates_ext=True),
    ),
    Case(
        "external-then",
        lambda o: ["s"] >> o.JoinExternal(_external(), on="s", on_ext="k", columns_ext=["k", "v"]) >> o.Categorify(),
    ),
    Case(
        "similar-inner",
        lambda o: [["a", "b"]] >> o.ColumnSimilarity(_matrix(), metric="inner", on_device=False),
        fit=_PAIRS,
        serve=_PAIRS,
    ),
    Case(
        "similar-tfidf",
        lambda o: [["a", "b"]] >> o.ColumnSimilarity(_matrix(), on_device=False),
        fit=_PAIRS,
        serve=_PAIRS,
    ),
    Case(
        "similar-cosine",
        lambda o: (
            [["a", "b"], ["b", "c"]] >> o.ColumnSimilarity(_matrix(), _matrix(1), metric="cosine", on_device=False)
        ),
        fit=_PAIRS,
        serve=_PAIRS,
    ),
]

"""JoinGroupby, TargetEncoding, JoinExternal, ColumnSimilarity: a key gives a row of a table, the row gives values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from etl.compiler.arithmetic import Add, And, Compare, Mod, Where
from etl.compiler.expr import Cast, Const, Expr, FillNull, OutOfFold, Refusal, RowNumber, Type
from etl.compiler.lowering import RULES, Refusals
from etl.compiler.lowering.keys import encode
from etl.compiler.tables import DrawnFold, HashCode, Matrix, NotKnown, RowDot, Take
from etl.dtypes import dtype as dtype_named
from etl.dtypes import is_integer
from etl.errors import Problem
from etl.graph import OpNode
from etl.operators.categorical import is_strict, key_columns, name_of
from etl.operators.joins import FOLD, encoded_outputs, group_outputs, has_folds, similar_outputs

Inputs = Mapping[str, Expr]

_ANY_ROWS, _MOST_EMPTY = 1_000_000, 100
"""Rows that any matrix may have, and how many for each entry of a larger one."""


@RULES.register("JoinGroupby")
def join_groupby(node: OpNode, inputs: Inputs) -> dict[str, Expr]:
    """The statistics of the row's group; of a group that fit did not see 0 for a count, NaN for the others."""
    dtypes = {column.name: column.dtype for column in node.outputs}
    rows: dict[str, Expr] = {}

    def make(output: str) -> Expr | None:
        group, column, stat = group_outputs(node)[output]
        table = _state(node, f"groups.{name_of(node, group)}")
        row = _row(node, group, inputs, table, rows)
        if row is None:
            return None
        name = stat if stat == "count" else f"{stat}_{node.params['cont_cols'].index(column)}"
        missing = 0 if stat == "count" else float("nan")
        kind = dtype_named(dtypes[output]).polars
        values = table.get_column(name).cast(pl.Float64).cast(kind) if stat != "count" else table[name].cast(kind)
        return Take(row, pl.concat([values, pl.Series(name, [missing], kind)]))

    return _each(node, make, group_outputs(node))


@RULES.register("TargetEncoding")
def target_encoding(node: OpNode, inputs: Inputs) -> dict[str, Expr]:
    """(sum of the target + p * mean) / (count + p) of the row's group; the mean for a group that fit did not see.

    Over all rows in serving; for the rows that a model is trained on, with kfold > 1, over the other folds' rows.
    """
    out = str(np.dtype(node.params.get("out_dtype") or "float32"))
    if out not in ("float32", "float64"):
        raise Refusal(f"out_dtype {out} is not supported.", 'Use out_dtype="float32" or "float64".')
    rows: dict[str, Expr] = {}

    def make(output: str) -> Expr | None:
        if output == FOLD:
            return Cast(fold_of(node), "uint8")
        group, target = encoded_outputs(node)[output]
        found = _encoded(node, group, target, inputs, rows)
        return found if found is None or out == "float64" else Cast(found, out)

    return _each(node, make, [*encoded_outputs(node), FOLD])


def _encoded(node: OpNode, group: list[str], target: str, inputs: Inputs, rows: dict[str, Expr]) -> Expr | None:
    whole = _state(node, f"groups.{name_of(node, group)}")
    row = _row(node, group, inputs, whole, rows)
    if row is None:
        return None
    place = node.params["target"].index(target)
    mean, smooth = _mean(node, target), float(node.params["p_smooth"])
    serving = Take(row, _smoothed(whole[f"sum_{place}"], whole[f"count_{place}"], mean, smooth))
    if not has_folds(node):
        return serving
    folds = (node.state or {}).get(f"folds.{name_of(node, group)}")
    if folds is None:
        problem = Problem(
            node.op,
            tuple(group),
            "polars",
            "NVTabular's folds are not those of Mews.",
            "Fit again with Mews to encode training rows out of fold.",
        )
        return OutOfFold(NotKnown(Type("float64"), problem), serving)
    keys = key_columns(group)
    joined = folds.join(whole, on=keys, how="left", nulls_equal=True, maintain_order="left", suffix="_all")
    parts = [fold_of(node), *(inputs[name] for name in group)]
    sums = joined[f"sum_{place}_all"] - joined[f"sum_{place}"]
    counts = joined[f"count_{place}_all"] - joined[f"count_{place}"]
    other = _rows(parts, [joined["fold"], *(joined[key] for key in keys)])
    training = Take(other, _smoothed(sums, counts, mean, smooth))
    return training if is_strict(node) else OutOfFold(training, serving)


def fold_of(node: OpNode) -> Expr:
    """Return the fold of a row, from its number in the data set alone, so that partitions do not matter; int64.

    HashCode(row number + (fold_seed mod 2**31) * 2**32) mod kfold; without a seed the row number mod kfold. With
    strict_nvtabular what NVTabular draws for the rows of one partition.
    """
    folds, seed = int(node.params["kfold"]), node.params.get("fold_seed")
    if seed is None:
        return Mod(RowNumber(), Const(folds, "int64"))
    if is_strict(node):
        if not 0 <= int(seed) < 2**32:
            raise Refusal(f"fold_seed {seed} is none that NumPy takes.", "Use one from 0 to 2**32 - 1.")
        return DrawnFold(RowNumber(), folds, int(seed))
    shifted = Add(RowNumber(), Const((int(seed) % 2**31) * 2**32, "int64"))
    return Mod(HashCode(shifted), Const(folds, "int64"))


def _mean(node: OpNode, target: str) -> float:
    """Return the mean of a target: the one that was given, or that of all rows."""
    given = node.params.get("target_mean")
    if isinstance(given, Mapping):
        given = given.get(target)
    if given is not None:
        return float(given)
    found = _state(node, "means").filter(pl.col("column") == target)["mean"]
    if not found.len():
        raise Refusal(f"its state does not hold the mean of {target!r}.", "Fit the graph again.")
    return float("nan") if found.item() is None else float(found.item())


def _smoothed(sums: pl.Series, counts: pl.Series, mean: float, smooth: float) -> pl.Series:
    """Return the encodings of a table's rows, and last the mean, which also stands for what is not a number."""
    with np.errstate(all="ignore"):
        values = (sums.cast(pl.Float64).to_numpy() + smooth * mean) / (counts.to_numpy() + smooth)
    return pl.Series([*np.where(np.isnan(values), mean, values), mean], dtype=pl.Float64)


def _state(node: OpNode, key: str) -> pl.DataFrame:
    table = (node.state or {}).get(key)
    if table is None:
        raise Refusal("it is not fitted.", "Fit the graph first.")
    return table


def _row(node: OpNode, group: list[str], inputs: Inputs, table: pl.DataFrame, rows: dict[str, Expr]) -> Expr | None:
    """Return the row of the group of `group`'s values, one past the last for an unknown one; made once per group."""
    if not all(name in inputs for name in group):
        return None
    name = name_of(node, group)
    if name not in rows:
        rows[name] = _rows([inputs[part] for part in group], [table[key] for key in key_columns(group)])
    return rows[name]


def _rows(parts: Sequence[Expr], keys: Sequence[pl.Series]) -> Expr:
    """Return the row of the values of `parts` in `keys`; the number of rows for values that are not there."""
    if any(part.type.is_list for part in parts):
        raise Refusal("a list cannot be a key.", "Use a scalar column.")
    height = keys[0].len()
    return encode(parts, keys, np.arange(height, dtype=np.int64), height, Const(height, "int64"))


def _each(node: OpNode, make: Callable[[str], Expr | None], known: Any) -> dict[str, Expr]:
    """Return what `make` gives for every output; None is for one whose inputs were refused."""
    lowered: dict[str, Expr] = {}
    refusals = []
    for column in node.outputs:
        if column.name not in known:
            raise Refusal(f"it makes no column {column.name!r}.", "Read the workflow again.")
        try:
            found = make(column.name)
        except Refusal as refusal:
            refusal.columns = refusal.columns or (column.name,)
            refusals.append(refusal)
            continue
        if found is not None:
            lowered[column.name] = found
    if refusals:
        raise Refusals(refusals, lowered)
    return lowered


@RULES.register("JoinExternal")
def join_external(node: OpNode, inputs: Inputs) -> dict[str, Expr]:
    """The columns of the row of the external table whose key is the row's; null (NaN) where there is none."""
    on = node.params["on"]
    table = _state(node, "external")
    row: Expr | None = None
    if all(name in inputs for name in on):
        row = _rows([inputs[name] for name in on], [table[name] for name in node.params["on_ext"]])

    def make(output: str) -> Expr | None:
        if output in inputs:
            return inputs[output]
        if row is None:
            return None
        values = table.get_column(output)
        missing = pl.Series(output, [float("nan") if values.dtype.is_float() else None], values.dtype)
        return Take(row, pl.concat([values, missing]))

    return _each(node, make, [*inputs, *table.columns])


@RULES.register("ColumnSimilarity")
def column_similarity(node: OpNode, inputs: Inputs) -> dict[str, Expr]:
    """The inner product of two rows of matrices that reading has normalised; NaN for rows that they do not have."""
    matrices = [_matrix(_state(node, side), int(node.params[f"{side}_rows"])) for side in ("left", "right")]

    def make(output: str) -> Expr | None:
        names = similar_outputs(node)[output]
        if not all(name in inputs for name in names):
            return None
        x, y = (_matrix_row(inputs[name], matrix.height) for name, matrix in zip(names, matrices, strict=True))
        return RowDot(x, y, *matrices)

    return _each(node, make, similar_outputs(node))


def _matrix(table: pl.DataFrame, height: int) -> Matrix:
    if height > max(_ANY_ROWS, _MOST_EMPTY * table.height):
        raise Refusal(f"of a matrix's {height} rows nearly all are empty.", "Number the rows without gaps.")
    rows, columns, values = (table[name].to_numpy() for name in ("row", "place", "value"))
    return Matrix(np.searchsorted(rows, np.arange(height + 1)), columns, values)


def _matrix_row(x: Expr, height: int) -> Expr:
    """Return `x` as a row of a matrix with `height` rows; the height for what is none."""
    if x.type.is_list or not is_integer(x.type.dtype) or x.type.dtype == "uint64":
        raise Refusal(f"it takes the numbers of rows, not {x.type.dtype}.", "Use a column of integers.")
    row = FillNull(x if x.type.dtype == "int64" else Cast(x, "int64"), height)
    known = And(Compare("ge", row, Const(0, "int64")), Compare("lt", row, Const(height, "int64")))
    return Where(known, row, Const(height, "int64"))

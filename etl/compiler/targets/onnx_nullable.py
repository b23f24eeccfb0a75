"""Columns of a type that has no null in a request (unsigned integers, booleans), when a request can say null anyway.

Behind the door such a column has a wider type, in which there is a value for null. The expressions over it must give
what they give in batch, so only those may see it that mean the same for the wider type; from where nulls are filled on,
everything has its own type again. What else would see it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from etl.compiler import expr as e
from etl.dtypes import is_float

_ANSWERS = (e.IsNull, e.Lookup, e.Hash)
"""Say something of a value, in a type of their own. A hash of null is only ever looked at where there is none."""

_PASSES = (e.Clip, e.Slice, e.Pad)
"""Give the column's own values, nulls among them."""


class Nullable:
    """Rewrites expressions; `columns` is the wider type by raw column."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = columns
        self._made: dict[e.Expr, e.Expr] = {}

    def whole(self, expr: e.Expr) -> e.Expr:
        """Return an output with its columns widened; Refusal where it would hold nulls or mean something else."""
        if not self._columns:
            return expr
        made = self._rewritten(expr)
        if made.type.dtype != expr.type.dtype:
            raise e.Refusal(
                f"a null of {expr.type.dtype} cannot be in an output tensor.", "End it with FillMissing or Categorify."
            )
        return made

    def _rewritten(self, expr: e.Expr) -> e.Expr:
        if expr not in self._made:
            self._made[expr] = self._widened(expr)
        return self._made[expr]

    def _part(self, value: Any) -> Any:
        """Return the value of a field, rewritten if it is an Expr or holds some."""
        if isinstance(value, e.Expr):
            return self._rewritten(value)
        if isinstance(value, tuple) and any(isinstance(each, e.Expr) for each in value):
            made = tuple(self._part(each) for each in value)
            return value if all(a is b for a, b in zip(made, value, strict=True)) else made
        return value

    def _widened(self, expr: e.Expr) -> e.Expr:
        if isinstance(expr, e.OutOfFold):
            return self._rewritten(expr.serving)
        if isinstance(expr, e.Col):
            wider = self._columns.get(expr.name)
            return expr if wider is None else replace(expr, of=replace(expr.of, dtype=wider))
        values = {field.name: getattr(expr, field.name) for field in fields(expr)}  # type: ignore[arg-type]
        made = {name: self._part(value) for name, value in values.items()}
        if all(made[name] is value for name, value in values.items()):
            return expr
        rebuilt: e.Expr = replace(expr, **made)  # type: ignore[type-var]
        wide = any(a.type.dtype != b.type.dtype for a, b in zip(rebuilt.parts, expr.parts, strict=True))
        if not wide or isinstance(expr, (*_ANSWERS, *_PASSES)):
            return rebuilt
        if isinstance(expr, e.FillNull):  # no nulls from here on
            return e.Cast(rebuilt, expr.type.dtype)
        if isinstance(expr, e.Cast) and is_float(expr.dtype):
            return rebuilt
        raise e.Refusal(
            f"{type(expr).__name__.lower()} of a {expr.type.dtype} that may be null cannot be served.",
            "Fill its nulls first (FillMissing), or send it without nulls.",
        )

"""What a function over columns does, as a tree of calls (etl/operators/traced.py): run once, on stand-ins for columns.

A stand-in records arithmetic, comparisons, NumPy's functions and pandas' methods and accessors. Whatever would need
the values themselves, or other rows, raises Untraceable; so nothing that looks at data is ever recorded by mistake.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from etl.operators.traced import Tree
from etl.reader.trace_column import Column
from etl.reader.trace_parts import Untraceable

__all__ = ["Frame", "Untraceable", "trace_column", "trace_filter"]


def trace_column(function: Callable[..., Any], name: str) -> Tree:
    """Return what a LambdaOp's function makes of the column `name`; Untraceable says why not, and where."""
    return _run(function, lambda: _returned(function(*_arguments(function, name))))


def trace_filter(function: Callable[..., Any]) -> Tree:
    """Return the bool column by which a Filter's function keeps rows; Untraceable says why not, and where."""

    def condition() -> Tree:
        found = function(Frame())
        if isinstance(found, Frame):
            return found.kept if found.kept is not None else ["value", True]
        return _returned(found)

    return _run(function, condition)


def _arguments(function: Callable[..., Any], name: str) -> tuple[Any, ...]:
    column = Column(["column", name], name)
    return (column,) if len(inspect.signature(function).parameters) == 1 else (column, Frame())


def _run(function: Callable[..., Any], call: Callable[[], Tree]) -> Tree:
    try:
        return call()
    except Untraceable as error:
        raise Untraceable(f"{error} ({_place(function, error)})") from None
    except RecursionError:
        raise Untraceable(f"it is too deep ({_place(function, None)})") from None
    except Exception as error:
        raise Untraceable(f"{type(error).__name__}: {error} ({_place(function, error)})") from None


def _place(function: Callable[..., Any], error: BaseException | None) -> str:
    """Return the file and line of the function, where the error arose if it is inside it."""
    code = getattr(function, "__code__", None)
    if code is None:
        return repr(function)
    line, step = code.co_firstlineno, error.__traceback__ if error else None
    while step is not None:
        if step.tb_frame.f_code is code:
            line = step.tb_lineno
        step = step.tb_next
    return f"{code.co_filename}:{line}"


def _returned(found: Any) -> Tree:
    if not isinstance(found, Column):
        raise Untraceable(f"it returns {type(found).__name__}, which is not made from its columns")
    return found.tree


class Frame:
    """Stands for the data frame; `kept` is the tree of the rows that are left, None for all."""

    def __init__(self, kept: Tree | None = None) -> None:
        self.kept = kept

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return Column(["column", key], key)
        if isinstance(key, Column):
            return Frame(key.tree if self.kept is None else ["and", self.kept, key.tree])
        raise Untraceable(f"df[{type(key).__name__}] is not a column or a condition")

    @property
    def loc(self) -> Frame:
        """The frame: df.loc[condition] is df[condition]."""
        return self

    def copy(self) -> Frame:
        """The frame."""
        return self

    def reset_index(self, drop: bool = False, **options: Any) -> Frame:
        """The frame: it has no index."""
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in _FRAME_METHODS:
            raise Untraceable(f"df.{name} may look at other rows")
        return Column(["column", name], name)

    def __bool__(self) -> bool:
        raise Untraceable("it branches on the data")


_FRAME_METHODS = frozenset(
    [
        "apply",
        "agg",
        "all",
        "any",
        "columns",
        "describe",
        "drop",
        "dropna",
        "drop_duplicates",
        "dtypes",
        "duplicated",
        "eval",
        "groupby",
        "head",
        "iloc",
        "index",
        "join",
        "mean",
        "merge",
        "max",
        "min",
        "nunique",
        "query",
        "sample",
        "shape",
        "shift",
        "sort_values",
        "sum",
        "tail",
        "transform",
        "values",
    ]
)

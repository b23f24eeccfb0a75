"""Python functions that could not be recorded, kept in this process for batch; a graph holds only their keys.

Nothing of them is written to disk: a saved graph that has one says so until its workflow is read again.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import polars as pl

from etl.compiler.expr import Refusal

_FUNCTIONS: dict[str, Callable[..., Any]] = {}


def keep(function: Callable[..., Any]) -> str:
    """Keep a function for this process, and return its key: a digest of its code and what it closes over."""
    code = getattr(function, "__code__", None)
    parts: list[object] = [getattr(function, "__qualname__", repr(function))]
    if code is not None:
        cells = [repr(cell.cell_contents) for cell in function.__closure__ or ()]
        named = [value for value in code.co_consts if not inspect.iscode(value)]
        parts += [code.co_code, named, code.co_names, cells, getattr(function, "__defaults__", None)]
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
    _FUNCTIONS[key] = function
    return key


def function(key: str) -> Callable[..., Any]:
    """Return the function of a key; Refusal when this process does not have it."""
    if key not in _FUNCTIONS:
        instead = (
            "Read its workflow again in this process, with bridge_lambdas=True, or write it so that it can be recorded."
        )
        raise Refusal("it is a Python function that this process does not have.", instead)
    return _FUNCTIONS[key]


def run(key: str, column: str, frame: pl.DataFrame) -> Any:
    """Return what the function of `key` makes of a column of `frame`, both as pandas has them."""
    found, given = function(key), frame.to_pandas()
    arguments = (given[column],) if len(inspect.signature(found).parameters) == 1 else (given[column], given)
    made = found(*arguments)
    return made.to_numpy() if hasattr(made, "to_numpy") else made

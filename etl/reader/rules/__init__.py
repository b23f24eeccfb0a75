"""The operators of NVTabular that a FeatureGraph knows: how each is read, and how it is made again.

One `Rule` each, in a module for each family; the modules beside this one fill `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.compiler.registry import Registry
from etl.graph import Column, OpNode, Ref
from etl.operators import TAGGING

State = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class Rule:
    """How one operator is read and made.

    Reading: `params(op, selector)` gives its arguments as JSON values, `reason(op)` what cannot be read ("" for
    nothing), `state(op, node, dtypes)` its statistics, where `dtypes` are those of the inputs by name.
    `faults(op)` gives what is only read with strict_nvtabular, `known(op)` whether there is state to read,
    `outputs(op, node, dtypes)` the columns it makes where NVTabular's schema has them wrong.
    Making: `unmakeable(node)` gives why not and what to do instead, or None; `make(ops, node)` the operator;
    `restore(op, node, folder)` gives it its statistics, with files below `folder` if it needs some; with `typed` the
    operator is told the types of its inputs, as its attribute `dtypes`. `parents(node)` gives the inputs that are
    selected; the others are arguments.
    """

    params: Callable[[Any, Any], dict[str, Any]]
    make: Callable[[Any, OpNode], Any]
    reason: Callable[[Any], str] = lambda op: ""
    state: Callable[[Any, OpNode, Mapping[str, str]], State] | None = None
    unmakeable: Callable[[OpNode], tuple[str, str] | None] = lambda node: None
    restore: Callable[[Any, OpNode, Path], None] | None = None
    faults: Callable[[Any], str] = lambda op: ""
    known: Callable[[Any], bool] = lambda op: bool(op.fitted)
    typed: bool = False
    parents: Callable[[OpNode], Sequence[Ref]] = lambda node: node.inputs
    outputs: Callable[[Any, OpNode, Mapping[str, str]], tuple[Column, ...]] = lambda op, node, dtypes: node.outputs


RULES: Registry[Rule] = Registry("NVTabular operator")


def operator_name(op: Any) -> str:
    """Return the name of an NVTabular operator object in a graph."""
    name = type(op).__name__
    if name == "UDF":  # Merlin's name for it
        return "LambdaOp"
    return "AddMetadata" if name in TAGGING else name


def plain(value: Any) -> Any:
    """Return an argument as a JSON value: NumPy numbers as Python's, types by name, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, type | np.dtype):
        return np.dtype(value).name
    return getattr(value, "value", value)


def attributes(*names: str) -> Callable[[Any, Any], dict[str, Any]]:
    """Return `params` of an operator that keeps its arguments under their own names."""
    return lambda op, selector: {name: plain(getattr(op, name)) for name in names}


def same_arguments(ops: Any, node: OpNode) -> Any:
    """Make an operator from its arguments."""
    return getattr(ops, node.op)(**{name: value for name, value in node.params.items() if name != "strict_nvtabular"})


def add(name: str, rule: Rule) -> None:
    """Make `rule` the one for the operator `name`."""
    RULES.register(name)(rule)


from etl.reader.rules import (  # noqa: E402, F401 - fill RULES
    categorical,
    continuous,
    external,
    joins,
    missing,
    rows,
    sequence,
    statistics,
    structural,
    traced,
)

"""What a saved workflow's pickle may name, each with what may be done with it. Everything else is refused by name.

No name of the pickle is ever looked up: the table is made here, from classes. Functions (Bucketize's and Rename's
closures, methods of objects) become `Function`, which holds what its closure held and cannot be called. Tables and
matrices become the parts of parts.py.
"""

from __future__ import annotations

import builtins
import collections
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, Flag
from typing import Any

import numpy as np

from etl.reader.saved.parts import NAMES

Name = tuple[str, str]

_DTYPE = re.compile(r"[<>|=]?[biufMmSU]\d{0,5}(\[[a-z0-9]{1,8}\])?|bool|object|O8?")


@dataclass
class Function:
    """A function of the pickle, not run and not callable: its name, and the values that its closure held."""

    name: str = "a function"
    closure: tuple[Any, ...] = ()


@dataclass
class Cell:
    """A closure's cell."""

    content: Any = None


@dataclass(frozen=True)
class Opaque:
    """A piece of a function (code, module), of which only the name is kept."""

    name: str = ""


@dataclass(frozen=True)
class Allowed:
    """An object that a pickle may name; `called`: also call; `made`: also make empty instances of, then fill them."""

    object: Any
    called: bool = False
    made: bool = False


@dataclass(frozen=True)
class Table:
    """Allowed objects by the name that a pickle has for them."""

    names: dict[Name, Allowed] = field(default_factory=dict)

    def may(self, what: str, found: Any) -> bool:
        """Whether `found` is an object of the table that may be `called` or `made`."""
        return any(entry.object is found and getattr(entry, what) for entry in self.names.values())


def table() -> Table:
    """Return the table; NVTabular must have been imported (etl.reader.door)."""
    names: dict[Name, Allowed] = {}
    for cls in _merlin_classes():
        names[cls.__module__, cls.__qualname__] = _of_class(cls)
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(("nvtabular.ops.", "merlin.dag.ops.")):
            # Where another version of NVTabular has the class: operators moved between its modules.
            aliases = ((name, value) for name, value in vars(module).items() if isinstance(value, type))
            known = {id(entry.object): entry for entry in names.values()}
            names |= {(module_name, name): known[id(value)] for name, value in aliases if id(value) in known}
    parts = {name: Allowed(kind, called=True, made=True) for name, kind in NAMES.items()}
    return Table({**names, **_plain(), **_numpy(), **_functions(), **parts})


def _merlin_classes() -> Iterator[type]:
    import nvtabular.ops
    from merlin import dtypes
    from merlin.core.dispatch import ExtData
    from merlin.dag import executors, graph, node, operator, selector
    from merlin.dag.ops import concat_columns, grouping, selection, subgraph, subset_columns, subtraction
    from merlin.dtypes import shape
    from merlin.schema import schema, tags
    from nvtabular.workflow.workflow import Workflow

    yield from (value for value in vars(nvtabular.ops).values() if _is_operator(value))
    plumbing = (concat_columns, grouping, selection, subgraph, subset_columns, subtraction)
    yield from (value for module in plumbing for value in vars(module).values() if _is_operator(value))
    yield from (Workflow, graph.Graph, node.Node, selector.ColumnSelector, operator.DataFormats, operator.Supports)
    yield from (executors.DaskExecutor, executors.LocalExecutor, executors.Device, ExtData)
    yield from (schema.Schema, schema.ColumnSchema, tags.Tags, tags.TagSet)
    yield from (dtypes.DType, dtypes.base.ElementType, dtypes.base.ElementUnit, shape.Shape, shape.Dimension)


def _is_operator(value: Any) -> bool:
    from merlin.dag.operator import Operator

    return isinstance(value, type) and issubclass(value, Operator)


def _of_class(cls: type) -> Allowed:
    # An enumeration's member is looked up by calling it; everything else is made empty, and no constructor runs.
    return Allowed(cls, called=True) if issubclass(cls, Enum) else Allowed(cls, made=True)


def _plain() -> dict[Name, Allowed]:
    names = "bool int float str bytes list dict object"
    named = {name: getattr(builtins, name) for name in names.split()}
    called = {"builtins": (set, frozenset, slice, complex), "collections": (collections.OrderedDict, collections.deque)}
    found = {("builtins", name): Allowed(value) for name, value in named.items()}
    return found | {
        (module, value.__name__): Allowed(value, called=True, made=True)
        for module, values in called.items()
        for value in values
    }


def _numpy() -> dict[Name, Allowed]:
    makers = (("multiarray", "scalar", _scalar), ("numeric", "_frombuffer", _array))
    found = {
        (f"numpy.{package}.{module}", name): Allowed(value, called=True)
        for package in ("core", "_core")
        for module, name, value in makers
    }
    numbers = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool_ str_ object_"
    found |= {("numpy", name): Allowed(getattr(np, name)) for name in numbers.split()}
    return found | {("numpy", "dtype"): Allowed(_dtype, called=True)}


def _dtype(name: Any, *_: Any) -> Any:
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise ValueError(f"the NumPy type {name!r}"[:200])
    return np.dtype(name)


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(data, bytes):
        raise ValueError("a NumPy scalar that is not plain bytes")
    if len(data) != dtype.itemsize:
        raise ValueError("a NumPy scalar of the wrong size")
    return np.frombuffer(data, dtype)[0]


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(data, bytes | bytearray):
        raise ValueError("a NumPy array that is not plain bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")


def _make_code(*_: Any) -> Opaque:
    return Opaque("code")


def _builtin_type(name: str) -> Any:
    if name != "CodeType":
        raise ValueError(f"the built-in type {name!r}"[:200])
    return _make_code


def _module(name: str) -> Opaque:
    return Opaque(f"module {name}")


def _make_function(*_: Any) -> Function:
    return Function()


def _fill_function(function: Any, state: Any) -> None:
    if not isinstance(function, Function):
        raise ValueError("a function's state on something else")
    slots = state[1]
    function.name = str(slots.get("__qualname__", function.name))
    function.closure = tuple(cell.content for cell in slots.get("__closure__") or () if isinstance(cell, Cell))


def _attribute(found: Any, name: Any) -> Any:
    """Stand for getattr, which a pickle uses for a method of an object, and Python 3.11.2 for an enumeration's member.

    Only members are looked up.
    """
    if isinstance(found, type) and issubclass(found, Enum):
        return found.__members__[str(name)]
    return Function(str(name), (found,))


def _union(left: Any, right: Any) -> Flag:
    """Stand for `|`, with which Python 3.11.2 pickles several members of a Flag."""
    if not isinstance(left, Flag) or type(left) is not type(right):
        raise ValueError("a union of other things than flags")
    return left | right


def _functions() -> dict[Name, Allowed]:
    stand_ins = {
        "_make_function": _make_function,
        "_function_setstate": _fill_function,
        "_make_cell": Cell,
        "_make_empty_cell": Cell,
        "_builtin_type": _builtin_type,
        "subimport": _module,
    }
    found = {
        (module, name): Allowed(value, called=True)
        for module in ("cloudpickle.cloudpickle", "cloudpickle")
        for name, value in stand_ins.items()
    }
    # No pickle has this name: it is what _builtin_type gives, and is called then.
    found |= {("", "code"): Allowed(_make_code, called=True)}
    stand_ins_of_python = {("builtins", "getattr"): _attribute, ("_operator", "or_"): _union}
    return found | {name: Allowed(value, called=True) for name, value in stand_ins_of_python.items()}

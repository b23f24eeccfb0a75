"""NVTabular 23.08's `workflow.pkl`, read without running anything that it names.

Of Python's unpickler only the parts are used that make plain values. What makes objects or calls something is replaced
by what asks the table in allowed.py first, so neither a name nor a value found on the stack can be called otherwise.
"""

from __future__ import annotations

import gc
import io
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from etl.errors import CompileError, ConfigError, Problem
from etl.graph import Column, FeatureGraph
from etl.reader import read
from etl.reader.rules import operator_name
from etl.reader.saved import parts
from etl.reader.saved.allowed import Function, Table, table
from etl.reader.saved.folder import LIVE, inside

LARGEST = 2**30
# What happens inside Python while plain values are made; any other event ends the reading.
_EVENTS = frozenset({"pickle.find_class", "object.__getattr__", "object.__setattr__", "object.__delattr__"})
_BUCKETS = "Bucketize.__init__.<locals>.<lambda>"
_TABLE_FILES = ("categories", "stats")
_NOT_ARGUMENTS = ("categories", "out_path", "fitted", "storage_name", "means")
_TABLES: dict[str, Callable[[Any], None]] = {"ColumnSimilarity": parts.matrices, "JoinExternal": parts.join}


def read_pickle(folder: Path, inputs: Sequence[Column] | None, strict: bool = False) -> FeatureGraph:
    """Return the graph of a folder of NVTabular 23.08; ConfigError for names that are not allowed and for damage."""
    path = folder / "workflow.pkl"
    if path.stat().st_size > LARGEST:
        raise ConfigError(str(path), expected=f"at most {LARGEST:,} bytes", received=f"{path.stat().st_size:,}")
    workflow = loads(path.read_bytes(), str(path))
    nodes = list(_nodes(workflow.graph.output_node))
    _settle_functions(nodes)
    _refuse_shared_tables(nodes)
    for node in nodes:
        _move_statistics(node.op, folder)
        _TABLES.get(operator_name(node.op), lambda op: None)(node.op)
    return read(workflow, inputs, strict_nvtabular=strict)


def loads(data: bytes, name: str = "the pickle") -> Any:
    """Return the nvtabular.Workflow in `data`."""
    from nvtabular.workflow.workflow import Workflow

    allowed = table()
    try:
        with _nothing_else_happens():
            found = _Unpickler(data, allowed).load()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{name} cannot be read: {type(error).__name__}: {error}"[:500], hint=LIVE) from error
    if type(found) is not Workflow:
        raise ConfigError(name, expected="a pickled nvtabular.Workflow", received=type(found).__name__)
    return found


if TYPE_CHECKING:

    class _Base(pickle._Unpickler):
        """What Python's own unpickler has beside what its type stubs tell."""

        stack: list[Any]
        dispatch: ClassVar[dict[int, Callable[[Any], None]]]

else:
    _Base = pickle._Unpickler


class _Unpickler(_Base):
    """Python's own, with every instruction that makes or fills an object asking the table."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(_Base.dispatch)

    def __init__(self, data: bytes, allowed: Table) -> None:
        super().__init__(io.BytesIO(data))
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        """Return the table's object of that name; nothing is imported, and no attribute is looked up."""
        entry = self._allowed.names.get((module, name))
        if entry is None or not module:
            raise _refused(f"{module}.{name}")
        return entry.object

    def load_reduce(self) -> None:
        """Call what is on the stack, if it may be called."""
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        """Make an empty instance, if it is of a class that may be made."""
        arguments = self.stack.pop()
        self.stack[-1] = self._make(self.stack[-1], arguments, {})

    def load_newobj_ex(self) -> None:
        """As load_newobj, with arguments by name."""
        named, arguments = self.stack.pop(), self.stack.pop()
        self.stack[-1] = self._make(self.stack[-1], arguments, named)

    def load_build(self) -> None:
        """Fill an instance that was made: its attributes, and nothing of its class."""
        state = self.stack.pop()
        self._fill(self.stack[-1], state)

    def load_never(self) -> None:
        """Refuse an instruction that NVTabular's pickles do not have."""
        raise _refused("an instruction of old pickles")

    def _call(self, found: Any, arguments: tuple[Any, ...]) -> Any:
        if not self._allowed.may("called", found):
            raise _refused(f"a call of {_name(found)}")
        return found(*arguments)

    def _make(self, found: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if not self._allowed.may("made", found):
            raise _refused(f"an instance of {_name(found)}")
        return found.__new__(found, *arguments, **named)

    def _fill(self, found: Any, state: Any) -> None:
        if isinstance(found, np.dtype):
            # Its byte order is in its name, unless it is not this machine's; the unit of times is only in its state.
            if state[1] == ">" or found.kind in "mM":
                raise _refused("a NumPy type of the other byte order, or of times")
            return
        if isinstance(found, parts.Parts):
            found.state = state
            return
        if not self._allowed.may("made", type(found)):
            raise _refused(f"a state for {_name(found)}")
        plain, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
        if not isinstance(plain, dict | None) or slots or not all(isinstance(key, str) for key in plain or ()):
            raise _refused(f"a state for {_name(type(found))} that is not attributes by name")
        # Past __setattr__ and __setstate__: no code of the class runs, and frozen dataclasses are filled too.
        vars(found).update(plain or {})

    dispatch |= {
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BUILD[0]: load_build,
        **dict.fromkeys((pickle.INST[0], pickle.OBJ[0], pickle.PERSID[0], pickle.BINPERSID[0]), load_never),
        **dict.fromkeys((pickle.EXT1[0], pickle.EXT2[0], pickle.EXT4[0]), load_never),
    }


def _refused(what: str) -> ConfigError:
    return ConfigError(
        f"the pickle asks for {what[:300]}", expected="only what NVTabular's own operators are made of", hint=LIVE
    )


def _name(found: Any) -> str:
    return f"{getattr(found, '__module__', '?')}.{getattr(found, '__qualname__', type(found).__qualname__)}"


_watched: list[int] = []


@contextmanager
def _nothing_else_happens() -> Iterator[None]:
    """Refuse whatever Python reports of this thread meanwhile: files, processes, sockets, imports, compiled code.

    A second lock: the first one, the table, lets nothing through that would do any of these.
    """
    if not _watched:
        sys.addaudithook(_audit)
    collecting = gc.isenabled()
    gc.disable()  # other objects' finalizers would be reported too
    _watched.append(threading.get_ident())
    try:
        yield
    finally:
        _watched[-1] = 0
        if collecting:
            gc.enable()


def _audit(event: str, _: tuple[Any, ...]) -> None:
    if _watched[-1] == threading.get_ident() and event not in _EVENTS:
        raise _refused(f"something that Python reports as {event}")


def _nodes(node: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """Yield every node above `node`, each once, subgraphs included."""
    from merlin.dag import Graph, Node

    seen = set() if seen is None else seen
    if id(node) in seen:
        return
    seen.add(id(node))
    if type(node) is not Node:
        raise ConfigError("the pickled workflow", expected="a graph of nodes", received=type(node).__name__)
    for upstream in node.parents_with_dependencies:
        yield from _nodes(upstream, seen)
    if isinstance(getattr(node.op, "graph", None), Graph):
        yield from _nodes(node.op.graph.output_node, seen)
    yield node


def _settle_functions(nodes: list[Any]) -> None:
    """Put data in place of the functions whose result is known; CompileError names the operators with others."""
    problems = []
    for node in nodes:
        held = {name: value for name, value in vars(node.op).items() if isinstance(value, Function)}
        for name, function in held.items():
            settled = _settled(node, name, function)
            if settled is None:
                reason = f"it holds a Python function ({function.name}), which is never run from a pickle."
                columns = tuple(node.input_schema.column_names) if node.input_schema else ()
                problems.append(Problem(operator_name(node.op), columns, "feature graph", reason, LIVE))
            else:
                setattr(node.op, name, settled)
    if problems:
        raise CompileError(problems)


def _settled(node: Any, name: str, function: Function) -> Any:
    operator = type(node.op).__name__
    if operator == "Bucketize" and function.name in (_BUCKETS, "__getitem__") and len(function.closure) == 1:
        (boundaries,) = function.closure
        # NVTabular makes a function of a dict by column, or of a list for all of them.
        if type(boundaries) is dict:
            return boundaries.__getitem__
        if function.name == _BUCKETS and type(boundaries) in (list, tuple):
            return lambda column: boundaries
    if operator == "Rename" and name == "f" and node.output_schema is not None:
        # A fitted workflow keeps every node's columns, so what the function made of the names is known.
        before = node.input_columns.resolve(node.input_schema).names
        after = node.output_schema.column_names
        return dict(zip(before, after, strict=True)).__getitem__
    return None


def _refuse_shared_tables(nodes: Iterable[Any]) -> None:
    """Raise ConfigError where operators with other arguments have one table: NVTabular saved one over the other."""
    owners: dict[str, Any] = {}
    for op in (node.op for node in nodes):
        tables = [value for name in _TABLE_FILES if isinstance(value := getattr(op, name, None), dict)]
        for file in (file for files in tables for file in files.values()):
            other = owners.setdefault(str(file), op)
            if _arguments(other) != _arguments(op):
                received = f"{type(op).__name__} and {type(other).__name__} in {PurePosixPath(str(file)).name}"
                hint = "NVTabular saved one over the other: read the workflow live, before it is saved."
                raise ConfigError("the saved statistics", expected="tables of their own", received=received, hint=hint)


def _arguments(op: Any) -> Any:
    plain = {key: value for key, value in vars(op).items() if isinstance(value, int | float | str | list | dict | None)}
    return type(op), {key: value for key, value in plain.items() if key not in _NOT_ARGUMENTS}


def _move_statistics(op: Any, folder: Path) -> None:
    """Let an operator find its tables in `folder`, wherever they were when it was saved."""
    for name in _TABLE_FILES:
        files = getattr(op, name, None)
        if isinstance(files, dict) and all(isinstance(file, str) for file in files.values()):
            setattr(op, name, {key: str(inside(folder, _relative(file, op.out_path))) for key, file in files.items()})
    if hasattr(op, "out_path"):
        op.out_path = str(folder)


def _relative(file: str, out_path: Any) -> str:
    path = PurePosixPath(file)
    before = PurePosixPath(str(out_path))
    return str(path.relative_to(before)) if path.is_relative_to(before) else f"categories/{path.name}"

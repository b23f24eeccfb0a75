"""pipeline.yaml's features to an nvtabular.Workflow: chains of operators, a Python function, or columns' roles."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from etl.config import ChainConfig, FeaturesConfig
from etl.dtypes import is_float, is_integer
from etl.errors import ConfigError, MewsError
from etl.names import SAMPLE_WEIGHT
from etl.operators import TAGGING
from etl.reader import door
from etl.reader.rules import RULES

_SUPPORTED = sorted({*map(str, RULES), *TAGGING})
_LONGEST_HISTORY = 20
_LABEL_TAGS = ["target", "binary_classification"]


class RoleColumn(Protocol):
    """What is asked of a column here: a DataColumn of etl/sources, or anything like it."""

    @property
    def name(self) -> str:
        """The raw column's name."""
        ...

    @property
    def dtype(self) -> str:
        """A name of etl/dtypes.py; a list's is its values'."""
        ...

    @property
    def is_list(self) -> bool:
        """Whether each row holds a list."""
        ...

    @property
    def role(self) -> str:
        """What the column means: a Role of etl/config.py."""
        ...

    @property
    def side(self) -> str | None:
        """Whose property it is: user, item, or None."""
        ...

    @property
    def minimum(self) -> float | None:
        """The smallest allowed value, if declared."""
        ...


def build(features: FeaturesConfig, columns: Sequence[RoleColumn], label: str | Sequence[str] | None) -> Any:
    """Return the unfitted nvtabular.Workflow that `features` describes; labels, if any, are outputs tagged as target.

    A `features.workflow` is the user's whole graph and is returned as it is. Raises ConfigError for operators,
    arguments and columns that do not exist.
    """
    if features.workflow is not None:
        return load(features.workflow)
    chains = features.chains or chains_from_roles(columns, features)
    _check_columns(chains, [column.name for column in columns])
    nvtabular = door.nvtabular()  # takes seconds: after what can be said without it
    with door.quiet():
        output = sum((_chain(nvtabular.ops, chain) for chain in chains[1:]), start=_chain(nvtabular.ops, chains[0]))
        if labels := [label] if isinstance(label, str) else list(label or ()):
            output = output + (labels >> nvtabular.ops.AddMetadata(tags=_LABEL_TAGS))
        for column in _unused(_of_role(columns, "weight"), chains):
            # A loader takes numbers only; what the value behind a code weighs is said to the training.
            ops: list[Any] = [] if is_float(column.dtype) or is_integer(column.dtype) else ["Categorify"]
            output = output + _chain(nvtabular.ops, ChainConfig(columns=[column.name], ops=ops, tags=[SAMPLE_WEIGHT]))
        return nvtabular.Workflow(output)


def chains_from_roles(columns: Sequence[RoleColumn], features: FeaturesConfig) -> list[ChainConfig]:
    """Return the default features: codes for ids, categories and tags, scaled logarithms for numbers.

    A column's side becomes a tag. Labels, weights, timestamps and ignored columns make none. A number's logarithm is
    taken only where its declared minimum is from 0 to 1, as with counts and prices: that of a year would be a straight
    line with less precision.
    Raises ConfigError when a column's type does not fit its role, or nothing is left.
    """
    _check_roles(columns)
    cut = {"ListSlice": {"start": 0, "end": features.max_list_length, "pad": True}}
    normalize = {"Normalize": {"out_dtype": "float32"}}
    sequence = _sequence(columns, features)
    groups: list[tuple[list[RoleColumn], list[Any]]] = [
        (_of_role(columns, "user"), ["Categorify", "TagAsUserID"]),
        ([] if sequence else _of_role(columns, "item"), ["Categorify", "TagAsItemID"]),
        (_of_role(columns, "categorical", lists=False), ["Categorify"]),
        (_of_role(columns, "tags") + _of_role(columns, "categorical", lists=True), ["Categorify", cut]),
        (_numbers(columns, counted=True), ["FillMissing", "LogOp", normalize]),
        (_numbers(columns, counted=False), ["FillMissing", normalize]),
    ]
    chains = [
        ChainConfig(columns=[column.name for column in own], ops=ops, tags=[side] if side else [])
        for group, ops in groups
        for side in ("user", "item", None)
        if (own := [column for column in group if column.side == side])
    ] + sequence
    if not chains:
        raise ConfigError("features", expected="a column with the role user, item, categorical, tags or numeric")
    return chains


def _sequence(columns: Sequence[RoleColumn], features: FeaturesConfig) -> list[ChainConfig]:
    """Where there is a history: it and the item in one vocabulary, its last items padded, the item what is learned."""
    histories, items = _of_role(columns, "history"), _of_role(columns, "item")
    if not histories or not items:
        return []
    history, item = histories[0].name, items[0].name
    length = features.max_history or _LONGEST_HISTORY
    parts = [
        ChainConfig(columns=[history], ops=[{"ListSlice": {"start": -length, "pad": True}}]),
        ChainConfig(columns=[item], ops=["TagAsItemID"], tags=["target"]),
    ]
    return [ChainConfig(columns=[[item, history]], ops=[{"Categorify": {"encode_type": "joint"}}], then=parts)]


def load(reference: str) -> Any:
    """Return what the function in `file.py:function` returns, which must be an nvtabular.Workflow.

    Runs the user's code. Raises ConfigError that names the file or function that is missing, or what went wrong in it.
    """
    file, _, function = reference.rpartition(":")
    if not file or not function.isidentifier():
        raise ConfigError(f"workflow {reference!r}", expected="file.py:function", received=repr(reference))
    _check_file(Path(file))
    nvtabular = door.nvtabular()
    made = _call(_import(Path(file)), function, reference)
    if not isinstance(made, nvtabular.Workflow):
        hint = "Return nvtabular.Workflow(features)."
        received = type(made).__name__
        raise ConfigError(f"workflow {reference!r}", expected="an nvtabular.Workflow", received=received, hint=hint)
    return made


def _of_role(columns: Iterable[RoleColumn], role: str, lists: bool | None = None) -> list[RoleColumn]:
    return [column for column in columns if column.role == role and lists in (None, column.is_list)]


def _unused(columns: Iterable[RoleColumn], chains: Iterable[ChainConfig]) -> list[RoleColumn]:
    """The columns that none of the chains reads."""
    groups = [group for chain in chains for group in chain.columns]
    used = {name for group in groups for name in ([group] if isinstance(group, str) else group)}
    return [column for column in columns if column.name not in used]


def _numbers(columns: Iterable[RoleColumn], counted: bool) -> list[RoleColumn]:
    return [
        column
        for column in columns
        if column.role == "numeric" and counted == (column.minimum is not None and 0 <= column.minimum <= 1)
    ]


def _check_roles(columns: Iterable[RoleColumn]) -> None:
    wrong = [
        f"{column.name} ({'list of ' if column.is_list else ''}{column.dtype}) as {column.role}"
        for column in columns
        if (column.role in ("user", "item") and column.is_list)
        or (column.role in ("tags", "history") and not column.is_list)
        or (column.role == "numeric" and (column.is_list or not (is_float(column.dtype) or is_integer(column.dtype))))
    ]
    if wrong:
        expected = "numeric to be single numbers, tags and history to be lists, user and item to be single values"
        raise ConfigError("column roles", expected=expected, received="; ".join(wrong), hint="Change the role.")


def _check_columns(chains: Iterable[ChainConfig], known: Sequence[str]) -> None:
    """Raise ConfigError for every unknown column at once, or for a column that two chains would write."""
    seen: set[str] = set()
    unknown, twice = [], []
    for chain in chains:
        renamed = any(_operator(op)[0] == "Rename" for op in chain.ops)
        for name in _flat(chain.columns):
            if name not in known:
                unknown.append(name)
            elif name in seen and not renamed:
                twice.append(name)
            if not renamed:
                seen.add(name)
    if unknown:
        raise ConfigError(
            f"feature columns {', '.join(unknown)}", expected=_one_of(known), hint=_did_you_mean(unknown, known)
        )
    if twice:
        hint = "Put a Rename at the end of one of the chains."
        raise ConfigError(
            f"feature columns {', '.join(twice)}", expected="one chain for each", received="two", hint=hint
        )


def _chain(ops: ModuleType, chain: ChainConfig) -> Any:
    from merlin.dag import ColumnSelector, Node

    return _through(ops, chain, Node(ColumnSelector([*chain.columns])))


def _through(ops: ModuleType, chain: ChainConfig, node: Any) -> Any:
    """What comes out where `node` goes through the chain."""
    for op in chain.ops:
        node = node >> _make(ops, *_operator(op))
    if chain.tags:
        node = node >> ops.AddMetadata(tags=list(chain.tags))
    if not chain.then:
        return node
    taken = [_flat(part.columns) for part in chain.then]
    rest = [name for name in _flat(chain.columns) if not any(name in names for names in taken)]
    parts = [_through(ops, part, node[names]) for part, names in zip(chain.then, taken, strict=True)]
    return sum([*parts[1:], *([node[rest]] if rest else [])], start=parts[0])


def _flat(columns: Iterable[str | list[str]]) -> list[str]:
    return [name for group in columns for name in ([group] if isinstance(group, str) else group)]


def _operator(op: str | Mapping[str, Mapping[str, Any] | None]) -> tuple[str, Mapping[str, Any]]:
    if isinstance(op, str):
        return op, {}
    if len(op) != 1:
        received = ", ".join(op) or "none"
        raise ConfigError(
            "operator", expected="one name with its arguments", received=received, hint="Start each with '-'."
        )
    name, arguments = next(iter(op.items()))
    return name, arguments or {}


def _make(ops: ModuleType, name: str, arguments: Mapping[str, Any]) -> Any:
    """Return the operator `name` of NVTabular; ConfigError names the arguments it takes."""
    found = getattr(ops, name, None)
    if not inspect.isclass(found) or not hasattr(found, "transform"):
        raise ConfigError(f"operator {name!r}", expected=_one_of(_SUPPORTED), hint=_did_you_mean([name], _SUPPORTED))
    parameters = inspect.signature(found.__init__).parameters.values()
    # An operator without a constructor of its own shows object's (*args, **kwargs); **kwargs elsewhere only raise.
    allowed = [p.name for p in parameters if p.name != "self" and p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    unknown = [argument for argument in arguments if argument not in allowed]
    if unknown:
        subject = f"operator {name}, argument {', '.join(unknown)}"
        raise ConfigError(subject, expected=_one_of(allowed), hint=_did_you_mean(unknown, allowed))
    try:
        return found(**arguments)
    except (TypeError, ValueError) as error:
        received = ", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "no arguments"
        hint = str(error) if str(error).endswith(".") else f"{error}."
        raise ConfigError(f"operator {name}", expected=_one_of(allowed), received=received, hint=hint) from error


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(
            f"workflow file {path}",
            expected="a Python file",
            received="nothing there" if not path.exists() else "a folder",
        )


def _import(path: Path) -> ModuleType:
    name = f"mews_workflow_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ConfigError(f"workflow file {path}", expected="a Python file (.py)", received=path.name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(f"workflow file {path} does not run: {_where(error, path)}") from error
    return module


def _call(module: ModuleType, function: str, reference: str) -> Any:
    found = getattr(module, function, None)
    if not callable(found):
        known = [
            name
            for name, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        raise ConfigError(
            f"function {function!r} in {reference!r}", expected=_one_of(known), hint=_did_you_mean([function], known)
        )
    try:
        return found()
    except MewsError:
        raise
    except Exception as error:
        raise ConfigError(f"workflow {reference!r} failed: {_where(error, Path(str(module.__file__)))}") from error


def _where(error: Exception, path: Path) -> str:
    """Return the error with the last line of the user's file that it came from."""
    line, trace = getattr(error, "lineno", None), error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == path.resolve():
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{type(error).__name__}: {error}" + (f" (line {line})" if line else "")


def _one_of(names: Iterable[str]) -> str:
    return f"one of: {', '.join(names) or 'none'}"


def _did_you_mean(names: Iterable[str], known: Iterable[str]) -> str:
    by_lower = {name.lower(): name for name in known}
    close = [by_lower[match] for name in names for match in get_close_matches(name.lower(), by_lower, 1)]
    return f"Did you mean {', '.join(close)}?" if close else ""

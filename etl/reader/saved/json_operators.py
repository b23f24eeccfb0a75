"""The operators of NVTabular's graph.json: their arguments, checked one by one, and their statistics."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from etl.errors import ConfigError
from etl.reader.saved.folder import inside

_NUMPY_CLASS = re.compile(r"<class 'numpy\.(\w+)'>")
_NUMBER = (int, float, NoneType)
_SIZE = (int, NoneType, dict)


def typed(value: Any, kinds: type | tuple[type, ...], what: str) -> Any:
    """Return `value` if it is one of `kinds` (a bool is no int); ConfigError otherwise."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)
        raise ConfigError(f"graph.json: {what}", expected=expected, received=repr(value)[:200])
    return value


@dataclass(frozen=True)
class Saved:
    """One node's operator: its name, arguments and state as saved, and the folder of its tables."""

    name: str
    params: Mapping[str, Any]
    state: Mapping[str, Any]
    folder: Path
    tables: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    """The names of its outputs by those of its inputs, from the saved schemas."""


Read = Callable[[Any, Any], Any]


def _is(*kinds: type) -> Read:
    return lambda value, what: typed(value, kinds, what)


def _tags(value: Any, what: Any) -> list[Any]:
    from merlin.schema import Tags

    found = []
    for tag in typed(value, list, what):
        name = typed(tag, str, what).removeprefix("Tags.")
        found.append(Tags[name] if tag.startswith("Tags.") and name in Tags.__members__ else tag)
    return found


def _dtype(value: Any, what: Any) -> Any:
    if typed(value, (dict, NoneType), what) is None:
        return None
    name = typed(value.get("name"), str, what)
    # NVTabular writes a NumPy class that was given as an argument in Python's own spelling.
    found = _NUMPY_CLASS.fullmatch(name)
    try:
        kind = np.dtype(found[1] if found else name)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"graph.json: {what}", expected="a NumPy type", received=repr(name)[:200]) from error
    if kind.kind not in "biuf":
        raise ConfigError(f"graph.json: {what}", expected="a type of numbers", received=repr(name)[:200])
    return kind


def _ignored(value: Any, what: Any) -> None:
    return None


# Arguments that say how NVTabular computes, not what.
_RESOURCES = dict.fromkeys(
    ("cat_cache", "on_host", "search_sorted", "cardinality_memory_limit", "split_out", "split_every"), _ignored
)
_NAMES = _is(list, NoneType)

ARGUMENTS: dict[str, dict[str, Read]] = {
    "AddMetadata": {"tags": _tags, "properties": _is(dict)},
    "Bucketize": {"boundaries": _is(dict, list)},
    "Categorify": {
        **{name: _is(*_SIZE) for name in ("freq_threshold", "num_buckets", "max_size")},
        "dtype": _dtype,
        "encode_type": _is(str),
        "name_sep": _is(str),
        "single_table": _is(bool),
        **_RESOURCES,
    },
    "Clip": {"min_value": _is(*_NUMBER), "max_value": _is(*_NUMBER)},
    "Dropna": {},
    "FillMedian": {"add_binary_cols": _is(bool)},
    "FillMissing": {"fill_val": _is(int, float, str, bool, dict), "add_binary_cols": _is(bool)},
    "HashBucket": {"num_buckets": _is(int, dict)},
    "JoinGroupby": {"cont_cols": _NAMES, "stats": _is(list), "name_sep": _is(str), **_RESOURCES},
    "ListSlice": {"start": _is(int), "end": _is(int, NoneType), "pad": _is(bool), "pad_value": _is(int, float)},
    "LogOp": {},
    "Normalize": {"out_dtype": _dtype},
    "NormalizeMinMax": {"out_dtype": _dtype},
    "Rename": {"f": _is(dict, NoneType), "postfix": _is(str, NoneType), "name": _is(str, NoneType)},
    "TargetEncoding": {
        "target_cols": _is(list),
        "target_mean": _is(float, int, dict, list, NoneType),
        "kfold": _is(int),
        "fold_seed": _is(int),
        "p_smooth": _is(int, float),
        "out_col": _NAMES,
        "out_dtype": _dtype,
        "name_sep": _is(str),
        "drop_folds": _is(bool),
        **_RESOURCES,
    },
}
"""What each operator may be saved with; anything else is of a version that is not known here."""

_NUMBERS = {"FillMedian": ("medians",), "Normalize": ("means", "stds"), "NormalizeMinMax": ("mins", "maxs")}
_TABLES = {"Categorify": "categories", "JoinGroupby": "categories", "TargetEncoding": "stats"}


def make(saved: Saved) -> Any:
    """Return NVTabular's operator with its statistics; ConfigError for arguments or a state that it cannot have."""
    import nvtabular.ops

    arguments = _arguments(saved)
    if saved.name == "Rename" and arguments["f"] is not None:
        # The function is not run: the names that it made are in the saved schemas.
        arguments["f"] = dict(saved.renamed).__getitem__
    if saved.name == "TargetEncoding":
        arguments["target"] = arguments.pop("target_cols")
    try:
        op = getattr(nvtabular.ops, saved.name)(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"graph.json: {saved.name}: {error}"[:300]) from error
    _restore(op, saved)
    return op


def _arguments(saved: Saved) -> dict[str, Any]:
    known = ARGUMENTS[saved.name]
    needed = {name for name, read in known.items() if read is not _ignored}
    if not needed <= set(saved.params) <= set(known):
        received = ", ".join(sorted(map(str, saved.params))) or "none"
        expected = f"the arguments {', '.join(sorted(needed)) or 'none'}"
        raise ConfigError(f"graph.json: {saved.name}", expected=expected, received=received[:300])
    read = {name: known[name](value, f"{name} of {saved.name}") for name, value in saved.params.items()}
    return {name: value for name, value in read.items() if known[name] is not _ignored}


def _restore(op: Any, saved: Saved) -> None:
    for name in _NUMBERS.get(saved.name, ()):
        values = typed(saved.state.get(name), dict, f"{name} of {saved.name}")
        if not values:
            raise ConfigError(f"graph.json: {name} of {saved.name}", expected="a number by column", received="none")
        setattr(op, name, {key: float(typed(value, (int, float), name)) for key, value in values.items()})
    if saved.name in _TABLES:
        setattr(op, _TABLES[saved.name], _files(saved, _TABLES[saved.name]))
        op.out_path = str(saved.folder / saved.tables)
    if hasattr(op, "storage_name"):
        names = typed(saved.state.get("storage_name"), dict, f"storage_name of {saved.name}")
        op.storage_name = {key: typed(value, str, "storage_name") for key, value in names.items()}
    if saved.name == "TargetEncoding":
        op.means = {key: float(value) for key, value in typed(saved.state.get("means"), dict, "means").items()}
    if hasattr(op, "fitted"):
        op.fitted = True


def _files(saved: Saved, key: str) -> dict[Any, str]:
    found = {}
    for record in typed(saved.state.get(key), list, f"{key} of {saved.name}"):
        names = [typed(name, str, key) for name in typed(typed(record, dict, key).get("key"), list, key)]
        path = typed(record.get("path"), str, f"path in {key} of {saved.name}")
        found[names[0] if len(names) == 1 else tuple(names)] = str(inside(saved.folder, f"{saved.tables}/{path}"))
    return found

"""Dataclasses of execution.py to protobuf messages and back, by the place that each field names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints


def fill(message: Any, value: Any) -> None:
    """Write the dataclass `value` into `message`; None is left out."""
    message.SetInParent()
    kind: Any = type(value)
    for place, name in _places(kind).items():
        if (held := getattr(value, name)) is not None:
            _write(message, place.split("."), held)


def read(message: Any, kind: Any) -> Any:
    """Return the dataclass `kind` that `message` holds."""
    hints = _hints(kind)
    return kind(**{name: _read(message, place.split("."), hints[name]) for place, name in _places(kind).items()})


@cache
def _places(kind: Any) -> Mapping[str, str]:
    """Place in the protobuf: name of the field."""
    hints = get_type_hints(kind, include_extras=True)
    return {hint.__metadata__[0]: name for name, hint in hints.items()}


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _write(message: Any, path: list[str], value: Any) -> None:
    *outer, last = path
    if outer and (not isinstance(value, tuple) or value):  # no list, no message around it
        message = getattr(message, outer[0])
        message.SetInParent()
    if is_dataclass(value):
        fill(getattr(message, last), value)
    elif isinstance(value, tuple) and value and is_dataclass(value[0]):
        for each in value:
            fill(getattr(message, last).add(), each)
    elif isinstance(value, Mapping) and value and is_dataclass(next(iter(value.values()))):
        for key, each in value.items():
            fill(getattr(message, last)[key], each)
    elif isinstance(value, Mapping):
        getattr(message, last).update(value)
    elif isinstance(value, tuple):
        getattr(message, last).extend(value) if value else None
    else:
        enum = message.DESCRIPTOR.fields_by_name[last].enum_type
        setattr(message, last, enum.values_by_name[value].number if enum else value)


def _read(message: Any, path: list[str], hint: Any) -> Any:
    *outer, last = path
    optional = NoneType in get_args(hint)
    if optional:
        hint = next(each for each in get_args(hint) if each is not NoneType)
        if not message.HasField((outer or [last])[0]):
            return None
    if outer:
        message = getattr(message, outer[0])
    held = getattr(message, last)
    if is_dataclass(hint):
        return read(held, hint)
    inner = [each for each in get_args(hint) if isinstance(each, type) and is_dataclass(each)]
    if get_origin(hint) is tuple:
        return tuple(read(each, inner[0]) for each in held) if inner else tuple(held)
    if get_origin(hint) is Mapping:
        return {key: read(held[key], inner[0]) if inner else held[key] for key in sorted(held)}
    enum = message.DESCRIPTOR.fields_by_name[last].enum_type
    return enum.values_by_number[held].name if enum else held

"""LambdaOp: a function over columns, held as a tree of calls in JSON values.

A tree is a list: its first value says what it is, the rest are its parts.

    ["column", name]      a column of the operator's inputs
    ["value", v]          a bool, a number (also "nan", "inf", "-inf" as {"float": ...}), a string or null
    ["moment", n]         a point in time, ["span", n] a time between two: microseconds
    [call, tree, ..., literal, ...]    as CALLS says: so many trees, then literals of these kinds

`checked` reads one that may have been tampered with: nothing in it is run, and sizes are bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from etl.errors import ConfigError
from etl.operators import Operator, add
from etl.operators.kinds import NAME, NAMES, PROPERTIES, Kind, by_name

if TYPE_CHECKING:
    from etl.graph import OpNode, Ref

Tree = list[Any]

MOST_CALLS = 2_000
"""Calls of one tree; a function that repeats a column by repeated doubling is refused before it fills the memory."""
DEEPEST = 150
_LONGEST_TEXT = 10_000
_MOST_VALUES = 100_000

_ONE, _TWO = (1, ()), (2, ())
_COUNT = int | None
CALLS: dict[str, tuple[int, tuple[Any, ...]]] = {
    **dict.fromkeys(("add", "sub", "mul", "div", "floordiv", "mod", "pow", "minimum", "maximum"), _TWO),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "fillna"), _TWO),
    **dict.fromkeys(("neg", "not", "abs", "sign", "floor", "ceil", "rint", "exp", "expm1", "log", "log1p"), _ONE),
    **dict.fromkeys(("log2", "log10", "sqrt", "square", "sin", "cos", "tan", "tanh", "isna", "isnan", "isinf"), _ONE),
    "where": (3, ()),
    "clip": (1, (float | int | None, float | int | None)),
    "round": (1, (int,)),
    "isin": (1, (list,)),
    "astype": (1, (str,)),
    "date": (1, (str,)),
    "text": (1, (str, list)),
}
"""By call: how many trees it has, and the kinds of its literals."""


def checked(tree: Any) -> Tree:
    """Return `tree`; ConfigError if it is not one, or a larger one than is taken."""
    left = [MOST_CALLS]
    _check(tree, left, 0)
    return list(tree)


def _check(tree: Any, left: list[int], depth: int) -> None:
    left[0] -= 1
    if left[0] < 0 or depth > DEEPEST:
        raise _wrong(f"at most {MOST_CALLS} calls, {DEEPEST} deep", "a larger one")
    if not isinstance(tree, list) or not tree or not isinstance(tree[0], str):
        raise _wrong("a list that begins with a name", tree)
    name, parts = tree[0], tree[1:]
    if name in ("column", "value", "moment", "span"):
        _check_leaf(name, parts)
        return
    if name not in CALLS:
        raise _wrong(f"one of: {', '.join(CALLS)}", name)
    count, kinds = CALLS[name]
    if len(parts) != count + len(kinds):
        raise _wrong(f"{count + len(kinds)} parts of {name}", len(parts))
    for part in parts[:count]:
        _check(part, left, depth + 1)
    for part, kind in zip(parts[count:], kinds, strict=True):
        _check_literal(part, kind)


def _check_leaf(name: str, parts: list[Any]) -> None:
    if len(parts) != 1:
        raise _wrong(f"one value of {name}", parts)
    kinds = {"column": str, "value": bool | int | float | str | dict | None}
    _check_literal(parts[0], kinds.get(name, int))
    if isinstance(parts[0], dict) and (set(parts[0]) != {"float"} or parts[0]["float"] not in ("nan", "inf", "-inf")):
        raise _wrong("nan, inf or -inf", parts[0])
    if name in ("moment", "span") and abs(parts[0]) >= 2**63:
        raise _wrong("microseconds that an int64 holds", parts[0])


def _check_literal(value: Any, kind: Any) -> None:
    wrong_bool = isinstance(value, bool) and kind in (int, float | int | None)
    if not isinstance(value, kind) or wrong_bool:
        raise _wrong(str(kind), value)
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        raise _wrong(f"at most {_LONGEST_TEXT} characters", len(value))
    if isinstance(value, int) and abs(value) >= 2**64:
        raise _wrong("a number of 64 bits", value)
    if isinstance(value, list):
        if len(value) > _MOST_VALUES:
            raise _wrong(f"at most {_MOST_VALUES} values", len(value))
        for each in value:
            _check_literal(each, bool | int | float | str | None)


def _wrong(expected: str, received: Any) -> ConfigError:
    return ConfigError("a traced function", expected=expected, received=repr(received)[:80])


def columns_of(tree: Tree) -> Iterator[str]:
    """Yield the columns that a tree reads."""
    if tree[0] == "column":
        yield tree[1]
    elif tree[0] in CALLS:
        for part in tree[1 : 1 + CALLS[tree[0]][0]]:
            yield from columns_of(part)


TREE = Kind("a traced function", lambda value: bool(checked(value)))


def _read_by(node: OpNode, output: str) -> tuple[Ref, ...]:
    """Return the inputs that a traced column reads; all of them for a function that runs as Python."""
    tree = node.params.get("columns", {}).get(output)
    if tree is None:
        return node.inputs
    read = {*columns_of(tree), output}
    return tuple(ref for ref in node.inputs if ref.column in read)


add(
    Operator(
        "LambdaOp",
        "A function over columns.",
        sources=_read_by,
        params={"columns": by_name(TREE), "python": NAME, "tags": NAMES, "properties": PROPERTIES},
    )
)

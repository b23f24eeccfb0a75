"""The stand-in for a column: it records what is done to it, as a tree of calls (etl/operators/traced.py)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from etl.operators.traced import DEEPEST, MOST_CALLS, Tree
from etl.reader.trace_parts import Dates, Text, Untraceable, literal_of, time_of

_String = str  # inside Column `str` is the accessor


def _size(tree: Tree) -> tuple[int, int]:
    inner = [_size(part) for part in tree[1:] if isinstance(part, list) and part and isinstance(part[0], str)]
    return 1 + sum(size for size, _ in inner), 1 + max((depth for _, depth in inner), default=0)


def _tree(value: Any) -> Tree:
    """Return a stand-in's tree, or a constant as one."""
    if isinstance(value, Column):
        return value.tree
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64 | np.timedelta64):
        value = value.item()
    if isinstance(value, bool | str) or value is None or (isinstance(value, int) and abs(value) < 2**64):
        return ["value", value]
    if isinstance(value, float):
        return ["value", value if math.isfinite(value) else {"float": str(value)}]
    found = time_of(value)
    if found is None:
        raise Untraceable(f"{type(value).__name__} is neither a column nor a constant")
    return found


def _binary(call: str, swapped: bool = False) -> Callable[..., Any]:
    def method(self: Column, other: Any) -> Any:
        if isinstance(other, np.ndarray | list | tuple | dict | set):
            raise Untraceable(f"{type(other).__name__} holds values of rows")
        return self._call(call, other, self) if swapped else self._call(call, self, other)

    return method


class Column:
    """Stands for a column."""

    def __init__(self, tree: Tree, name: _String = "") -> None:
        self.tree, self.name = tree, name

    def _call(self, call: _String, *parts: Any, literals: tuple[Any, ...] = ()) -> Column:
        tree = [call, *(_tree(part) for part in parts), *literals]
        size, depth = _size(tree)
        if size > MOST_CALLS or depth > DEEPEST:
            raise Untraceable(f"it takes more than {MOST_CALLS} calls, or {DEEPEST} one inside the other")
        return Column(tree, self.name)

    # What would need the values.
    def __bool__(self) -> bool:
        raise Untraceable("it branches on the data; np.where chooses row by row")

    def __iter__(self) -> Any:
        raise Untraceable("it iterates over rows")

    def __len__(self) -> int:
        raise Untraceable("it asks for the number of rows")

    def __array__(self, *options: Any) -> Any:
        raise Untraceable("a function takes the column's values as an array")

    def __getitem__(self, key: Any) -> Any:
        raise Untraceable("it picks rows")

    __float__ = __int__ = __index__ = __bool__
    __hash__ = None  # type: ignore[assignment]

    def __getattr__(self, name: _String) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise Untraceable(f".{name} is not recorded: it may look at other rows, or has no primitive")

    # Arithmetic.
    __add__, __radd__ = _binary("add"), _binary("add", True)
    __sub__, __rsub__ = _binary("sub"), _binary("sub", True)
    __mul__, __rmul__ = _binary("mul"), _binary("mul", True)
    __truediv__, __rtruediv__ = _binary("div"), _binary("div", True)
    __floordiv__, __rfloordiv__ = _binary("floordiv"), _binary("floordiv", True)
    __mod__, __rmod__ = _binary("mod"), _binary("mod", True)
    __pow__, __rpow__ = _binary("pow"), _binary("pow", True)
    __and__, __rand__ = _binary("and"), _binary("and", True)
    __or__, __ror__ = _binary("or"), _binary("or", True)
    __xor__, __rxor__ = _binary("xor"), _binary("xor", True)
    __eq__, __ne__ = _binary("eq"), _binary("ne")
    __lt__, __le__, __gt__, __ge__ = _binary("lt"), _binary("le"), _binary("gt"), _binary("ge")
    add, sub, mul, div, truediv = __add__, __sub__, __mul__, __truediv__, __truediv__
    floordiv, mod, pow = __floordiv__, __mod__, __pow__
    eq, ne, lt, le, gt, ge = __eq__, __ne__, __lt__, __le__, __gt__, __ge__

    def __neg__(self) -> Column:
        return self._call("neg", self)

    def __invert__(self) -> Column:
        return self._call("not", self)

    def __abs__(self) -> Column:
        return self._call("abs", self)

    def __round__(self, decimals: int = 0) -> Column:
        return self.round(decimals)

    # pandas.
    def abs(self) -> Column:
        """The absolute value."""
        return self._call("abs", self)

    def round(self, decimals: int = 0) -> Column:
        """Rounded to even at so many decimals."""
        return self._call("round", self, literals=(literal_of(decimals, int, "decimals"),))

    def clip(self, lower: Any = None, upper: Any = None) -> Column:
        """Between two constants."""
        return self._call(
            "clip", self, literals=tuple(literal_of(b, int | float | None, "a bound") for b in (lower, upper))
        )

    def where(self, cond: Any, other: Any = None) -> Column:
        """The column where a condition holds, else another, or null."""
        return self._call("where", _condition(cond), self, other)

    def mask(self, cond: Any, other: Any = None) -> Column:
        """Another, or null, where a condition holds."""
        return self._call("where", _condition(cond), other, self)

    def fillna(self, value: Any) -> Column:
        """Another value where it is missing."""
        return self._call("fillna", self, value)

    def isna(self) -> Column:
        """Where it is missing."""
        return self._call("isna", self)

    def notna(self) -> Column:
        """Where it is not missing."""
        return ~self.isna()

    isnull, notnull = isna, notna

    def isin(self, values: Any) -> Column:
        """Where it is one of constants."""
        return self._call("isin", self, literals=([_constant(value) for value in values],))

    def between(self, left: Any, right: Any, inclusive: _String = "both") -> Column:
        """Where it lies between two values."""
        low = self >= left if inclusive in ("both", "left") else self > left
        return low & (self <= right if inclusive in ("both", "right") else self < right)  # type: ignore[no-any-return]

    def astype(self, dtype: Any, **options: Any) -> Column:
        """As another type."""
        name = dtype if isinstance(dtype, _String) else np.dtype(dtype).name
        return self._call("astype", self, literals=(name,))

    def copy(self, deep: bool = True) -> Column:
        """The column."""
        return self

    @property
    def values(self) -> Column:
        """The column."""
        return self

    @property
    def dt(self) -> Dates:
        """Its parts of a date, or of a time between two."""
        return Dates(self)

    @property
    def str(self) -> Text:
        """Its functions of text."""
        return Text(self)

    # NumPy.
    def __array_ufunc__(self, ufunc: Any, method: _String, *inputs: Any, **options: Any) -> Column:
        if method != "__call__" or options:
            raise Untraceable(f"np.{ufunc.__name__} with {method} or options")
        if ufunc.__name__ == "isfinite":
            return ~(self._call("isnan", *inputs) | self._call("isinf", *inputs))  # type: ignore[no-any-return]
        if ufunc.__name__ not in _UFUNCS:
            raise Untraceable(f"np.{ufunc.__name__} is not recorded")
        return self._call(_UFUNCS[ufunc.__name__], *inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Column:
        if function.__name__ not in _ARRAY_FUNCTIONS:
            raise Untraceable(f"np.{function.__name__} is not recorded: it may look at other rows")
        found: Column = _ARRAY_FUNCTIONS[function.__name__](*args, **options)
        return found


def _constant(value: Any) -> Any:
    return literal_of(value, bool | int | float | str, "a value of isin")


def _condition(value: Any) -> Column:
    if not isinstance(value, Column):
        raise Untraceable(f"a condition is {type(value).__name__}, not a column")
    return value


def _np_where(condition: Any, x: Any = None, y: Any = None) -> Column:
    return _condition(condition)._call("where", condition, x, y)


def _np_clip(a: Any, a_min: Any = None, a_max: Any = None) -> Column:
    return _condition(a).clip(a_min, a_max)


def _np_round(a: Any, decimals: int = 0) -> Column:
    return _condition(a).round(decimals)


_ARRAY_FUNCTIONS: dict[str, Callable[..., Column]] = {
    "where": _np_where,
    "clip": _np_clip,
    "round": _np_round,
    "round_": _np_round,
    "around": _np_round,
    "isin": lambda element, test_elements: _condition(element).isin(test_elements),
}

_UFUNCS = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "floor_divide": "floordiv",
    "remainder": "mod",
    "power": "pow",
    "negative": "neg",
    "absolute": "abs",
    "fabs": "abs",
    "minimum": "minimum",
    "maximum": "maximum",
    "equal": "eq",
    "not_equal": "ne",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "logical_and": "and",
    "logical_or": "or",
    "logical_not": "not",
    "logical_xor": "xor",
    "bitwise_and": "and",
    "bitwise_or": "or",
    "bitwise_xor": "xor",
    "invert": "not",
    **{name: name for name in ("exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "square", "sin", "cos", "tan")},
    **{name: name for name in ("tanh", "sign", "floor", "ceil", "rint", "isnan", "isinf")},
}

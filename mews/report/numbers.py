"""Numbers as people read them: units, thousands separators, three significant digits, a dash for what is missing."""

from __future__ import annotations

import math
from typing import Any

MISSING = "–"
NBSP = "\u00a0"
"""Keeps a number and its unit on one line."""
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: Any) -> float | None:
    """`value` as a finite float, or None: the door through which every figure of a JSON file passes."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def significant(value: Any, digits: int = 3) -> str:
    """`value` with so many significant digits: 0.0000123 as 1.23 × 10⁻⁵, 1234567 as 1,234,567."""
    found = number(value)
    if found is None:
        return MISSING
    if found == 0:
        return "0"
    exponent = math.floor(math.log10(abs(found)))
    if -4 <= exponent < 15:
        text = f"{found:,.{max(0, digits - 1 - exponent)}f}"
        return text.rstrip("0").rstrip(".").replace("-", "−") if "." in text else text.replace("-", "−")
    mantissa, power = f"{found:.{digits - 1}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa.replace('-', '−')}{NBSP}×{NBSP}10{str(int(power)).translate(_SUPERSCRIPT)}"


def fixed(value: Any, decimals: int = 4) -> str:
    """`value` with so many decimals, so that figures under each other line up."""
    found = number(value)
    return MISSING if found is None else f"{found:,.{decimals}f}".replace("-", "−")


def count(value: Any) -> str:
    """A whole number with thousands separators."""
    found = number(value)
    return MISSING if found is None else f"{round(found):,}"


def compact(value: Any) -> str:
    """A count in at most three digits and a unit, for axes: 400 k, 1.2 M."""
    found = number(value)
    if found is None:
        return MISSING
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(found) >= limit:
            return f"{significant(found / limit)}{NBSP}{unit}"
    return significant(found)


def percent(value: Any, digits: int = 3) -> str:
    """A share of one as a percentage."""
    found = number(value)
    if found is None:
        return MISSING
    if 0 < found < 0.0001:
        return f"<{NBSP}0.01{NBSP}%"
    return f"{significant(found * 100, digits)}{NBSP}%"


def seconds(value: Any) -> str:
    """A duration given in seconds, from microseconds to hours."""
    found = number(value)
    if found is None:
        return MISSING
    if found >= 3600:
        return f"{int(found // 3600)}{NBSP}h{NBSP}{int(found % 3600 // 60)}{NBSP}min"
    if found >= 119.5:
        return f"{int(found // 60)}{NBSP}min{NBSP}{int(found % 60)}{NBSP}s"
    if found >= 1:
        return f"{significant(found)}{NBSP}s"
    return (
        f"{significant(found * 1e3)}{NBSP}ms" if found >= 1e-3 or found == 0 else f"{significant(found * 1e6)}{NBSP}µs"
    )


def microseconds(value: Any) -> str:
    """A duration given in microseconds."""
    found = number(value)
    return MISSING if found is None else seconds(found / 1e6)


def size(value: Any) -> str:
    """A number of bytes, in powers of 1,024."""
    found = number(value)
    if found is None:
        return MISSING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if found < 1024 or unit == "GiB":
            break
        found /= 1024
    return f"{significant(found)}{NBSP}{unit}"


def value_text(value: Any) -> str:
    """Any JSON scalar: numbers get separators, everything else its own text."""
    if isinstance(value, bool) or value is None:
        return MISSING if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return significant(value, 4) if isinstance(value, float) else str(value)

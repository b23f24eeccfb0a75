"""What is worth a look: every rule reads the facts of one column and returns (kind, detail) or None."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

LEAKED = 0.99
"""An AUC above it, or a correlation, is rarely earned."""
ID_LIKE, MOSTLY_NULL, NEARLY_CONSTANT, NEW = 0.95, 0.5, 0.995, 0.05
FEW_ROWS = 100
_TELLING, _ERRORS = 0.05, 5.0
_REPEATED = 0.1

Facts = Mapping[str, Any]
Rule = Callable[[Facts], tuple[str, str] | None]


def findings(columns: list[dict[str, Any]], label: Facts | None, reference: Facts | None) -> list[dict[str, str]]:
    """Return [{column, kind, detail}], the table's own ('' as column) first, then column by column."""
    found = [*_of_label(label), *_of_reference(reference)]
    for column in columns:
        named = [rule(column) for rule in _RULES]
        found += [{"column": column["name"], "kind": one[0], "detail": one[1]} for one in named if one]
    return found


def _of_label(label: Facts | None) -> Iterator[dict[str, str]]:
    if label is None:
        return
    if label["kind"] == "constant":
        detail = "the label has fewer than two values, so nothing can be said of it"
        yield {"column": label["column"], "kind": "constant label", "detail": detail}
    if label["nulls"]:
        detail = f"{label['nulls']:,} rows have no label; they are left out of what concerns it"
        yield {"column": label["column"], "kind": "label missing", "detail": detail}


def _of_reference(reference: Facts | None) -> Iterator[dict[str, str]]:
    if reference is None:
        return
    for name in reference["missing"]:
        yield {"column": name, "kind": "column gone", "detail": "only the reference has it; not compared"}
    for name in reference["added"]:
        yield {"column": name, "kind": "column added", "detail": "the reference lacks it; not compared"}
    for one in reference["retyped"]:
        told = f"{one['dtype']}, in the reference {one['reference']}"
        yield {"column": one["column"], "kind": "type changed", "detail": told}


def _empty(column: Facts) -> tuple[str, str] | None:
    if column["nulls"] == column["rows"]:
        return "all null", "no row has a value"
    if column["null_share"] > MOSTLY_NULL:
        return "mostly null", f"{column['null_share']:.1%} of the rows have no value"
    return None


def _constant(column: Facts) -> tuple[str, str] | None:
    if column["kind"] == "list":
        return None
    if column.get("distinct") == 1:
        return "constant", f"one value only{', beside nulls' if column['nulls'] else ''}"
    top = column.get("top") or ()
    if top and top[0]["share"] > NEARLY_CONSTANT:
        return "nearly constant", f"{top[0]['value']!r} has {top[0]['share']:.2%} of the filled rows"
    return None


def _id_like(column: Facts) -> tuple[str, str] | None:
    filled = column["rows"] - column["nulls"]
    named = column["kind"] == "category" or (column["kind"] == "number" and "int" in column["dtype"])
    if not named or filled < FEW_ROWS or (column.get("distinct") or 0) < ID_LIKE * filled:
        return None
    return (
        "id-like",
        f"{column['distinct']:,} distinct values in {filled:,} filled rows: a model would learn them by heart",
    )


def _broken(column: Facts) -> tuple[str, str] | None:
    count = column.get("not_finite") or 0
    return ("not finite", f"{count:,} values are NaN or infinite; left out of the figures") if count else None


def _blank(column: Facts) -> tuple[str, str] | None:
    count = column.get("empty") or 0
    return ("empty strings", f"{count:,} values are empty, yet not null") if count else None


def _leaked(column: Facts) -> tuple[str, str] | None:
    computed = (column.get("association") or {}).get("measures", {})
    area = computed.get("auc")
    if area is not None and max(area, 1 - area) > LEAKED:
        return "leaked label?", f"alone it has AUC {max(area, 1 - area):.4f} for the label"
    for name, told in (("pearson", "Pearson"), ("spearman", "Spearman"), ("theils_u", "Theil's U")):
        found = computed.get(name)
        if found is not None and abs(found) > LEAKED:
            return "leaked label?", f"{told} with the label is {found:.4f}"
    return None


def _telling(column: Facts) -> tuple[str, str] | None:
    missing = (column.get("association") or {}).get("missing")
    if not missing or missing["z"] is None or abs(missing["z"]) < _ERRORS:
        return None
    if abs(missing["difference"]) < _TELLING * max(abs(missing["rate"]), abs(missing["rate_filled"])):
        return None
    told = f"the label's mean is {missing['rate']:.4g} where it is null, {missing['rate_filled']:.4g} elsewhere"
    return "missingness tells", told


def _shifted(column: Facts) -> tuple[str, str] | None:
    moved = column.get("drift")
    if not moved or moved["band"] != "large":
        return None
    return "drift", f"population stability index {moved['psi']:.3f} against the reference"


def _unseen(column: Facts) -> tuple[str, str] | None:
    share = (column.get("drift") or {}).get("new_share")
    few = column["kind"] != "number" or (column.get("distinct") or 0) < _REPEATED * column["rows"]
    if share is None or share <= NEW or not few:
        return None
    return "unseen values", f"{share:.1%} of the filled rows have values that the reference never has"


_RULES: tuple[Rule, ...] = (
    _empty, _constant, _id_like, _broken, _blank, _leaked, _telling, _shifted, _unseen,
)  # fmt: skip

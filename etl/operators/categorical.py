"""Categorify, HashBucket and HashedCross: their options, and the columns that are encoded together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from etl.operators import Operator, State, add, every_input, position
from etl.operators.kinds import (
    COUNTS,
    FLAG,
    FLAGS,
    GROUPS,
    KEYS,
    LIMIT,
    NAME,
    NAMES,
    NUMERIC,
    Table,
    one_of,
    optional,
    required,
)

if TYPE_CHECKING:
    from etl.graph import OpNode, Ref

FIRST = 2
"""The code of an unknown value; before it are 0 for padding and 1 for null."""


def groups_of(node: OpNode) -> list[list[str]]:
    """Return an operator's groups of columns: for Categorify those that share a vocabulary or are combined."""
    return [list(group) for group in node.params.get("groups") or ()]


def name_of(node: OpNode, group: Collection[str]) -> str:
    """Return the name of a group of columns."""
    return str(node.params.get("name_sep") or "_").join(group)


def is_combined(node: OpNode) -> bool:
    """Return True for a Categorify that makes one column of each group."""
    return bool(node.params.get("encode_type", "joint") == "combo")


def is_strict(node: OpNode) -> bool:
    """Return True where faults of NVTabular are to be repeated."""
    return bool(node.params.get("strict_nvtabular"))


def vocabulary_of(node: OpNode, column: str) -> str:
    """Return the key, in a Categorify's state, of the vocabulary that encodes the output `column`."""
    if is_combined(node):
        return column
    return next((name_of(node, group) for group in groups_of(node) if column in group), column)


def parts_of(node: OpNode, output: str) -> list[str]:
    """Return the input columns that a Categorify's output `output` is made from."""
    if not is_combined(node):
        return [output]
    return next((group for group in groups_of(node) if name_of(node, group) == output), [output])


def vocabularies(node: OpNode) -> dict[str, list[str]]:
    """Return the key of every vocabulary, with the outputs that it encodes."""
    found: dict[str, list[str]] = {}
    for column in node.outputs:
        found.setdefault(vocabulary_of(node, column.name), []).append(column.name)
    return found


def given_vocabularies(node: OpNode) -> list[str]:
    """Return the keys of the vocabularies that the user gave, which fit leaves as they are."""
    return list(node.params.get("vocabs") or ())


def key_columns(parts: Collection[str]) -> list[str]:
    """Return the names of a table's columns of keys: `value`, or `value_0`, `value_1`, ... for a tuple."""
    return ["value"] if len(parts) == 1 else [f"value_{place}" for place in range(len(parts))]


def option_of(node: OpNode, name: str, *keys: str) -> int:
    """Return a Categorify option that is a number, or a dict by name (the first of `keys` in it counts); 0 if unset."""
    value = node.params.get(name)
    if isinstance(value, Mapping):
        value = next((value[key] for key in keys if key in value), None)
    return int(value or 0)


def limit_of(node: OpNode, name: str, column: str) -> int:
    """Return max_size or freq_threshold for the vocabulary of the output `column`; 0 if unset."""
    keys = [vocabulary_of(node, column), column]
    if is_strict(node) and is_combined(node):  # NVTabular asks for the first part's
        keys = parts_of(node, column)[:1]
    return option_of(node, name, *keys)


def buckets_of(node: OpNode, column: str) -> int:
    """Return how many codes a Categorify keeps for the unknown values of `column`; 1 unless num_buckets says more."""
    return max(1, option_of(node, "num_buckets", vocabulary_of(node, column), column))


def first_code(node: OpNode, column: str) -> int:
    """Return the code of the first value in the vocabulary of the output `column`.

    NVTabular's faults move it: a single table by the vocabularies before, given vocabularies with buckets by 3.
    """
    first, key = FIRST + buckets_of(node, column), vocabulary_of(node, column)
    if is_strict(node) and node.params.get("single_table"):
        for before in vocabularies(node):
            if before == key:
                break
            table = (node.state or {}).get(before)
            first += 0 if table is None else table.height
        return first
    moved = is_strict(node) and key in given_vocabularies(node) and first > FIRST + 1
    return first + 3 * moved


def _codes(node: OpNode, column: str) -> int | None:
    table = (node.state or {}).get(vocabulary_of(node, column))
    if table is None:
        return None
    least = first_code(node, column) + buckets_of(node, column) + 1 if node.params.get("single_table") else 0
    return max(first_code(node, column) + table.height, least)


def _combined(node: OpNode, output: str) -> tuple[Ref, ...]:
    if not is_combined(node):
        return position(node, output)
    return tuple(ref for ref in node.inputs if ref.column in parts_of(node, output))


def _used_vocabularies(node: OpNode, state: State, kept: Collection[str]) -> State:
    used = {vocabulary_of(node, name) for name in kept}
    return {key: table for key, table in state.items() if key in used}


def _has_vocabularies(node: OpNode) -> bool:
    return node.state is not None and set(vocabularies(node)) <= set(node.state)


_ACTIVE = replace(FLAGS, required=False)


def _vocabulary_tables(node: OpNode) -> dict[str, Table]:
    """Return the vocabularies; those that the user gave may be there alone."""
    found = {}
    for key, members in vocabularies(node).items():
        keys = key_columns(parts_of(node, members[0]))
        found[key] = Table(
            {**dict.fromkeys(keys, KEYS), "count": COUNTS, "active": _ACTIVE}, unique=tuple(keys), required=False
        )
    return found


_BUCKETS = {"num_buckets": required(LIMIT)}


def _hash_buckets(node: OpNode, column: str) -> int | None:
    return option_of(node, "num_buckets", column) or None


add(
    Operator(
        "Categorify",
        "Values to integer codes by falling count.",
        fitted=True,
        strict=True,
        sources=_combined,
        cardinality=_codes,
        without=_used_vocabularies,
        complete=_has_vocabularies,
        params={
            "freq_threshold": LIMIT,
            "max_size": LIMIT,
            "num_buckets": LIMIT,
            "encode_type": one_of("joint", "combo"),
            "dtype": optional(NUMERIC),
            "groups": GROUPS,
            "name_sep": NAME,
            "vocabs": NAMES,
            "single_table": FLAG,
        },
        tables=_vocabulary_tables,
    ),
    Operator(
        "HashBucket",
        "The hash of a value, modulo a number of buckets.",
        cardinality=_hash_buckets,
        params=_BUCKETS,
    ),
    Operator(
        "HashedCross",
        "One hash of several columns, modulo a number of buckets.",
        sources=every_input,
        cardinality=_hash_buckets,
        params=_BUCKETS,
        single=True,
    ),
)

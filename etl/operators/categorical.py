"""Categorify: its options, and the groups of columns that share a vocabulary."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from etl.operators import Operator, State, add, position

if TYPE_CHECKING:
    from etl.graph import OpNode, Ref


def groups_of(node: OpNode) -> list[list[str]]:
    """Return a Categorify's groups of columns that share a vocabulary."""
    return [list(group) for group in node.params.get("groups") or ()]


def vocabulary_of(node: OpNode, column: str) -> str:
    """Return the key, in a Categorify's state, of the vocabulary that encodes `column`."""
    return next(("_".join(group) for group in groups_of(node) if column in group), column)


def option_of(node: OpNode, name: str, *keys: str) -> int:
    """Return a Categorify option that is a number, or a dict by name (the first of `keys` in it counts); 0 if unset."""
    value = node.params.get(name)
    if isinstance(value, Mapping):
        value = next((value[key] for key in keys if key in value), None)
    return int(value or 0)


def buckets_of(node: OpNode, column: str) -> int:
    """Return how many codes a Categorify keeps for the unknown values of `column`; 1 unless num_buckets says more."""
    return max(1, option_of(node, "num_buckets", vocabulary_of(node, column), column))


def _codes(node: OpNode, column: str) -> int | None:
    table = (node.state or {}).get(vocabulary_of(node, column))
    return None if table is None else table.height + 2 + buckets_of(node, column)


def _combined(node: OpNode, output: str) -> tuple[Ref, ...]:
    if node.params.get("encode_type", "joint") != "combo":
        return position(node, output)
    parts = next((group for group in groups_of(node) if "_".join(group) == output), [output])
    return tuple(ref for ref in node.inputs if ref.column in parts)


def _used_vocabularies(node: OpNode, state: State, kept: Collection[str]) -> State:
    used = {vocabulary_of(node, name) for name in kept}
    return {key: table for key, table in state.items() if key in used}


add(
    Operator(
        "Categorify",
        "Values to integer codes by falling count.",
        fitted=True,
        sources=_combined,
        cardinality=_codes,
        without=_used_vocabularies,
    )
)

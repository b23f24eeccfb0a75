"""Names, tags and properties."""

from __future__ import annotations

from typing import Any

from etl.graph import OpNode
from etl.reader.rules import Rule, add, plain, same_arguments


def _rename_params(op: Any, selector: Any) -> dict[str, Any]:
    # A function has no JSON form; the names it made are those of the node's outputs.
    return {} if op.f else {name: getattr(op, name) for name in ("postfix", "name") if getattr(op, name) is not None}


def _make_rename(ops: Any, node: OpNode) -> Any:
    if node.params:
        return same_arguments(ops, node)
    names = {ref.column: column.name for ref, column in zip(node.inputs, node.outputs, strict=True)}
    return ops.Rename(f=names.__getitem__)


def _metadata(op: Any, selector: Any) -> dict[str, Any]:
    return {"tags": sorted(str(plain(tag)) for tag in op.tags), "properties": plain(op.properties)}


add("AddMetadata", Rule(_metadata, same_arguments))
add("Rename", Rule(_rename_params, _make_rename))

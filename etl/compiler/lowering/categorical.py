"""Categorify (0 padding, 1 null, 2 .. 1+B unknown, then the vocabulary), HashBucket and HashedCross."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from etl.compiler.arithmetic import Add, Mod
from etl.compiler.expr import Cast, Const, Expr, Hash, Refusal
from etl.compiler.lowering import RULES, Refusals, per_column
from etl.compiler.lowering.keys import crossed, encode
from etl.compiler.tables import HashCode
from etl.dtypes import is_float
from etl.graph import OpNode
from etl.operators.categorical import (
    FIRST,
    buckets_of,
    first_code,
    is_strict,
    key_columns,
    option_of,
    parts_of,
    vocabulary_of,
)

NULL, UNKNOWN = 1, FIRST


@RULES.register("Categorify")
def categorify(node: OpNode, inputs: Mapping[str, Expr]) -> dict[str, Expr]:
    """Each output on its own: a column by the vocabulary of its group, or a group of columns combined."""
    if node.params.get("single_table") and not is_strict(node):
        reason = "single_table=True: in NVTabular it gives null and unknown the codes of real categories."
        raise Refusal(reason, "Use single_table=False, or read the workflow with strict_nvtabular=True.")
    lowered: dict[str, Expr] = {}
    refusals = []
    for output in node.outputs:
        parts = parts_of(node, output.name)
        if not all(part in inputs for part in parts):
            continue
        try:
            lowered[output.name] = _encode(node, output.name, [inputs[part] for part in parts])
        except Refusal as refusal:
            refusal.columns = refusal.columns or tuple(parts)
            refusals.append(refusal)
    if refusals:
        raise Refusals(refusals, lowered)
    return lowered


def _encode(node: OpNode, output: str, parts: list[Expr]) -> Expr:
    """The row in the vocabulary + 2 + B; unknown values share code 2, or spread over B codes by a hash."""
    table = (node.state or {}).get(vocabulary_of(node, output))
    if table is None:
        raise Refusal("it is not fitted.", "Fit the graph first.")
    if len(parts) > 1 and any(part.type.is_list for part in parts):
        raise Refusal("lists cannot be combined.", 'Combine scalar columns, or use encode_type="joint".')
    first, buckets = first_code(node, output), buckets_of(node, output)
    null, unknown = NULL, UNKNOWN
    if is_strict(node) and node.params.get("single_table"):
        null, unknown = first, first + 1
    if is_strict(node) and parts[0].type.is_list:
        null = unknown
    keys = [table.get_column(name) for name in key_columns(parts_of(node, output))]
    codes = np.arange(first, first + table.height, dtype=np.int64)
    if "active" in table.columns:  # tombstones keep their row, so that no code moves, and are unknown
        active = table.get_column("active")
        keys, codes = [key.filter(active) for key in keys], codes[active.to_numpy()]
    code = encode(parts, keys, codes, null, _unknown(parts, buckets, unknown))
    out = str(np.dtype(node.params.get("dtype") or "int64"))
    _refuse_overflow(out, first + table.height - 1)
    return code if out == "int64" else Cast(code, out)


def _unknown(parts: list[Expr], buckets: int, first: int) -> Expr:
    """Return the code of what no vocabulary has."""
    if buckets == 1:
        return Const(first, "int64")
    if len(parts) == 1 and not is_float(parts[0].type.dtype):  # Hash does not know that -0.0 is 0.0
        return Hash(parts[0], buckets, first)
    return Add(Mod(crossed(parts), Const(buckets, "int64")), Const(first, "int64"))


def _refuse_overflow(dtype: str, last: int) -> None:
    largest = 2 ** (np.finfo(dtype).nmant + 1) if is_float(dtype) else np.iinfo(dtype).max
    if last > largest:
        raise Refusal(f"its codes go up to {last}, which dtype {dtype} does not hold.", 'Use dtype="int64".')


@RULES.register("HashBucket")
@per_column
def hash_bucket(node: OpNode, column: str, x: Expr) -> Expr:
    """HashCode(x) mod the buckets, int32; a null is hashed as the value that means null in a request."""
    return Cast(Mod(HashCode(x), Const(_buckets(node, column), "int64")), "int32")


@RULES.register("HashedCross")
def hashed_cross(node: OpNode, inputs: Mapping[str, Expr]) -> dict[str, Expr]:
    """The hash of all columns in their order (see `crossed`) mod the buckets, int32."""
    names = [ref.column for ref in node.inputs]
    if not all(name in inputs for name in names):
        return {}
    if any(inputs[name].type.is_list for name in names):
        raise Refusal("lists cannot be crossed.", "Cross scalar columns.")
    if len(node.outputs) != 1:
        raise Refusal(f"it makes {len(node.outputs)} columns, not one.", "Read the workflow again.")
    (output,) = node.outputs
    buckets = Const(_buckets(node, output.name), "int64")
    return {output.name: Cast(Mod(crossed([inputs[name] for name in names]), buckets), "int32")}


def _buckets(node: OpNode, column: str) -> int:
    buckets = option_of(node, "num_buckets", column)
    if not 1 <= buckets <= np.iinfo("int32").max:
        raise Refusal(f"num_buckets of {column!r} is {buckets}.", "Give a number from 1 to 2**31 - 1.")
    return buckets

"""LambdaOp whose function runs as Python, in batch."""

from __future__ import annotations

from collections.abc import Mapping

from etl.compiler import bridge
from etl.compiler.arithmetic import Python
from etl.compiler.expr import Expr, Refusal
from etl.graph import OpNode


def bridged(node: OpNode, inputs: Mapping[str, Expr]) -> dict[str, Expr]:
    """Each output as the function makes it of the column of its name and all inputs."""
    key = node.params["python"]
    if not isinstance(key, str):
        raise Refusal("the key of its function is not a text.", "Read the workflow again.")
    bridge.function(key)
    columns = tuple(inputs.items())
    return {column.name: Python(column.name, columns, key, column.dtype) for column in node.outputs}

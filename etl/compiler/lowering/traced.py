"""LambdaOp: a traced function's tree (etl/operators/traced.py) in primitives, its types as NumPy decides for pandas."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from etl.compiler import arithmetic as a
from etl.compiler.expr import Const, Expr, Refusal, bounded
from etl.compiler.lowering import RULES, Refusals
from etl.compiler.traced import conditions, dates, numbers, values
from etl.compiler.traced.values import Fixed, Found, Span
from etl.errors import ConfigError
from etl.graph import OpNode
from etl.operators.traced import CALLS, Tree, checked


@RULES.register("LambdaOp")
def lambda_op(node: OpNode, inputs: Mapping[str, Expr]) -> dict[str, Expr]:
    """Each output's tree; a function that runs as Python has none."""
    if "python" in node.params:
        from etl.compiler.lowering.bridged import bridged

        return bridged(node, inputs)
    trees = node.params.get("columns", {})
    lowered: dict[str, Expr] = {}
    refusals = []
    for column in node.outputs:
        if column.name not in trees:
            refusals.append(Refusal("its function was not recorded.", "Read the workflow again.", (column.name,)))
            continue
        try:
            lowered[column.name] = lower_tree(trees[column.name], inputs)
        except Refusal as refusal:
            refusal.columns = (column.name,)
            refusals.append(refusal)
    if refusals:
        raise Refusals(refusals, lowered)
    return lowered


def lower_tree(tree: Tree, inputs: Mapping[str, Expr]) -> Expr:
    """Return a tree over `inputs` as an Expr; Refusal if it is none, or of types that do not go together."""
    try:
        found = _lower(checked(tree), inputs)
    except ConfigError as error:
        raise Refusal(str(error), "Read the workflow again.") from error
    if isinstance(found, Span):
        raise Refusal("its result is a time between two.", "End it with .dt.days or .dt.total_seconds().")
    if isinstance(found, Fixed):
        raise Refusal("its result is a constant.", "Make it from its columns.")
    if not _has_rows(found):
        raise Refusal("its result is a constant.", "Make it from its columns.")
    return found


def _has_rows(expr: Expr) -> bool:
    return (not expr.parts and not isinstance(expr, Const | a.Null)) or any(_has_rows(part) for part in expr.parts)


def _lower(tree: Tree, inputs: Mapping[str, Expr]) -> Found:
    name, parts = tree[0], tree[1:]
    if name == "column":
        return _column(parts[0], inputs)
    if name == "value":
        value = parts[0]
        return Fixed(float(value["float"]) if isinstance(value, dict) else value)
    if name in ("moment", "span"):
        return Fixed(parts[0], name)
    count = CALLS[name][0]
    found = _RULES[name](*(_lower(part, inputs) for part in parts[:count]), *parts[count:])
    bounded(found.x if isinstance(found, Span) else found) if not isinstance(found, Fixed) else None
    return found


def _column(name: str, inputs: Mapping[str, Expr]) -> Expr:
    if name not in inputs:
        raise Refusal(
            f"its function reads the column {name!r}, which is not one of its own.", "Name it in `dependency`."
        )
    if inputs[name].type.is_list:
        raise Refusal("its function computes with a list.", "Compute it before the features, or use ListSlice.")
    return inputs[name]


_RULES: dict[str, Callable[..., Found]] = {
    "add": numbers.add,
    "sub": numbers.sub,
    "mul": numbers.mul,
    "div": numbers.div,
    "floordiv": numbers.whole_division(a.FloorDiv, "Use np.floor(x / y)."),
    "mod": numbers.whole_division(a.Mod, "Use x - y * np.floor(x / y)."),
    "pow": numbers.pow,
    "neg": numbers.neg,
    "minimum": conditions.extreme("lt"),
    "maximum": conditions.extreme("gt"),
    **{op: conditions.compare(op) for op in a.COMPARISONS},
    "and": lambda x, y: a.And(values.truth(x), values.truth(y)),
    "or": lambda x, y: a.Or(values.truth(x), values.truth(y)),
    "xor": conditions.xor,
    "not": lambda x: a.Not(values.truth(x)),
    "isna": conditions.is_missing,
    "isnan": conditions.is_nan,
    "isinf": conditions.is_inf,
    "isin": conditions.is_in,
    "where": conditions.where,
    "fillna": conditions.fill,
    "clip": conditions.clip,
    **{name: numbers.of_any_number(name) for name in ("abs", "sign", "floor", "ceil", "rint")},
    **{name: numbers.function(name) for name in ("exp", "log", "sqrt", "sin", "cos", "tan", "tanh")},
    "log1p": numbers.log1p,
    "expm1": numbers.expm1,
    "log2": numbers.log_of(2),
    "log10": numbers.log_of(10),
    "square": numbers.square,
    "round": numbers.round,
    "astype": numbers.astype,
    "date": dates.date,
    "text": dates.text,
}

"""Which of NVTabular's operators run where, from the registries that run them; docs/operators.md is made from this."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# nvtabular.ops of 23.08; a test compares it with the package, which takes seconds to import.
OPERATORS = (
    *("AddMetadata", "AddProperties", "AddTags", "Bucketize", "Categorify", "Clip", "ColumnSimilarity", "DataStats"),
    *("DifferenceLag", "DropLowCardinality", "Dropna", "FillMedian", "FillMissing", "Filter", "Groupby", "HashBucket"),
    *("HashedCross", "JoinExternal", "JoinGroupby", "LambdaOp", "ListSlice", "LogOp", "Normalize", "NormalizeMinMax"),
    *("ReduceDtypeSize", "Rename", "TagAsItemFeatures", "TagAsItemID", "TagAsUserFeatures", "TagAsUserID"),
    *("TargetEncoding", "ValueCount"),
)
_CLASS = {"LambdaOp": "UDF"}
"""What an operator's class is called where that is not its public name."""

COMMAND = "mews operators --write docs/operators.md"


@dataclass(frozen=True)
class Support:
    """One operator: whether a graph can hold it, what runs it, and why not; `summary` says what it does."""

    name: str
    polars: bool
    onnx: bool
    summary: str
    reason: str


def matrix() -> list[Support]:
    """Return the support of every public operator of NVTabular, by name."""
    return [_support(name) for name in OPERATORS]


def _support(name: str) -> Support:
    from etl.compiler import relational
    from etl.compiler.lowering import RULES as LOWERED
    from etl.operators import TAGGING, facts
    from etl.reader.rules import RULES as READ

    ours = "AddMetadata" if name in TAGGING else name
    ours = next((known for known in (ours, _CLASS.get(name, ours)) if known in READ), ours)
    about = facts(ours)
    keeps = about.rows == "keeps"
    if ours not in READ:
        return Support(name, False, False, about.summary, "not read: no rule for it")
    polars = ours in (LOWERED if keeps else relational.RULES)
    onnx = polars and keeps
    if not polars:
        reason = "read, but not compiled: no rule for it"
    elif not keeps:
        reason = "it changes which rows there are, and a request's rows must all be answered"
    else:
        reason = ""
    return Support(name, polars, onnx, about.summary, reason)


def markdown() -> str:
    """Return docs/operators.md: the matrix, and what is computed otherwise than by NVTabular."""
    from etl.compiler.differences import DIFFERENCES

    found = matrix()
    both = sum(one.onnx for one in found)
    batch = sum(one.polars for one in found)
    rows = [(f"`{one.name}`", _mark(one.polars), _mark(one.onnx), _sentence(one.summary, one.reason)) for one in found]
    differences = [(f"`{one.id}`", one.operator, one.nvtabular, one.mews, one.why) for one in DIFFERENCES]
    return "\n".join(
        [
            "# Operators",
            "",
            f"Made by `{COMMAND}` from the registries; a test compares it with them.",
            "",
            f"Of the {len(found)} public operators of NVTabular 23.08, {batch} run in batch (Polars) and {both} can be",
            "served too (ONNX). An operator that is marked may still refuse an option or a type: compiling a graph",
            "lists every refusal with its reason, and `mews explain` shows them beside the graph.",
            "",
            *_table(("operator", "Polars", "ONNX", "what it does, and what is in the way"), rows),
            "",
            "## Where Mews differs from NVTabular",
            "",
            "On purpose, and each row has a test (`tests/conformance/test_differences.py`).",
            "",
            *_table(("id", "operator", "NVTabular 23.08 on the CPU", "Mews", "why"), differences),
            "",
        ]
    )


def _mark(supported: bool) -> str:
    return "yes" if supported else "-"


def _sentence(summary: str, reason: str) -> str:
    said = f"{reason[0].upper()}{reason[1:]}." if reason else ""
    return f"{summary} {said}".strip()


def _table(headers: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return a Markdown table; a bar in a cell is escaped."""
    listed = [list(headers)]
    lines = [listed[0], ["---"] * len(listed[0]), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]

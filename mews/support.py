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
PLUMBING = {
    "SelectionOp": '`["a", "b"]`, a tag, `ColumnSelector`: which columns.',
    "ConcatColumns": "`x + y`: the columns of both.",
    "SubtractionOp": '`x - ["a"]`: without some columns.',
    "SubsetColumns": '`x["a"]`: some columns.',
    "GroupingOp": '`[["a", "b"]]`: columns that belong together.',
    "Subgraph": "A named part of a graph; `loop_until` is refused.",
}
"""What merlin.dag has beside operators: no rows are computed by it, so nothing of it is left in a compiled graph."""

_BATCH_ONLY = {"DifferenceLag": "it looks at other rows than its own, and a request has only some"}
_NOTES = {
    "Categorify": "`num_buckets` hashes as Mews does, not as pandas or cuDF.",
    "ColumnSimilarity": "Features are put into the graph.",
    "Filter": "Comparisons of columns are recorded; other functions are refused.",
    "HashBucket": "The hash is Mews' own, not pandas' or cuDF's.",
    "HashedCross": "The hash is Mews' own, not pandas' or cuDF's.",
    "JoinExternal": "A left join with every key once; the table is put into the graph.",
    "LambdaOp": "The function is recorded: arithmetic, comparisons, NumPy's functions, dates, text (in batch only). "
    "Others run as Python, in batch only, with `read(workflow, bridge_lambdas=True)`.",
    "ListSlice": "A list that is served must end with `pad=True`.",
    "TargetEncoding": "With `kfold` a training row is encoded without its own fold, all others by all rows.",
}
"""What a newcomer should know before trying; a compile says the rest."""

COMMAND = "mews operators --write docs/operators.md"


@dataclass(frozen=True)
class Support:
    """One operator: whether a graph can hold it, what runs it, and why not; `summary` says what it does.

    `saved` says where it can be read from beside a live workflow: "pickle" and "json" are NVTabular's folders.
    """

    name: str
    polars: bool
    onnx: bool
    summary: str
    reason: str
    saved: tuple[str, ...] = ()
    note: str = ""


def matrix() -> list[Support]:
    """Return the support of every public operator of NVTabular, by name."""
    return [_support(name) for name in OPERATORS]


def _support(name: str) -> Support:
    from etl.compiler import relational
    from etl.compiler.lowering import RULES as LOWERED
    from etl.operators import TAGGING, facts
    from etl.reader.rules import RULES as READ

    ours = "AddMetadata" if name in TAGGING else name
    about, summary = facts(ours), facts(name).summary
    keeps = about.rows == "keeps"
    if ours not in READ:
        return Support(name, False, False, summary, "not read: no rule for it")
    polars = ours in (LOWERED if keeps else relational.RULES)
    if not polars:
        reason = "read, but not compiled: no rule for it"
    elif not keeps:
        reason = "it changes which rows there are, and a request's rows must all be answered"
    else:
        reason = _BATCH_ONLY.get(ours, "")
    return Support(name, polars, polars and not reason, summary, reason, _saved(ours), _NOTES.get(ours, ""))


def _saved(name: str) -> tuple[str, ...]:
    from etl.reader.saved.graph_json import FUNCTIONS
    from etl.reader.saved.json_operators import ARGUMENTS

    if name in FUNCTIONS:
        return ()
    return ("pickle", "json") if name in ARGUMENTS else ("pickle",)


def markdown() -> str:
    """Return docs/operators.md: the matrix, and what is computed otherwise than by NVTabular."""
    from etl.compiler.differences import DIFFERENCES

    found = matrix()
    both = sum(one.onnx for one in found)
    batch = sum(one.polars for one in found)
    rows = [
        (f"`{one.name}`", _mark(one.polars), _mark(one.onnx), ", ".join(one.saved) or "-", _sentence(one))
        for one in found
    ]
    plumbing = [(f"`{name}`", said) for name, said in PLUMBING.items()]
    differences = [(f"`{d.id}`", d.operator, d.nvtabular, d.mews, d.why, d.strict) for d in DIFFERENCES]
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
            "All are read from a live workflow (`file.py:function`); the column *saved* says from which folders of",
            "`Workflow.save` too: a pickle (23.08, with `--trust-pickle`) or `graph.json` (later versions, which hold",
            "fewer operators). Python functions are never run from a folder.",
            "",
            *_table(("operator", "Polars", "ONNX", "saved", "what it does, and what is in the way"), rows),
            "",
            "What merlin.dag has beside operators is read, and nothing of it is left to compute:",
            "",
            *_table(("merlin.dag", "what it says"), plumbing),
            "",
            "## Where Mews differs from NVTabular",
            "",
            "On purpose, and each row has a test (`tests/conformance/test_differences*.py`). `mews compile --strict`",
            "and `read(workflow, strict_nvtabular=True)` repeat what can be repeated, as the last column says.",
            "",
            *_table(("id", "operator", "NVTabular 23.08 on the CPU", "Mews", "why", "strict"), differences),
            "",
        ]
    )


def _mark(supported: bool) -> str:
    return "yes" if supported else "-"


def _sentence(one: Support) -> str:
    said = f"{one.reason[0].upper()}{one.reason[1:]}." if one.reason else ""
    return " ".join(part for part in (one.summary, one.note, said) if part)


def _table(headers: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return a Markdown table; a bar in a cell is escaped."""
    listed = [list(headers)]
    lines = [listed[0], ["---"] * len(listed[0]), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]

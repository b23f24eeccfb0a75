"""`mews compile`, `mews explain`, `mews operators`: for people who bring their own workflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mews.commands.groups import app
from mews.session import Session, columns, command

if TYPE_CHECKING:
    from etl.graph import FeatureGraph

_Workflow = Annotated[
    str, typer.Argument(help="A saved workflow (a folder of Mews or NVTabular), or file.py:function.")
]
_Trust = Annotated[bool, typer.Option("--trust-pickle", help="Read NVTabular's workflow.pkl, whose origin you know.")]
_Data = Annotated[
    Path | None, typer.Option("--data", help="A Parquet file with the raw columns, for a workflow without their types.")
]


@app.command("compile")
@command
def compile_(
    session: Session,
    workflow: _Workflow,
    to: Annotated[str, typer.Option("--to", help="onnx (serving) or polars (batch).")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    trust_pickle: _Trust = False,
    data: _Data = None,
    strict: Annotated[bool, typer.Option("--strict", help="Repeat NVTabular's faults where that is possible.")] = False,
    requests: Annotated[
        Path | None,
        typer.Option("--requests", help="How raw columns arrive (YAML; docs/requests.md); else export.requests."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a folder that this command wrote.")] = False,
) -> Any:
    """Compile a fitted workflow to ONNX or Polars, with a description of its columns."""
    from mews import compiled
    from mews.request_forms import forms_of

    forms = forms_of(session, requests)
    graph = _load(session, workflow, trust_pickle, data, strict)
    graph = compiled.strict(graph) if strict else graph
    existed = out.exists()
    names = compiled.write(graph, to, out, replace, forms)
    session.terminal.line(f"{'replaced' if existed else 'wrote'} {out}: {', '.join(names)}")
    return {"out": str(out), "target": to, "files": names, "fingerprint": graph.fingerprint}


@app.command()
@command
def explain(
    session: Session,
    workflow: _Workflow,
    svg: Annotated[Path | None, typer.Option("--svg", help="Also draw the graph to this file.")] = None,
    trust_pickle: _Trust = False,
    data: _Data = None,
) -> Any:
    """Show a workflow's operators, what each becomes and holds, and what cannot be served."""
    from mews.explain import as_json, lines_of, rows_of
    from mews.explain import explain as explained

    graph = _load(session, workflow, trust_pickle, data)
    found = explained(graph)
    headers = ("operator", "reads", "makes", "primitives", "state", "rows", "served")
    session.terminal.line(columns(rows_of(found), *headers))
    for line in lines_of(graph, found):
        session.terminal.line(line)
    if svg is not None:
        from etl.atomic import write_text
        from mews.picture import picture

        existed = svg.exists()
        write_text(svg, picture(graph, found))
        session.terminal.line(f"{'replaced' if existed else 'wrote'} {svg}")
    return as_json(graph, found)


@app.command()
@command
def operators(
    session: Session,
    check: Annotated[Path | None, typer.Option("--check", help="Fail unless this file is what --write writes.")] = None,
    write: Annotated[Path | None, typer.Option("--write", help="Write the table as Markdown to this file.")] = None,
) -> Any:
    """List NVTabular's operators: which run in batch, which can be served, and why not."""
    from etl.atomic import write_text
    from etl.errors import ConfigError
    from mews import support

    if check is not None and (not check.is_file() or check.read_text(encoding="utf-8") != support.markdown()):
        raise ConfigError(f"{check}", expected="what the registries say", hint=f"Run {support.COMMAND}.")
    if write is not None:
        write_text(write, support.markdown())
    found = support.matrix()
    rows = [[one.name, _mark(one.polars), _mark(one.onnx), one.reason or one.summary] for one in found]
    session.terminal.line(columns(rows, "operator", "Polars", "ONNX", ""))
    return [vars(one) for one in found]


def _mark(supported: bool) -> str:
    return "yes" if supported else "no"


def _load(session: Session, workflow: str, trust_pickle: bool, data: Path | None, strict: bool = False) -> FeatureGraph:
    from etl.dtypes import from_polars
    from etl.graph import Column
    from etl.inputs import Input
    from etl.reader.saved import load_workflow

    kinds = {} if data is None else Input(str(data)).schema()
    found = [Column(name, *from_polars(kind)) for name, kind in kinds.items()] or None
    return load_workflow(workflow, trust_pickle, found, session.terminal.warn, strict)

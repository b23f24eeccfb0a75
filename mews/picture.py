"""A feature graph as an SVG file of its own: layers from left to right, readable on light and on dark pages."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from mews.explain import Explanation
from mews.report.diagram import Flow, Step, draw, flow

if TYPE_CHECKING:
    from etl.graph import FeatureGraph

_LAYER, _LEAST = 214.0, 640.0
_STYLE = """<style>
svg { --ink: #1b1f24; --soft: #5a636e; --rule: #c3c8ce; --line: #8b949e; --page: #ffffff;
  --raw: #eef2f6; --op: #e3eef7; --out: #e2f1ec; --bad: #b3261e; background: var(--page); }
@media (prefers-color-scheme: dark) { svg { --ink: #e7e9ec; --soft: #9da7b2; --rule: #3a424b; --line: #77818c;
  --page: #14181d; --raw: #242a31; --op: #1d3446; --out: #1b3a32; --bad: #ff8a80; } }
text { font: 12px "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; fill: var(--ink); }
text.label { fill: var(--soft); }
.edge { fill: none; stroke: var(--line); stroke-opacity: 0.6; }
.box { stroke: var(--rule); } .raw { fill: var(--raw); } .op { fill: var(--op); } .out { fill: var(--out); }
.refused { stroke: var(--bad); stroke-dasharray: 4 3; }
.hit { fill: transparent; }
</style>"""
_TIP = re.compile(r' data-tip="([^"]*)"></rect>')
_MARGIN = 16


def picture(graph: FeatureGraph, found: Explanation) -> str:
    """Return the SVG; an operator that cannot be served has a dashed outline, and its tip says why."""
    from etl.graph import describe

    refused = {one.id: one.obstacles for one in found.operators if one.obstacles}
    laid = flow(describe(graph), {column.name: asdict(column) for column in graph.output_columns})
    laid = Flow(tuple(_marked(step, refused) for step in laid.steps), laid.chains)
    layers = 1 + max((step.layer for step in laid.steps), default=0)
    text = str(draw(laid, max(_LEAST, layers * _LAYER)))
    # A file has no script that shows tips: the browser shows titles.
    text = _TIP.sub(r"><title>\1</title></rect>", text)
    return _with_margin(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def _marked(step: Step, refused: dict[str, tuple[str, ...]]) -> Step:
    if step.kind != "op" or step.key[1] not in refused:
        return step
    reasons = "\n".join(f"not served: {reason}" for reason in refused[step.key[1]])
    return replace(step, kind="op refused", tip=f"{step.tip}\n{reasons}")


def _with_margin(text: str) -> str:
    """Return the SVG with its style, and room around the drawing."""
    size = re.search(r'viewBox="0 0 (\S+) (\S+)" width="[^"]*" height="[^"]*"', text)
    assert size is not None
    width, height = float(size[1]) + 2 * _MARGIN, float(size[2]) + 2 * _MARGIN
    shown = f'viewBox="{-_MARGIN} {-_MARGIN} {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    head, _, rest = text.replace(size[0], shown, 1).partition(">")
    return f"{head}>{_STYLE}{rest}\n"

"""The feature graph as a picture: raw columns on the left, operators in the middle, features on the right."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from markupsafe import Markup

from mews.report.data import Json, records
from mews.report.numbers import number
from mews.report.svg import element, figure, line, shorten, text

INPUT = "input"
_ROW, _BOX, _TOP = 30.0, 22.0, 28.0
_LONG = 12


@dataclass(frozen=True)
class Step:
    """An operator of the graph, or a column at either end; `tip` says more than fits in its box."""

    key: tuple[str, str]
    label: str
    kind: str
    layer: int
    tip: str
    before: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Flow:
    """The steps of a graph, left to right, and every feature's way as text (for narrow screens and screen readers)."""

    steps: tuple[Step, ...]
    chains: tuple[tuple[str, tuple[str, ...], str], ...]


@dataclass
class _Builder:
    """Walks graph.json once; every column Ref is (node id, column name)."""

    raw: list[str] = field(default_factory=list)
    maker: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    layer: dict[tuple[str, str], int] = field(default_factory=dict)
    chain: dict[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def add_input(self, column: Json) -> None:
        name = str(column.get("name", ""))
        ref = (INPUT, name)
        self.maker[ref], self.layer[ref], self.chain[ref] = ref, 0, ((name,), ())
        self.steps.append(Step(ref, name, "raw", 0, f"raw column {name}: {dtype_text(column)}"))

    def add_node(self, node: Json) -> None:
        refs = [ref for ref in _refs(node.get("inputs")) if ref in self.maker]
        before = tuple(dict.fromkeys(self.maker[ref] for ref in refs))
        key = ("node", str(node.get("id", "")))
        self.layer[key] = 1 + max((self.layer[step] for step in before), default=0)
        outputs = [str(column.get("name", "")) for column in records(node.get("outputs"))]
        op = str(node.get("op", ""))
        label = op if len(outputs) == 1 else f"{op} × {len(outputs)}"
        tip = "\n".join([op, _listed(outputs), *_params(node.get("params"))])
        self.steps.append(Step(key, label, "op", self.layer[key], tip, before))
        for index, name in enumerate(outputs):
            sources = _sources(refs, outputs, index)
            roots = tuple(dict.fromkeys(root for ref in sources for root in self.chain[ref][0]))
            passed = max((self.chain[ref][1] for ref in sources), key=len, default=())
            ref = (key[1], name)
            self.maker[ref], self.chain[ref] = key, (roots, (*passed, op))


def flow(graph: Json, features: Mapping[str, Json]) -> Flow:
    """Lay out the graph of a graph.json; `features` are the columns of features.json by name (cardinalities, tags)."""
    builder = _Builder()
    for column in records(graph.get("inputs")):
        builder.add_input(column)
    for node in records(graph.get("nodes")):
        builder.add_node(node)
    outputs = [ref for ref in _refs(graph.get("outputs")) if ref in builder.maker]
    last = 1 + max((builder.layer[builder.maker[ref]] for ref in outputs), default=0)
    steps, chains = list(builder.steps), []
    for ref in outputs:
        column = features.get(ref[1], {})
        size = column.get("cardinality")
        sized = f"{ref[1]} · {size:,}" if isinstance(size, int) else ref[1]
        tip = f"feature {ref[1]}: {dtype_text(column)}" + (f"\n{size:,} codes" if isinstance(size, int) else "")
        steps.append(Step(("output", ref[1]), sized, "out", last, tip, (builder.maker[ref],)))
        roots, ops = builder.chain[ref]
        chains.append((", ".join(roots), ops, ref[1]))
    return Flow(tuple(steps), tuple(chains))


def draw(found: Flow, width: float) -> Markup:
    """The picture in `width` pixels; its height follows the fullest layer."""
    layers = _ordered(_routed(found.steps))
    height = _TOP + max(len(layer) for layer in layers) * _ROW
    pitch = width / len(layers)
    box = min(176.0, pitch - 34)
    places: dict[tuple[str, str], tuple[float, float]] = {}
    for index, layer in enumerate(layers):
        shift = (width - box) * index / max(1, len(layers) - 1)
        room = (height - _TOP) / len(layer)
        places |= {step.key: (shift, _TOP + room * (row + 0.5)) for row, step in enumerate(layer)}
    steps = [step for layer in layers for step in layer]
    edges = [_edge(places[key], places[step.key], box) for step in steps for key in step.before]
    heads = [
        text(0, 12, "Raw columns", css="label"),
        text(width / 2, 12, "Operators", anchor="middle", css="label"),
        text(width, 12, "Features · codes", anchor="end", css="label"),
    ]
    told = "; ".join(f"{roots} through {', '.join(ops) or 'nothing'} to {name}" for roots, ops, name in found.chains)
    boxes = [_box(step, places[step.key], box) for step in steps]
    return figure(width, height, f"Feature graph. {told}", *heads, element("g", *edges), *boxes)


def _routed(steps: Sequence[Step]) -> list[Step]:
    """The steps with a stop in every layer that a connection crosses, so that lines go between the boxes.

    All connections from one step share their stops.
    """
    layer = {step.key: step.layer for step in steps}
    stops: dict[tuple[str, str], Step] = {}
    routed = []
    for step in steps:
        before = []
        for key in step.before:
            last = key
            for level in range(layer[key] + 1, step.layer):
                stop = (f"{key} in layer", str(level))
                stops.setdefault(stop, Step(stop, "", "stop", level, "", (last,)))
                last = stop
            before.append(last)
        routed.append(replace(step, before=tuple(before)))
    return [*routed, *stops.values()]


def _ordered(steps: Sequence[Step]) -> list[list[Step]]:
    """Steps by layer, each layer in the order of the middle of what it reads, so that few lines cross."""
    layers = [[step for step in steps if step.layer == index] for index in range(1 + max(step.layer for step in steps))]
    follow: dict[tuple[str, str], list[float]] = {}
    for layer in reversed(layers):
        for row, step in enumerate(layer):
            for key in step.before:
                follow.setdefault(key, []).append(row / len(layer))
    rank: dict[tuple[str, str], float] = {}
    for layer in layers:
        layer.sort(
            key=lambda step: (_middle([rank[key] for key in step.before] or follow.get(step.key, [])), step.label)
        )
        rank |= {step.key: (row + 0.5) / len(layer) for row, step in enumerate(layer)}
    return [layer for layer in layers if layer]


def _middle(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.inf


def _edge(start: tuple[float, float], end: tuple[float, float], box: float) -> Markup:
    (x1, y1), (x2, y2) = (start[0] + box, start[1]), end
    bend = (x2 - x1) / 2
    return element(
        "path",
        d=f"M{x1:.1f},{y1:.1f}C{x1 + bend:.1f},{y1:.1f} {x2 - bend:.1f},{y2:.1f} {x2:.1f},{y2:.1f}",
        class_="edge",
    )


def _box(step: Step, at: tuple[float, float], width: float) -> Markup:
    x, y = at
    if step.kind == "stop":
        return line(x, y, x + width, y, "edge")
    return element(
        "g",
        element("rect", x=x, y=y - _BOX / 2, width=width, height=_BOX, rx=4.0, class_=f"box {step.kind}"),
        text(x + width / 2, y + 4, shorten(step.label, width - 8), anchor="middle"),
        element("rect", x=x, y=y - _BOX / 2, width=width, height=_BOX, class_="hit", data_tip=step.tip),
    )


def _refs(value: Any) -> list[tuple[str, str]]:
    """References of graph.json: [node, column] pairs."""
    listed = value if isinstance(value, list) else []
    return [(str(ref[0]), str(ref[1])) for ref in listed if isinstance(ref, list) and len(ref) == 2]


def _sources(refs: Sequence[tuple[str, str]], outputs: Sequence[str], index: int) -> Sequence[tuple[str, str]]:
    """The inputs that output `index` is made from: the one at its place, else those of its name, else all."""
    if len(refs) == len(outputs):
        return [refs[index]]
    return [ref for ref in refs if outputs[index] in (ref[1], f"{ref[1]}_filled")] or refs


def dtype_text(column: Json) -> str:
    """The type of a column of graph.json or features.json, lists said in words."""
    dtype = str(column.get("dtype", ""))
    if not column.get("is_list") and column.get("length") is None:
        return dtype
    length = number(column.get("length"))
    return f"list of {length:g} {dtype}" if length else f"list of {dtype}"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _LONG} more" if len(names) > _LONG else ""
    return ", ".join(names[:_LONG]) + more


def _params(value: Any) -> list[str]:
    shown = value.items() if isinstance(value, dict) else ()
    return [shorten(f"{name} = {found}", 400) for name, found in shown if found is not None]

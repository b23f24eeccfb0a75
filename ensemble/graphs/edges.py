"""The names in a graph: who reads them, and how they are changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx


def reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, those of its subgraphs (If, Loop) included."""
    names = set(node.input)
    for graph in subgraphs(node):
        for inner in graph.node:
            names |= reads(inner)
        names |= {value.name for value in graph.output}
    return names


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs in a node's attributes."""
    for attribute in node.attribute:
        yield from (attribute.g, *attribute.graphs)


def every_node(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of all graphs in it."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from every_node(inner)


def rename(graph: onnx.GraphProto, named: Callable[[str], str]) -> None:
    """Rename every tensor and node in place, in subgraphs too; the empty name, an input left out, stays."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = named(value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = named(sparse.values.name)
    for node in graph.node:
        node.name = named(node.name) if node.name else ""
        node.input[:] = [named(name) if name else "" for name in node.input]
        node.output[:] = [named(name) if name else "" for name in node.output]
        for inner in subgraphs(node):
            rename(inner, named)


def needed_for(graph: onnx.GraphProto, names: set[str], given: set[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """Return the nodes that make `names` from `given` and constants, in order, and every name that they read."""
    needed, nodes = set(names), []
    for node in reversed(graph.node):
        if (needed - given) & set(node.output):
            nodes.append(node)
            needed |= reads(node)
    nodes.reverse()
    return nodes, needed

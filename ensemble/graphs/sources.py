"""What the tensors of a graph are made from: which inputs, and whether weights take part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import onnx

from ensemble.graphs.edges import reads

# A table is looked up, a matrix multiplied; what else has weights (biases, scales) comes after one of those.
_WEIGHTED = {"Gather": 0, "MatMul": 1, "Gemm": 1}
_MATRIX = ("MatMul", "Gemm")
_SAME_VALUES = ("Unsqueeze", "Squeeze", "Reshape", "Flatten", "Identity")


@dataclass(frozen=True)
class Sources:
    """A graph with, for each of its tensors, the inputs that it depends on; constants depend on none."""

    graph: onnx.GraphProto

    @cached_property
    def inputs(self) -> dict[str, frozenset[str]]:
        """The inputs behind each tensor."""
        found = {value.name: frozenset([value.name]) for value in self.graph.input}
        for node in self.graph.node:
            none: frozenset[str] = frozenset()
            found |= dict.fromkeys(node.output, none.union(*(found.get(name, none) for name in reads(node))))
        return found

    @cached_property
    def weighted(self) -> frozenset[str]:
        """Tensors that a table or a matrix of weights takes part in."""
        return self._weighted(tuple(_WEIGHTED))

    @cached_property
    def multiplied(self) -> frozenset[str]:
        """Tensors that a matrix of weights takes part in, not only an embedding table."""
        return self._weighted(_MATRIX)

    def _weighted(self, operators: tuple[str, ...]) -> frozenset[str]:
        found: set[str] = set()
        for node in self.graph.node:
            own = node.op_type in operators and self._has_weights(node)
            if own or found & reads(node):
                found |= set(node.output)
        return frozenset(found)

    def _has_weights(self, node: onnx.NodeProto) -> bool:
        """Whether the operand that would be the weights depends on no input."""
        place = _WEIGHTED[node.op_type]
        return len(node.input) > place and not self.inputs.get(node.input[place])

    def frontier(self, group: frozenset[str]) -> list[str]:
        """Return the tensors made with weights from inputs in `group` alone that something else reads, in order.

        Instead of one that was only reshaped it is what was: who reads it can reshape it too.
        """
        inside = {name for name, behind in self.inputs.items() if behind and behind <= group and name in self.weighted}
        outputs = {value.name for value in self.graph.output}
        taken = {name for node in self.graph.node if not inside & set(node.output) for name in reads(node)}
        found = inside & (taken | outputs)
        for node in reversed(self.graph.node):
            leaves = set(node.output) & found - outputs
            if leaves and self._only_reshapes(node) and node.input[0] in inside:
                found = found - leaves | {node.input[0]}
        return [name for node in self.graph.node for name in node.output if name in found]

    def _only_reshapes(self, node: onnx.NodeProto) -> bool:
        return node.op_type in _SAME_VALUES and not self.inputs_of(node.input[1:])

    def inputs_of(self, names: Iterable[str]) -> frozenset[str]:
        """Return the inputs that any of the tensors depends on."""
        none: frozenset[str] = frozenset()
        return none.union(*(self.inputs.get(name, none) for name in names))

    def meetings(self) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
        """Yield, from the end, the two sets of inputs that a node brings together, where they have none in common."""
        everything = self.inputs_of(value.name for value in self.graph.output)
        for node in reversed(self.graph.node):
            sides = [behind for name in node.input if (behind := self.inputs.get(name))]
            if len(sides) == 2 and not sides[0] & sides[1] and sides[0] | sides[1] == everything:
                yield sides[0], sides[1]

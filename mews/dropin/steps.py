"""The steps of an ensemble as plain data: where each column comes from, and what each step can do.

A column of an ensemble is a Source: a raw column of the request, or an output of a step before. Steps are read first,
all of them, and every problem is told at once; then they write their ONNX graphs, when it is known what is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from etl.graph import Column, FeatureGraph

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
"""Columns by name: [rows, 1], or [rows, length] for a list of fixed length."""

REQUEST = ""
"""The role of what a request brings."""


@dataclass(frozen=True)
class Source:
    """A column as something made it: `role` is the step's, or REQUEST; `name` is its name there."""

    role: str
    name: str
    column: Column


Made = dict[str, Source]
"""What a node makes, by the names that the nodes behind it see."""


@dataclass(frozen=True)
class Step:
    """One ONNX graph to be: `reads` are its own object's inputs by name.

    `write(file, fingerprint, needed)` writes the graph with at least the outputs `needed`, and returns the tensor of
    each by its name. `own` is what the user's own object answers to columns by name: Arrays, or for features raw rows
    too; None where there is none to ask. `fingerprint` is that of a feature graph, or nothing.
    """

    role: str
    what: str
    reads: Mapping[str, Source]
    write: Callable[[Path, str, Collection[str]], Mapping[str, str]]
    own: Callable[[Arrays], Arrays] | None
    fingerprint: str = ""
    graph: FeatureGraph | None = None
    """That of a step of features, without what a request does not have."""

    @property
    def features(self) -> bool:
        """True for a workflow, False for a model."""
        return self.graph is not None


@dataclass(frozen=True)
class Read:
    """A whole ensemble: its steps in the order in which they run, and its outputs."""

    steps: tuple[Step, ...]
    outputs: Mapping[str, Source]

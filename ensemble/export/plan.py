"""What is exported: ONNX graphs, how they hang together, and which of their outputs a client gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Piece:
    """One ONNX graph of a deployment.

    `role` is lower case and names the composing model, `<name>_<role>_<version>`. `wiring` says for each input of the
    graph where it comes from: a tensor of the request by its name, or `<role>/<output>` of a piece before this one.
    """

    role: str
    graph: Path
    wiring: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """The pieces in the order in which they run, and the ensemble's outputs: `{name: "<role>/<output>"}`.

    `fingerprint` is the feature graph's. `about` is kept in the manifest, as it is.
    """

    pieces: tuple[Piece, ...]
    outputs: Mapping[str, str]
    fingerprint: str
    about: Mapping[str, Any] = field(default_factory=dict)

"""Outputs of one number a row, [batch], as Triton's batches need them: [batch, 1]."""

from __future__ import annotations

from dataclasses import replace

from ensemble.export.parts import Deployment, Part
from ensemble.graphs.additions import with_columns
from ensemble.graphs.onnx_file import OnnxFile

_COLUMN = "__column"


def widened(deployment: Deployment) -> Deployment:
    """Return the deployment with every output of the ensemble that is [batch] as [batch, 1]; the rest stays.

    One that another part reads too stays, for that part wants it as it is.
    """
    wired = {source for part in deployment.parts for source in part.wiring.values()}
    flat = {
        source
        for part in deployment.parts
        for source, spec in part.outputs.items()
        if not spec.dims and source in set(deployment.outputs.values()) - wired
    }
    if not flat:
        return deployment
    outputs = {name: source + _COLUMN if source in flat else source for name, source in deployment.outputs.items()}
    return Deployment(tuple(_widened(part, flat) for part in deployment.parts), outputs)


def _widened(part: Part, flat: set[str]) -> Part:
    names = {spec.name: spec.name + _COLUMN for source, spec in part.outputs.items() if source in flat}
    if not names:
        return part
    return replace(part, graph=OnnxFile(part.graph.path, with_columns(part.graph.model, names)), changed=True)

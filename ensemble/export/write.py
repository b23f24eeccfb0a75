"""The files of one version: a folder for each part, and the ensemble's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from ensemble.config import ExportConfig
from ensemble.export.parts import Deployment, Part
from ensemble.export.trial import Request
from ensemble.graphs.onnx_file import OnnxFile
from ensemble.pbtxt import render
from ensemble.repository import CONFIG
from ensemble.requests.encode import encode, to_json
from ensemble.scheduling import scheduled
from ensemble.spec import ModelSpec, RequestSchema, Step, TensorSpec
from ensemble.warmup import write_warmup
from etl.names import FINGERPRINT, REQUEST

EXAMPLE = "request.example.json"
CARD = "model_card.md"
GRAPH = "model.onnx"
_EXAMPLE_ROWS = 2


@dataclass(frozen=True)
class Version:
    """What is being written: `folder` is laid out like a repository."""

    folder: Path
    number: int
    config: ExportConfig
    request: RequestSchema
    fingerprint: str

    def model(self, role: str) -> str:
        """Name of the composing model of a role."""
        return f"{self.config.name}_{role}_{self.number}"

    def sized(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """Return the tensors as config.pbtxt wants them: with the batch only where Triton makes none."""
        return tuple(specs) if self.config.max_batch_size else tuple(spec.whole for spec in specs)


def write_graphs(version: Version, deployment: Deployment) -> Deployment:
    """Write the graph of every part; return the deployment with what was written, opened again."""
    parts = []
    for part in deployment.parts:
        target = version.folder / version.model(part.role) / "1" / GRAPH
        target.parent.mkdir(parents=True)
        part.write(target)
        parts.append(replace(part, graph=OnnxFile.open(target), changed=False))
    return Deployment(tuple(parts), deployment.outputs)


def write_part(version: Version, part: Part, deployment: Deployment, rows: Sequence[Request]) -> None:
    """Write config.pbtxt and warm-up `rows` of one part."""
    folder, config = version.folder / version.model(part.role), version.config
    made = [spec for source, spec in part.outputs.items() if source in deployment.used]
    spec = ModelSpec(
        name=folder.name,
        backend="onnxruntime",
        max_batch_size=config.max_batch_size,
        inputs=version.sized(part.inputs),
        outputs=version.sized(made),
        warmup=write_warmup(folder / "warmup", part.inputs, rows, batched=config.max_batch_size > 0),
        parameters={FINGERPRINT: version.fingerprint},
    )
    (folder / CONFIG).write_text(render(scheduled(spec, config, part.role)), encoding="utf-8")


def write_ensemble(version: Version, deployment: Deployment) -> None:
    """Write the ensemble's config.pbtxt, and the same as that of its version."""
    names = {source: name for name, source in deployment.outputs.items()}
    spec = ModelSpec(
        name=version.config.name,
        platform="ensemble",
        max_batch_size=version.config.max_batch_size,
        inputs=version.sized(version.request.tensors),
        outputs=version.sized(deployment.response),
        versions=(version.number,),
        parameters={FINGERPRINT: version.fingerprint, REQUEST: json.dumps(version.request.to_json())},
        steps=tuple(_step(version.model(part.role), part, deployment.used, names) for part in deployment.parts),
    )
    folder = version.folder / version.config.name
    (folder / str(version.number)).mkdir(parents=True)
    (folder / "configs").mkdir()
    text = render(scheduled(spec, version.config, ""))
    for path in (folder / "configs" / f"{version.number}.pbtxt", folder / CONFIG):
        path.write_text(text, encoding="utf-8")


def _step(model: str, part: Part, used: frozenset[str], names: Mapping[str, str]) -> Step:
    """Tensors between parts are called `<role>/<output>` in the ensemble, but for those that are its outputs."""
    return Step(
        model,
        {name: names.get(source, source) for name, source in part.wiring.items()},
        {spec.name: names.get(source, source) for source, spec in part.outputs.items() if source in used},
    )


def write_example(version: Version, outputs: Sequence[str], warmup: pl.DataFrame) -> None:
    """Write a request of real rows, preferably without nulls; Triton takes no FP16 in JSON, so none with that."""
    if any(spec.dtype == "FP16" for spec in version.request.tensors):
        return
    rows = raw(warmup, version.request)
    whole = rows.drop_nulls()
    chosen = (whole if whole.height else rows).head(_EXAMPLE_ROWS)
    body: dict[str, Any] = to_json(encode(chosen, version.request), version.request, outputs[0])
    body["outputs"] = [{"name": name} for name in outputs]
    path = version.folder / version.config.name / str(version.number) / EXAMPLE
    path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def write_card(version: Version, card: str) -> None:
    """Write the model card beside the manifest, which names its hash; none where there is no card."""
    if card:
        path = version.folder / version.config.name / str(version.number) / CARD
        path.write_text(card, encoding="utf-8")


def raw(rows: pl.DataFrame, request: RequestSchema) -> pl.DataFrame:
    """Return the columns of a request that the rows have."""
    return rows.select([name for name in request.names if name in rows.columns])

"""A plan, or workflow.onnx and model.onnx, as one version of a Triton ensemble.

Chained, every graph of the plan is a composing model; split, the models among them are cut first; fused, all are one.
Each answers to the same rows with the same outputs. docs/deployment-shapes.md says when which.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from ensemble.config import ExportConfig
from ensemble.export.askable import askable
from ensemble.export.parts import Deployment, Part, check
from ensemble.export.plan import Plan
from ensemble.export.shapes import shaped
from ensemble.export.trial import Request, Trial, check_same, tried
from ensemble.export.widened import widened
from ensemble.export.write import Version, raw, write_card, write_ensemble, write_example, write_graphs, write_part
from ensemble.graphs.onnx_file import OnnxFile
from ensemble.manifest import Manifest, packages, record
from ensemble.repository import MANIFEST, next_version, publish, writing
from ensemble.requests.encode import encode
from ensemble.requests.packed import pack
from ensemble.scheduling import check_placement
from ensemble.signing import private_key, sign
from ensemble.spec import RequestSchema, TensorSpec
from ensemble.versions import recorded
from etl.dtypes import BY_TRITON
from etl.errors import ArtifactError
from etl.names import ITEM, SCORE

_SCORE = TensorSpec(SCORE, "FP32", (1,))


@dataclass(frozen=True)
class Exported:
    """A written version: `folder` holds its manifest, `models` are the composing models."""

    name: str
    version: int
    folder: Path
    models: tuple[str, ...]


def export(
    workflow: Path,
    model: Path,
    repository: Path,
    config: ExportConfig,
    request: RequestSchema,
    metrics: Mapping[str, Any],
    warmup: pl.DataFrame,
    *,
    stable: bool = True,
    card: str = "",
) -> Exported:
    """Write the features and one model as the next version; see `export_plan`.

    `card` is the model card in Markdown, a file of the version like any other; without one there is no such file.
    `score` FP32 [1] is among the model's outputs, or [k] beside an output `item`. ArtifactError also when the
    fingerprints differ.
    """
    features, scorer = OnnxFile.open(workflow), OnnxFile.open(model)
    _check_together(features, scorer)
    wiring = {spec.name: f"features/{features.columns.get(spec.name, spec.name)}" for spec in scorer.inputs}
    parts = (
        Part("features", features, {spec.name: spec.name for spec in features.inputs}),
        Part("model", scorer, wiring),
    )
    outputs = {name: f"model/{name}" for name in dict.fromkeys((SCORE, *(spec.name for spec in scorer.outputs)))}
    deployment = Deployment(parts, outputs)
    order = _Order(repository, config, request, metrics, warmup, features.fingerprint, {}, stable, card)
    return _export(deployment, order, () if ITEM in outputs else (_SCORE,))


def export_plan(
    plan: Plan,
    repository: Path,
    config: ExportConfig,
    request: RequestSchema,
    metrics: Mapping[str, Any],
    warmup: pl.DataFrame,
    *,
    stable: bool = True,
) -> Exported:
    """Write a plan as the next version of ensemble `config.name` in `repository`, and make it the one that serves.

    `request` has the raw columns, named; `config.signature` packs them. `warmup` holds real raw rows: the first ones
    warm up the composing models, show that the written graphs answer like the plan's, and make request.example.json.
    A version that is not `stable` is stored, and serves when it is told to. ArtifactError when a graph is not valid,
    when names, types or sizes of wires, request or outputs do not fit, when the graphs cannot be brought into
    `config.shape` or then answer otherwise, or when the repository cannot be written; then nothing that serves has
    changed. ConfigError for a placement of a role that is not there.
    """
    deployment = Deployment.open(plan)
    order = _Order(repository, config, request, metrics, warmup, plan.fingerprint, plan.about, stable)
    for part in deployment.parts:
        if part.graph.fingerprint not in ("", plan.fingerprint):
            _refuse_others(part.graph.path, part.graph.fingerprint, plan.fingerprint)
    return _export(deployment, order)


@dataclass(frozen=True)
class _Order:
    """What is the same for all that is exported."""

    repository: Path
    config: ExportConfig
    request: RequestSchema
    metrics: Mapping[str, Any]
    warmup: pl.DataFrame
    fingerprint: str
    about: Mapping[str, Any]
    stable: bool
    card: str = ""


def _export(deployment: Deployment, order: _Order, expected: Sequence[TensorSpec] = ()) -> Exported:
    config, named = order.config, order.request
    key = private_key() if config.sign else None
    if order.warmup.is_empty():
        raise ArtifactError("no rows to try the exported version with", hint="Give at least one raw row as `warmup`.")
    deployment = widened(deployment) if config.max_batch_size else deployment
    check(deployment, named, expected, batched=config.max_batch_size > 0)
    _check_batching(named, config)
    request = pack(named) if config.signature == "packed" else named
    target = askable(shaped(deployment, config, request))
    check(target, request, expected, batched=config.max_batch_size > 0)
    check_placement(config, target.roles)
    wanted = _tried(deployment, order, named) if any(part.changed for part in target.parts) else None
    with writing(order.repository) as staging:
        repository = order.repository.resolve()
        version = Version(staging, next_version(repository, config.name), config, request, order.fingerprint)
        target = write_graphs(version, target)
        found = _tried(target, order, request)
        if wanted is not None:
            check_same(wanted, found, config.shape)
        for part in target.parts:
            write_part(version, part, target, found.inputs[part.role][: config.warmup_rows])
        write_ensemble(version, target)
        write_example(version, tuple(target.outputs), order.warmup)
        write_card(version, order.card)
        _record(version, order, (wanted or found).answers[-1])
        models = tuple(version.model(role) for role in target.roles)
        text = _write_manifest(version, target, models, order)
        if key is not None:
            sign(json.loads(text), staging / config.name / str(version.number), key)
        publish(staging, repository, config.name, version.number, models, stable=order.stable)
    return Exported(config.name, version.number, repository / config.name / str(version.number), models)


def _tried(deployment: Deployment, order: _Order, request: RequestSchema) -> Trial:
    """Run the first raw rows one by one, as warm-up rows are, and at last those that are recorded, together."""
    rows = raw(order.warmup, request).head(max(order.config.warmup_rows, 1))
    frames = [*(rows.slice(number, 1) for number in range(rows.height)), _recorded(order, request)]
    return tried(deployment, [encode(frame, request) for frame in frames], [frame.height for frame in frames])


def _recorded(order: _Order, request: RequestSchema) -> pl.DataFrame:
    return raw(order.warmup, request).head(min(recorded.ROWS, order.config.max_batch_size or recorded.ROWS))


def _record(version: Version, order: _Order, answers: Request) -> None:
    """Keep real rows with the answers of the graphs as they were given: a published version must repeat them."""
    folder = version.folder / order.config.name / str(version.number)
    recorded.write(folder, encode(_recorded(order, version.request), version.request), answers)


def _write_manifest(version: Version, deployment: Deployment, models: tuple[str, ...], order: _Order) -> str:
    name, number = order.config.name, version.number
    manifest = Manifest(
        name=name,
        version=number,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        models=models,
        fingerprint=order.fingerprint,
        shape=order.config.shape,
        request=version.request,
        response={"outputs": [_said(spec) for spec in deployment.response]},
        about=order.about,
        metrics=order.metrics,
        packages=packages(),
        files=record(version.folder, (*models, f"{name}/{number}"), (f"{name}/configs/{number}.pbtxt",)),
    )
    text = json.dumps(manifest.to_json(), indent=1) + "\n"
    (version.folder / name / str(number) / MANIFEST).write_text(text, encoding="utf-8")
    return text


def _said(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": BY_TRITON[spec.dtype].name, "dims": list(spec.dims)}


def _check_together(features: OnnxFile, scorer: OnnxFile) -> None:
    if not features.fingerprint or features.fingerprint != scorer.fingerprint:
        raise ArtifactError(
            f"{features.path} and {scorer.path} are from different feature graphs",
            expected=f"fingerprint {features.fingerprint or '(none)'} of the features",
            received=f"{scorer.fingerprint or '(none)'} in the model",
            hint="Transform the features and train again, then export both.",
        )


def _refuse_others(path: Path, found: str, wanted: str) -> None:
    raise ArtifactError(
        f"{path} is from another feature graph",
        expected=f"fingerprint {wanted or '(none)'} of the features",
        received=found,
        hint="Transform the features and train again, then export both.",
    )


def _check_batching(request: RequestSchema, config: ExportConfig) -> None:
    if config.max_batch_size and request.needs_whole_requests:
        raise ArtifactError(
            f"requests of {', '.join(request.needs_whole_requests)} are optional or have values and offsets",
            expected="max_batch_size: 0, for Triton cannot make a batch of such requests",
            received=f"max_batch_size: {config.max_batch_size}",
        )

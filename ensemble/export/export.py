"""workflow.onnx and model.onnx as one version of a Triton ensemble.

Chained, the ensemble runs two composing models (preprocessing, then the model); fused, one. Both answer to the same
inputs, the raw columns, with the same output, `score` FP32 [1] for each row.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl

from ensemble.config import ExportConfig
from ensemble.graphs.fuse import fuse, optimise
from ensemble.graphs.onnx_file import OnnxFile
from ensemble.manifest import Manifest, packages, record
from ensemble.pbtxt import render
from ensemble.repository import CONFIG, MANIFEST, next_version, publish, writing
from ensemble.requests.encode import Array, encode, to_json
from ensemble.spec import Batching, InstanceGroup, ModelSpec, RequestSchema, Step, TensorSpec
from ensemble.warmup import write_warmup
from etl.errors import ArtifactError
from etl.names import FINGERPRINT, REQUEST, SCORE

EXAMPLE = "request.example.json"
_EXAMPLE_ROWS = 2
# Chained and fused run the same float32 operations in another order at most.
_FUSED_TOLERANCE = 1e-6
_KINDS = {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "gpu": "KIND_GPU"}
_RESPONSE = TensorSpec(SCORE, "FP32", (1,))


@dataclass(frozen=True)
class Exported:
    """A written version: `folder` holds its manifest, `models` are the composing models."""

    name: str
    version: int
    folder: Path
    models: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """One composing model before it has a number: how to write its model.onnx, its tensors, rows to warm it up."""

    role: str
    write: Callable[[Path], object]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    input_map: Mapping[str, str]
    output_map: Mapping[str, str]
    rows: Sequence[Mapping[str, Array]]


def export(
    workflow: Path,
    model: Path,
    repository: Path,
    config: ExportConfig,
    request: RequestSchema,
    metrics: Mapping[str, Any],
    warmup: pl.DataFrame,
) -> Exported:
    """Write the next version of ensemble `config.name` to `repository` and make it the one that serves.

    `warmup` holds real raw rows; the first ones warm up the composing models and make request.example.json.
    ArtifactError when a graph is not valid, when fingerprints, names, types or sizes of the two do not fit each other
    or `request`, or when the repository cannot be written; then nothing that serves has changed.
    """
    if warmup.is_empty():
        raise ArtifactError("no rows to try the exported version with", hint="Give at least one raw row as `warmup`.")
    features, scorer = OnnxFile.open(workflow), OnnxFile.open(model)
    _check_together(features, scorer, request)
    _check_batching(request, config)
    tried = _raw(warmup, request).head(max(config.warmup_rows, 1))
    rows = [encode(tried.slice(number, 1), request) for number in range(tried.height)]
    parts = _fused(features, scorer, rows) if config.fused else _chained(features, scorer, rows)
    with writing(repository) as staging:
        repository = repository.resolve()
        version = next_version(repository, config.name)
        models = tuple(f"{config.name}_{part.role}_{version}" for part in parts)
        for part, name in zip(parts, models, strict=True):
            _write_part(staging / name, part, config, features.fingerprint)
        _write_ensemble(staging, parts, models, config, request, version, features.fingerprint)
        folder = staging / config.name / str(version)
        if all(spec.dtype != "FP16" for spec in request.tensors):  # Triton takes no FP16 in JSON
            example = _example(warmup, request)
            (folder / EXAMPLE).write_text(json.dumps(example, indent=1) + "\n", encoding="utf-8")
        manifest = Manifest(
            name=config.name,
            version=version,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            models=models,
            fingerprint=features.fingerprint,
            fused=config.fused,
            request=request,
            response={"name": SCORE, "dtype": "float32", "dims": list(_RESPONSE.dims)},
            metrics=metrics,
            packages=packages(),
            files=record(staging, (*models, f"{config.name}/{version}"), (f"{config.name}/configs/{version}.pbtxt",)),
        )
        (folder / MANIFEST).write_text(json.dumps(manifest.to_json(), indent=1) + "\n", encoding="utf-8")
        publish(staging, repository, config.name, version, models)
    return Exported(config.name, version, repository / config.name / str(version), models)


def _check_together(features: OnnxFile, scorer: OnnxFile, request: RequestSchema) -> None:
    """ArtifactError with everything that keeps preprocessing, model and request from fitting each other."""
    if not features.fingerprint or features.fingerprint != scorer.fingerprint:
        raise ArtifactError(
            f"{features.path} and {scorer.path} are from different feature graphs",
            expected=f"fingerprint {features.fingerprint or '(none)'} of the features",
            received=f"{scorer.fingerprint or '(none)'} in the model",
            hint="Transform the features and train again, then export both.",
        )
    problems = _misfits(request.tensors, features.inputs, "the request", "the features")
    made = [TensorSpec(name, *features.output(output)) for name, output in features.columns.items()]
    problems += _misfits(made, scorer.inputs, "the features", "the model", unused=True)
    if _RESPONSE not in scorer.outputs:
        found = ", ".join(map(str, scorer.outputs))
        problems.append(f"the model must have an output {_RESPONSE}, it has {found}")
    if problems:
        listed = "".join(f"\n  - {problem}" for problem in problems)
        raise ArtifactError(f"{features.path} and {scorer.path} do not fit together:{listed}")


def _check_batching(request: RequestSchema, config: ExportConfig) -> None:
    if config.max_batch_size and request.needs_whole_requests:
        raise ArtifactError(
            f"requests of {', '.join(request.needs_whole_requests)} are optional or have values and offsets",
            expected="max_batch_size: 0, for Triton cannot make a batch of such requests",
            received=f"max_batch_size: {config.max_batch_size}",
        )


def _misfits(
    given: tuple[TensorSpec, ...] | list[TensorSpec],
    wanted: tuple[TensorSpec, ...],
    giver: str,
    taker: str,
    unused: bool = False,
) -> list[str]:
    by_name = {spec.name: spec for spec in given}
    problems = []
    for spec in wanted:
        found = by_name.pop(spec.name, None)
        if found is None:
            problems.append(f"{taker} needs {spec}, which {giver} lacks")
        elif (found.dtype, found.optional) != (spec.dtype, spec.optional) or not _same_dims(found.dims, spec.dims):
            problems.append(f"{taker} needs {spec}, {giver} has {found}")
    return (
        problems
        if unused
        else problems + [f"{giver} has {spec}, which {taker} does not read" for spec in by_name.values()]
    )


def _same_dims(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    return len(left) == len(right) and all(a == b or -1 in (a, b) for a, b in zip(left, right, strict=True))


def _chained(features: OnnxFile, scorer: OnnxFile, rows: Sequence[Mapping[str, Array]]) -> tuple[_Part, ...]:
    wiring = {spec.name: features.columns[spec.name] for spec in scorer.inputs}
    inner = {output: f"features/{output}" for output in wiring.values()}
    values = features.run_all(rows, tuple(inner))
    first = _Part(
        role="features",
        write=lambda target: shutil.copyfile(features.path, target),
        inputs=features.inputs,
        outputs=tuple(TensorSpec(output, *features.output(output)) for output in inner),
        input_map={spec.name: spec.name for spec in features.inputs},
        output_map=inner,
        rows=rows,
    )
    second = _Part(
        role="model",
        write=lambda target: shutil.copyfile(scorer.path, target),
        inputs=scorer.inputs,
        outputs=(_RESPONSE,),
        input_map={name: inner[output] for name, output in wiring.items()},
        output_map={SCORE: SCORE},
        rows=[{name: row[output] for name, output in wiring.items()} for row in values],
    )
    return first, second


def _fused(features: OnnxFile, scorer: OnnxFile, rows: Sequence[Mapping[str, Array]]) -> tuple[_Part, ...]:
    wiring = {spec.name: features.columns[spec.name] for spec in scorer.inputs}
    joined = optimise(fuse(features.model, scorer.model, wiring))
    _check_equal(features, scorer, joined, wiring, rows)
    names = {spec.name: spec.name for spec in features.inputs}
    return (
        _Part(
            role="fused",
            write=lambda target: onnx.save(joined, target),
            inputs=features.inputs,
            outputs=(_RESPONSE,),
            input_map=names,
            output_map={SCORE: SCORE},
            rows=rows,
        ),
    )


def _check_equal(
    features: OnnxFile,
    scorer: OnnxFile,
    joined: onnx.ModelProto,
    wiring: Mapping[str, str],
    rows: Sequence[Mapping[str, Array]],
) -> None:
    values = features.run_all(rows, tuple(wiring.values()))
    fed = [{name: row[output] for name, output in wiring.items()} for row in values]
    chained = _scores(scorer.run_all(fed, (SCORE,)))
    fused = _scores(OnnxFile(features.path, joined).run_all(rows, (SCORE,)))
    if not np.allclose(chained, fused, rtol=0, atol=_FUSED_TOLERANCE, equal_nan=True):
        raise ArtifactError(
            "the fused graph does not answer like its two parts",
            expected=f"a difference of at most {_FUSED_TOLERANCE}",
            received=str(float(np.abs(chained - fused).max())),
            hint="Export with fused: false, and report this.",
        )


def _scores(rows: Sequence[Mapping[str, Array]]) -> Array:
    return np.concatenate([row[SCORE] for row in rows])


def _sized(specs: tuple[TensorSpec, ...], config: ExportConfig) -> tuple[TensorSpec, ...]:
    """Return the tensors as config.pbtxt wants them: with the batch only where Triton makes none."""
    return specs if config.max_batch_size else tuple(spec.whole for spec in specs)


def _write_part(folder: Path, part: _Part, config: ExportConfig, fingerprint: str) -> None:
    (folder / "1").mkdir(parents=True)
    part.write(folder / "1" / "model.onnx")
    spec = ModelSpec(
        name=folder.name,
        backend="onnxruntime",
        max_batch_size=config.max_batch_size,
        inputs=_sized(part.inputs, config),
        outputs=_sized(part.outputs, config),
        batching=_batching(config),
        instances=(InstanceGroup(config.instances, _KINDS[config.device]),),  # type: ignore[arg-type]
        warmup=write_warmup(
            folder / "warmup", part.inputs, part.rows[: config.warmup_rows], batched=config.max_batch_size > 0
        ),
        parameters={FINGERPRINT: fingerprint, "intra_op_thread_count": str(config.threads)},
    )
    (folder / CONFIG).write_text(render(spec), encoding="utf-8")


def _batching(config: ExportConfig) -> Batching | None:
    if not config.max_batch_size:
        return None
    return Batching(tuple(config.preferred_batch_sizes), config.max_queue_delay_microseconds)


def _write_ensemble(
    staging: Path,
    parts: tuple[_Part, ...],
    models: tuple[str, ...],
    config: ExportConfig,
    request: RequestSchema,
    version: int,
    fingerprint: str,
) -> None:
    steps = (Step(name, part.input_map, part.output_map) for part, name in zip(parts, models, strict=True))
    spec = ModelSpec(
        name=config.name,
        platform="ensemble",
        max_batch_size=config.max_batch_size,
        inputs=_sized(request.tensors, config),
        outputs=_sized((_RESPONSE,), config),
        versions=(version,),
        parameters={FINGERPRINT: fingerprint, REQUEST: json.dumps(request.to_json())},
        steps=tuple(steps),
    )
    folder = staging / config.name
    (folder / str(version)).mkdir(parents=True)
    (folder / "configs").mkdir()
    for path in (folder / "configs" / f"{version}.pbtxt", folder / CONFIG):
        path.write_text(render(spec), encoding="utf-8")


def _raw(warmup: pl.DataFrame, request: RequestSchema) -> pl.DataFrame:
    return warmup.select([name for name in request.names if name in warmup.columns])


def _example(warmup: pl.DataFrame, request: RequestSchema) -> dict[str, Any]:
    """A request of real rows, preferably without nulls."""
    rows = _raw(warmup, request)
    whole = rows.drop_nulls()
    chosen = (whole if whole.height else rows).head(_EXAMPLE_ROWS)
    return to_json(encode(chosen, request), request, SCORE)

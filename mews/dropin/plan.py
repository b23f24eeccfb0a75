"""Steps as the plan of an export: their ONNX files, how they hang together, and what a request holds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ensemble.export.plan import Piece, Plan
from ensemble.graphs.onnx_file import OnnxFile
from ensemble.spec import RequestColumn, RequestSchema
from etl.errors import ConfigError
from etl.graph import Column
from etl.requests import USUAL, RequestForm, check_forms
from mews.dropin.steps import REQUEST, Read, Source, Step

Tensors = Mapping[str, Mapping[str, str]]
"""Output tensors by role, then by column."""


def request_schema(read: Read, forms: Mapping[str, RequestForm]) -> RequestSchema:
    """Return the raw columns of a request.

    Those that a model reads as they are cannot be null. ConfigError for columns that two steps read with different
    types, for ragged lists without features between, and for forms that do not fit.
    """
    columns: dict[str, Column] = {}
    direct: set[str] = set()
    for step in sorted(read.steps, key=lambda step: not step.features):
        for name, source in step.reads.items():
            if source.role == REQUEST:
                _add(columns, _raw(step, name, source), step)
                direct |= set() if step.features else {source.name}
    if formed := sorted(direct & set(forms)):
        raise ConfigError(f"requests of {', '.join(formed)}", expected="columns that only features read")
    check_forms(tuple(columns.values()), forms)
    return RequestSchema(
        tuple(
            RequestColumn(
                c.name, c.dtype, c.is_list, c.length, False if c.name in direct else None, forms.get(c.name, USUAL)
            )
            for c in columns.values()
        )
    )


def write_plan(read: Read, request: RequestSchema, folder: Path) -> tuple[Plan, Tensors]:
    """Write every step's graph to `folder`; return the plan of them, and where each column that is needed comes out."""
    needed: dict[str, set[str]] = {step.role: set() for step in read.steps}
    for source in (*(s for step in read.steps for s in step.reads.values()), *read.outputs.values()):
        if source.role != REQUEST:
            needed[source.role].add(source.name)
    fingerprint, pieces = _fingerprint(read), []
    tensors: dict[str, dict[str, str]] = {}
    for step in read.steps:
        file = folder / f"{step.role}.onnx"
        made = step.write(file, fingerprint, needed[step.role])
        tensors[step.role] = {name: tensor for name, tensor in made.items() if name in needed[step.role]}
        wiring, inputs = _wiring(step, request, tensors), {spec.name for spec in OnnxFile.open(file).inputs}
        pieces.append(Piece(step.role, file, {name: wire for name, wire in wiring.items() if name in inputs}))
    outputs = {name: _tensor(source, tensors) for name, source in read.outputs.items()}
    about = {"steps": {step.role: step.what for step in read.steps}}
    return Plan(tuple(pieces), outputs, fingerprint or _digest(pieces), about), tensors


def _raw(step: Step, name: str, source: Source) -> Column:
    """The raw column that a step reads as `name`, with the type that the step knows."""
    known = next((c for c in (step.graph.inputs if step.graph else ()) if c.name == name), source.column)
    return replace(known, name=source.name, tags=(), cardinality=None)


def _add(columns: dict[str, Column], column: Column, step: Step) -> None:
    if column.dtype == "unknown":
        raise ConfigError(
            f"raw column {column.name!r}", expected="a type that Mews knows", received="none in the schema"
        )
    if not step.features and column.is_list and column.length is None:
        raise ConfigError(
            f"raw column {column.name!r} of {step.what}", expected="a list of a fixed length, or features between"
        )
    if (known := columns.setdefault(column.name, column)) != column and step.features:
        raise ConfigError(f"raw column {column.name!r}", expected=f"one type: {known.dtype}", received=column.dtype)


def _wiring(step: Step, request: RequestSchema, tensors: Tensors) -> dict[str, str]:
    """For each input tensor of a step's graph: a tensor of the request, or `<role>/<output>`."""
    wiring: dict[str, str] = {}
    for name, source in step.reads.items():
        if source.role == REQUEST:
            column = next(column for column in request.columns if column.name == source.name)
            given = (spec.name for spec in column.tensors)
            wiring |= {name + tensor.removeprefix(source.name): tensor for tensor in given}
        else:
            wiring[name] = _tensor(source, tensors)
    return wiring


def _tensor(source: Source, tensors: Tensors) -> str:
    return f"{source.role}/{tensors[source.role][source.name]}"


def _fingerprint(read: Read) -> str:
    """The features' fingerprint; of several workflows that of all of them, in order; nothing without any."""
    found = [step.fingerprint for step in read.steps if step.features]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest() if found else ""


def _digest(pieces: list[Piece]) -> str:
    """Of models without features: their own content, which nothing that is trained can be matched with."""
    found = hashlib.sha256()
    for path in sorted(path for piece in pieces for path in piece.graph.parent.glob(f"{piece.graph.name}*")):
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()

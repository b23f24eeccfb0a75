"""What each operator of Merlin Systems becomes: one small rule each, and the reason for each that is refused.

Operators are known by the names of their classes, so nothing of Merlin is imported here. After `ensemble.export`
Merlin has wrapped its operators for Triton; the wrapped ones are meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from etl.compiler.registry import Registry
from mews.dropin.models import Loaded, forest_step, keras_step, onnx_step, torch_step
from mews.dropin.steps import Made, Source
from training.export.forests import Answer

_REBUILD = "Compute it in the client, or in a service of its own, before or after the ensemble."
REFUSED: Mapping[str, tuple[str, str]] = {
    "QueryFaiss": (
        "a nearest-neighbour index is no ONNX graph.",
        "Export the towers, and query the index in the client.",
    ),
    "QueryFeast": (
        "it asks a feature store while a request waits.",
        "Look the features up in the client, and send them.",
    ),
    "FilterCandidates": ("its answer has other rows than the request.", _REBUILD),
    "SoftmaxSampling": ("it draws at random, and its answer has other rows than the request.", _REBUILD),
    "UnrollFeatures": ("it makes many rows of one.", "Send the rows unrolled: one for each candidate."),
}
"""Operators of Merlin Systems that cannot be served, with the reason and what to do."""
UNKNOWN = (
    "it is Python code, which ONNX cannot hold.",
    "Write it as an operator that Mews compiles (`mews operators`), inside the workflow.",
)
PLUMBING = frozenset(
    {"SelectionOp", "ConcatColumns", "SubsetColumns", "SubtractionOp", "GroupingOp", "AddMetadata", "AddTags"}
)
"""Operators that choose columns, and change no value."""


class Reading(Protocol):
    """What a rule may ask of the walk over the graph."""

    def role(self, kind: str) -> str:
        """A new role that begins with `kind`."""

    def features(self, workflow: Any, above: Made) -> Made:
        """Add a workflow as a step; what it makes."""

    def given(self, op: Any, outputs: list[str]) -> Path | None:
        """The ONNX file that the user gave for the operator with these outputs."""


Rule = Callable[[Any, Made, Reading], "Loaded | Made"]
RULES: Registry[Rule] = Registry("operators of an ensemble")


def operator_name(op: Any) -> str:
    """Return the name of an operator's class, of the wrapped one if Merlin has wrapped it for Triton."""
    return type(unwrapped(op)).__name__


def unwrapped(op: Any) -> Any:
    """Return the operator that was given to Merlin."""
    return op.op if type(op).__name__.endswith("Triton") and hasattr(op, "op") else op


@RULES.register("TransformWorkflow")
def workflow(op: Any, above: Made, reading: Reading) -> Made:
    """The workflow, compiled."""
    return reading.features(op.workflow, above)


@RULES.register("PredictTensorflow")
def tensorflow(op: Any, above: Made, reading: Reading) -> Loaded:
    """A Keras or Merlin model, or a SavedModel."""
    names = list(op.output_schema.column_names)
    model = op.model if op.path is None else Path(op.path)
    loaded = keras_step(reading.role("model"), model, above, names)
    return _given(loaded, reading.given(op, names), above)


@RULES.register("PredictForest")
def forest(op: Any, above: Made, reading: Reading) -> Loaded:
    """A forest; of FIL's parameters those that change the answer are kept, the others tune NVIDIA's library."""
    given = op.fil_op.parameters
    answer = Answer(given["predict_proba"], given["output_class"], given["threshold"])
    loaded = forest_step(reading.role("model"), op.fil_op.fil_model_class.model, above, answer)
    return _given(loaded, reading.given(op, ["output__0"]), above)


@RULES.register("PredictPyTorch")
def pytorch(op: Any, above: Made, reading: Reading) -> Loaded:
    """A module through torch.onnx, or the ONNX file that was given for it."""
    names = list(op.output_schema.column_names)
    file, module = reading.given(op, names), getattr(op, "model", None)
    if file is not None and module is None:
        return onnx_step(reading.role("model"), file, above)
    return _given(torch_step(reading.role("model"), module, above, names), file, above)


@RULES.register("Rename")
def rename(op: Any, above: Made, reading: Reading) -> Made:
    """The same columns under other names."""
    new = op.f or (lambda name: name + op.postfix if op.postfix else op.name)
    return {new(name): source for name, source in above.items()}


def _given(loaded: Loaded, file: Path | None, above: Mapping[str, Source]) -> Loaded:
    """The ONNX file in place of our own conversion, compared with the same model."""
    step, _ = loaded
    if file is None:
        return loaded
    found, made = onnx_step(step.role, file, above, step.own)
    return replace(found, reads={**step.reads, **found.reads}), made

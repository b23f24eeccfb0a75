"""An ensemble of several outputs, of which each can be asked for alone.

Triton then leaves out the steps that are not needed, and errs in two cases (EnsembleContext in its source): an output
that another step reads too counts as not needed when that step is not, or when it was not asked for itself; and a raw
tensor that only a step left out would read is counted as an output of the first step, which may then be left out. Such
an ensemble answers "unexpected deadlock". So an output that is read elsewhere is made twice, and the first step takes
the raw tensors that it does not read.
"""

from __future__ import annotations

from dataclasses import replace

import onnx

from ensemble.export.parts import Deployment, Part
from ensemble.graphs.additions import with_copies, with_inputs
from ensemble.graphs.onnx_file import OnnxFile

_COPY, _UNREAD = "__wired", "__unread"


def askable(deployment: Deployment) -> Deployment:
    """Return the deployment so that each of its outputs can be asked for alone; one of one output is returned as it is.

    Answers are the same, and so are the names that a client sees.
    """
    if len(deployment.outputs) < 2:
        return deployment
    return _with_all_raw(_with_copies(deployment))


def _with_copies(deployment: Deployment) -> Deployment:
    wired = {source for part in deployment.parts for source in part.wiring.values()}
    twice = wired & set(deployment.outputs.values())
    parts = []
    for part in deployment.parts:
        wiring = {name: source + _COPY if source in twice else source for name, source in part.wiring.items()}
        copies = {spec.name: spec.name + _COPY for source, spec in part.outputs.items() if source in twice}
        made = _changed(part, with_copies(part.graph.model, copies)) if copies else part
        parts.append(replace(made, wiring=wiring))
    return Deployment(tuple(parts), deployment.outputs)


def _with_all_raw(deployment: Deployment) -> Deployment:
    first, *others = deployment.parts
    made = deployment.made
    inputs: dict[str, onnx.ValueInfoProto] = {}
    defaults: dict[str, onnx.TensorProto] = {}
    for part in others:
        held = {tensor.name: tensor for tensor in part.graph.model.graph.initializer}
        for value in part.graph.model.graph.input:
            source = part.wiring.get(value.name)
            if source is None or source in made or source in first.wiring.values():
                continue
            inputs[source] = onnx.ValueInfoProto(name=source + _UNREAD, type=value.type)
            if value.name in held:
                defaults[source] = _called(held[value.name], source + _UNREAD)
    if not inputs:
        return deployment
    model = with_inputs(first.graph.model, list(inputs.values()), list(defaults.values()))
    wiring = {**first.wiring, **{source + _UNREAD: source for source in inputs}}
    return Deployment((replace(_changed(first, model), wiring=wiring), *others), deployment.outputs)


def _called(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    copied = onnx.TensorProto()
    copied.CopyFrom(tensor)
    copied.name = name
    return copied


def _changed(part: Part, model: onnx.ModelProto) -> Part:
    return replace(part, graph=OnnxFile(part.graph.path, model), changed=True)

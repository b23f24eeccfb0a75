"""Graphs of different operator sets, raised to the newest among them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx.version_converter

from ensemble.graphs.edges import every_node
from ensemble.graphs.external import lift, restore
from etl.errors import ArtifactError


def same_opsets(models: Sequence[onnx.ModelProto]) -> list[onnx.ModelProto]:
    """Return the graphs, each domain at the newest version that one of them has; a raised graph is a copy.

    ArtifactError when an operator of an older one means something else in the newer, and cannot be converted.
    """
    newest: dict[str, int] = {}
    for model in models:
        for domain, version in opsets(model).items():
            newest[domain] = max(version, newest.get(domain, 1))
    return [_raised(model, newest) for model in models]


def opsets(model: onnx.ModelProto) -> dict[str, int]:
    """Return the version of each domain; ONNX's own is called ""."""
    return {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in model.opset_import}


def _raised(model: onnx.ModelProto, newest: dict[str, int]) -> onnx.ModelProto:
    old = opsets(model)
    raised = {domain: newest[domain] for domain, version in old.items() if version < newest[domain]}
    changed = {domain for domain, version in raised.items() if not _unchanged(model, domain, old[domain], version)}
    if raised and not changed:
        model = _copied(model)
    if "" in changed:
        model = _converted(model, raised[""])
    if others := sorted(changed - {""}):
        raise ArtifactError(
            "the graphs cannot be joined",
            expected=", ".join(f"{domain} {raised[domain]} in all of them" for domain in others),
            received=", ".join(f"{domain} {old[domain]}, whose operators have changed" for domain in others),
            hint="Export with shape: chained, or convert the model to that version.",
        )
    for entry in model.opset_import:
        entry.version = newest["" if entry.domain == "ai.onnx" else entry.domain]
        entry.domain = "" if entry.domain == "ai.onnx" else entry.domain
    return model


def _converted(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    lifted, tensors = lift(model)
    try:
        converted = onnx.version_converter.convert_version(lifted, version)
    except RuntimeError as error:
        raise ArtifactError(f"a graph cannot be converted to opset {version}", received=str(error)) from error
    restore(converted, tensors)
    return converted


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _unchanged(model: onnx.ModelProto, domain: str, old: int, new: int) -> bool:
    """Whether every operator that the graph uses of a domain may be read as one of the newer version."""
    nodes = [node for node in every_node(model.graph) if ("" if node.domain == "ai.onnx" else node.domain) == domain]
    return all(_same(node, domain, old, new) for node in nodes)


def _same(node: onnx.NodeProto, domain: str, old: int, new: int) -> bool:
    try:
        before, after = (onnx.defs.get_schema(node.op_type, version, domain) for version in (old, new))
    except onnx.defs.SchemaError:
        return False
    if before.since_version == after.since_version:
        return True
    # Operators of ONNX-ML only gained attributes, or lost some; those of ONNX's own domain changed their inputs too.
    return (
        domain != ""
        and not after.deprecated
        and {attribute.name for attribute in node.attribute} <= set(after.attributes)
    )

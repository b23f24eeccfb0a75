"""A deployment brought into its shape: as it is, with its models cut, or as one graph; and with packed columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ensemble.config import ExportConfig
from ensemble.export.parts import Deployment, Part
from ensemble.graphs.fuse import Link, join, optimise
from ensemble.graphs.onnx_file import OnnxFile
from ensemble.graphs.packed import read_packed
from ensemble.graphs.split import TOP, cut, cuts_of
from ensemble.requests.packed import columns_of
from ensemble.spec import RequestSchema
from etl.errors import ArtifactError
from etl.names import FEATURES

FUSED = "fused"


def shaped(deployment: Deployment, config: ExportConfig, request: RequestSchema) -> Deployment:
    """Return the deployment as `config.shape` says, its graphs reading packed columns where `request` packs them.

    ArtifactError when it cannot be brought into that shape.
    """
    sides = {name: [column.name for column in columns] for name, columns in columns_of(request).items()}
    if config.shape == "fused":
        return _fused(deployment, sides)
    if config.shape == "split":
        deployment = _split(deployment, None if config.split == "auto" else config.split)
    return Deployment(tuple(_packed(part, sides) for part in deployment.parts), deployment.outputs)


def _packed(part: Part, sides: Mapping[str, Sequence[str]]) -> Part:
    link = read_packed(part.link, sides)
    return part if link.model is part.graph.model else _of(link, part)


def _fused(deployment: Deployment, sides: Mapping[str, Sequence[str]]) -> Deployment:
    first = deployment.parts[0]
    joined = join([part.link for part in deployment.parts], deployment.outputs)
    link = Link(FUSED, joined, {value.name: value.name for value in joined.graph.input})
    packed = read_packed(link, sides)
    done = Link(FUSED, optimise(packed.model), packed.wiring)
    return Deployment((_of(done, first),), {name: f"{FUSED}/{name}" for name in deployment.outputs})


def _split(deployment: Deployment, wanted: Mapping[str, Sequence[str]] | None) -> Deployment:
    """Cut every model that can be; with `wanted`, the one that has the tensors or inputs that it names."""
    cuts = {part.role: found for part in deployment.parts if (found := _cuts(part, wanted))}
    if not cuts:
        raise ArtifactError(
            "the model cannot be split",
            expected="two towers, or embeddings and layers" if wanted is None else f"a model with {_listed(wanted)}",
            received=", ".join(str(part.graph.path) for part in deployment.parts if not _is_features(part)),
            hint="Name the tensors or inputs of each part in export.split, or choose another shape.",
        )
    alone = len(cuts) == 1
    parts: list[Part] = []
    moved: dict[str, str] = {}  # what the outputs of the models that are cut are called now
    for part in deployment.parts:
        kept = Part(part.role, part.graph, {n: moved.get(s, s) for n, s in part.wiring.items()}, part.changed)
        if part.role not in cuts:
            parts.append(kept)
            continue
        made, outputs = _cut(kept, cuts[part.role], "" if alone else f"{part.role}_")
        parts += made
        moved |= {f"{part.role}/{name}": source for name, source in outputs.items()}
    return Deployment(tuple(parts), {name: moved.get(source, source) for name, source in deployment.outputs.items()})


def _cuts(part: Part, wanted: Mapping[str, Sequence[str]] | None) -> dict[str, list[str]]:
    """Return where to cut a part; nowhere if it is the features, or not the one that is meant."""
    model = part.graph.model
    if _is_features(part):
        return {}
    if wanted is not None:
        made = {name for node in model.graph.node for name in node.output} | {v.name for v in model.graph.input}
        return cuts_of(model, wanted) if made.issuperset(_names(wanted)) and TOP not in wanted else {}
    return cuts_of(model)


def _cut(part: Part, cuts: Mapping[str, Sequence[str]], prefix: str) -> tuple[list[Part], dict[str, str]]:
    links, outputs = cut(part.graph.model, cuts)
    unwired = {value.name for value in part.graph.model.graph.input}  # what has a value in the graph stays there
    inner = {source for link in links for source in link.wiring.values()} - unwired
    parts = []
    for link in links:
        sources = {name: prefix + source for name, source in link.wiring.items() if source in inner}
        given = {name: part.wiring[source] for name, source in link.wiring.items() if source in part.wiring}
        parts.append(_of(Link(prefix + link.role, link.model, sources | given), part))
    return parts, {name: prefix + source for name, source in outputs.items()}


def _of(link: Link, part: Part) -> Part:
    return Part(link.role, OnnxFile(part.graph.path, link.model), link.wiring, changed=True)


def _is_features(part: Part) -> bool:
    return any(prop.key == FEATURES for prop in part.graph.model.metadata_props)


def _names(wanted: Mapping[str, Iterable[str]]) -> list[str]:
    return [name for names in wanted.values() for name in names]


def _listed(wanted: Mapping[str, Iterable[str]]) -> str:
    return ", ".join(_names(wanted))

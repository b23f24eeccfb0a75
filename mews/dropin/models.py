"""Models as steps: Keras and Merlin, SavedModels, forests, PyTorch modules, and ONNX files that exist already.

Each function returns a step, and the columns that it makes. `columns` are what the model may read, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from etl.errors import ArtifactError, ConfigError
from etl.graph import Column
from etl.names import FINGERPRINT, SCORE
from mews.dropin.steps import Arrays, Made, Source, Step
from training.export.forests import OUTPUT, Answer

Loaded = tuple[Step, Made]


def keras_step(role: str, model: Any, columns: Mapping[str, Source], names: Sequence[str] = ()) -> Loaded:
    """A Keras or Merlin model in memory, or the folder of a SavedModel; `names` of its outputs, if they are known."""
    from training.export.foreign import network
    from training.export.onnx import network_to_onnx
    from training.tensorflow import quiet, tensorflow

    read = network(model, _typed(columns), names)

    def write(target: Path, fingerprint: str, needed: Collection[str]) -> Mapping[str, str]:
        network_to_onnx(read, target, fingerprint)
        return {name: name for name in read.names}

    def own(given: Arrays) -> Arrays:
        tf = tensorflow()
        with quiet():
            found = read.call({c.name: tf.constant(given[c.name].astype(c.dtype)) for c in read.columns})
        return {name: found[name].numpy() for name in read.names}

    return _loaded(role, read.what, [c.name for c in read.columns], columns, write, own, read.made)


def forest_step(role: str, model: Any, columns: Mapping[str, Source], answer: Answer, output: str = OUTPUT) -> Loaded:
    """A forest, asked for `answer`."""
    from training.export.forest_libraries import read_forest
    from training.export.forests import forest_to_onnx

    forest = read_forest(model)
    chosen, width = forest.order(_typed(columns)), forest.width(answer)

    def write(target: Path, fingerprint: str, needed: Collection[str]) -> Mapping[str, str]:
        forest_to_onnx(forest, chosen, target, fingerprint, answer, output)
        return {output: output}

    def own(given: Arrays) -> Arrays:
        values = np.concatenate([given[column.name].astype(np.float32) for column in chosen], axis=1)
        return {output: forest.predict(values, answer)}

    made = Column(output, "float32", width > 1, width if width > 1 else None)
    return _loaded(role, f"the {forest.family} forest", [c.name for c in chosen], columns, write, own, [made])


def torch_step(role: str, module: Any, columns: Mapping[str, Source], names: Sequence[str]) -> Loaded:
    """A torch.nn.Module, called with a dict of columns; it answers a column for each of `names`."""
    from training.export.torch import predict_torch, torch_to_onnx

    typed = _typed(columns)

    def write(target: Path, fingerprint: str, needed: Collection[str]) -> Mapping[str, str]:
        torch_to_onnx(module, typed, names, target, fingerprint)
        return {name: name for name in names}

    def own(given: Arrays) -> Arrays:
        return predict_torch(module, typed, names, {c.name: given[c.name].astype(c.dtype) for c in typed})

    made = [Column(name, "float32") for name in names]
    return _loaded(role, type(module).__name__, list(columns), columns, write, own, made)


def onnx_step(
    role: str, file: Path, columns: Mapping[str, Source], own: Callable[[Arrays], Arrays] | None = None
) -> Loaded:
    """An ONNX file whose inputs are named as columns, [batch, width]; `own` is what it was made of, if that can run."""
    from ensemble.graphs.onnx_file import OnnxFile
    from etl.dtypes import BY_TRITON

    graph = OnnxFile.open(file)
    if missing := [spec.name for spec in graph.inputs if spec.name not in columns and not spec.optional]:
        hint = "Name the file's inputs as the columns."
        raise ConfigError(f"{file} reads {', '.join(missing)}", expected=", ".join(columns), hint=hint)
    made = []
    for spec in graph.outputs:
        if len(spec.dims) > 1 or spec.dims == (-1,):
            raise ArtifactError(f"{file}: output {spec}", expected="[batch] or [batch, width], of a fixed width")
        width = spec.dims[0] if spec.dims else 1
        made.append(Column(spec.name, BY_TRITON[spec.dtype].name, width > 1, width if width > 1 else None))

    def write(target: Path, fingerprint: str, needed: Collection[str]) -> Mapping[str, str]:
        import onnx

        from etl.onnx_files import open_graph, save_graph

        model = open_graph(file)
        kept = {prop.key: prop.value for prop in model.metadata_props}
        onnx.helper.set_model_props(model, kept | ({FINGERPRINT: fingerprint} if fingerprint else {}))
        save_graph(model, target)
        return {column.name: column.name for column in made}

    read = [spec.name for spec in graph.inputs if spec.name in columns]
    return _loaded(role, str(file), read, columns, write, own, made)


def named_score(loaded: Loaded) -> Loaded:
    """Call the only number of a model `score`, as Mews' own models do."""
    step, made = loaded
    if len(made) != 1 or next(iter(made.values())).column.is_list:
        return loaded
    (source,) = made.values()
    return step, {SCORE: replace(source, column=replace(source.column, name=SCORE))}


def _typed(columns: Mapping[str, Source]) -> list[Column]:
    return [replace(source.column, name=name) for name, source in columns.items()]


def _loaded(
    role: str,
    what: str,
    read: Sequence[str],
    columns: Mapping[str, Source],
    write: Callable[[Path, str, Collection[str]], Mapping[str, str]],
    own: Callable[[Arrays], Arrays] | None,
    made: Sequence[Column],
) -> Loaded:
    step = Step(role, what, {name: columns[name] for name in read}, write, own)
    return step, {column.name: Source(role, column.name, column) for column in made}

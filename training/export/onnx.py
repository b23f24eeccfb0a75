"""Export a trained model to ONNX, simplified for single rows and compared with TensorFlow before it is written."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etl.errors import MewsError
from etl.graph import Column
from etl.names import FINGERPRINT, ITEM, SCORE, TAGS
from etl.onnx_files import move_graph, save_graph
from training.export.foreign import Call, Network, Score, foreign
from training.export.large import convert
from training.export.ranked import misplaced
from training.inputs import Feature
from training.predict import load_answers, read_features
from training.tensorflow import quiet, tensorflow
from training.train import read_training

OPSET = 17
TOLERANCE = 1e-5
_COMPARED_ROWS = (257, 1)

Input = Feature | Column


def to_onnx(model: Path, target: Path) -> None:
    """Write the SavedModel of the folder `model` (made by train) as the ONNX file `target`, atomically.

    Inputs carry the features' names and types, [batch, 1] or [batch, length]; the outputs are the answers of the
    model's task, such as `score` [batch, 1] float32. The fingerprint is in metadata_props under mews.fingerprint, if
    the features had one. MewsError, and no file, when ONNX Runtime and TensorFlow differ by more than 1e-5 on random
    rows.
    """
    facts = read_training(model)
    features = read_features(facts)
    columns = [
        Column(f.name, f.given, f.length is not None, f.length, f.tags, cardinality=f.cardinality) for f in features
    ]
    tf, answers = tensorflow(), load_answers(model, features)
    _write_all(
        lambda tensors: answers.call({f.name: tf.cast(tensors[f.name], f.dtype) for f in features}),
        columns,
        answers.names,
        target,
        facts["fingerprint"],
        f"the ONNX export of {model}",
    )


def network_to_onnx(network: Network, target: Path, fingerprint: str) -> None:
    """Write a network (training/export/foreign.py) as the ONNX file `target`, atomically, its outputs by their names.

    Inputs carry the columns' names and types, [batch, 1] or [batch, length]; outputs are [batch, ...]. MewsError,
    and no file, when ONNX Runtime and TensorFlow differ by more than 1e-5 on random rows (of numbers over 1: relative).
    """
    _write_all(network.call, network.columns, network.names, target, fingerprint, f"the ONNX export of {network.what}")


def keras_to_onnx(model: Any, columns: Sequence[Column], target: Path, fingerprint: str) -> None:
    """Write a model that Mews did not train as the ONNX file `target`, atomically.

    `model` is a Keras or Merlin model in memory, trained, or the folder of a SavedModel. `columns` and `fingerprint`
    are the feature graph's: output_columns and fingerprint; columns that the model does not read are left out.
    Inputs carry the columns' names and types, [batch, 1] or [batch, length]; the output is `score` [batch, 1] float32.
    ConfigError when the model reads other columns or has not one number a row; MewsError, and no file, when ONNX
    Runtime and TensorFlow differ by more than 1e-5 on random rows.
    """
    read, score = foreign(model, columns)
    what = f"the ONNX export of {model if isinstance(model, Path | str) else type(model).__name__}"
    _write(score, read, target, fingerprint, what)


def _write(score: Score, columns: Sequence[Input], target: Path, fingerprint: str, what: str) -> None:
    _write_all(lambda tensors: {SCORE: score(tensors)}, columns, (SCORE,), target, fingerprint, what)


def _write_all(
    call: Call, columns: Sequence[Input], outputs: Sequence[str], target: Path, fingerprint: str, what: str
) -> None:
    """Convert, simplify, write, compare with TensorFlow, and put in place; large tables lie beside the graph."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp") as folder:
        staged = Path(folder, target.name)
        save_graph(_simplified(call, columns, outputs, fingerprint, Path(folder)), staged)
        _check(staged)
        compare(staged, call, columns, what)
        move_graph(staged, target)


def _check(path: Path) -> None:
    """By path ONNX looks at tensors beside the graph without reading them."""
    import onnx

    onnx.checker.check_model(str(path), full_check=True)


def _simplified(call: Call, columns: Sequence[Input], outputs: Sequence[str], fingerprint: str, folder: Path) -> Any:
    import onnx

    proto = _convert(call, columns, outputs, folder)
    simplify(proto.graph)
    proto.producer_name, proto.producer_version = "mews", ""
    used = {node.domain for node in proto.graph.node}
    kept = [opset for opset in proto.opset_import if opset.domain in used]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)  # tf2onnx declares domains that no node uses; joining graphs would trip over them
    tags = {column.name: list(column.tags) for column in columns if column.tags}
    props = {FINGERPRINT: fingerprint, TAGS: json.dumps(tags) if tags else ""}
    onnx.helper.set_model_props(proto, {key: value for key, value in props.items() if value})
    return proto


def _convert(call: Call, columns: Sequence[Input], outputs: Sequence[str], folder: Path) -> Any:
    """tf2onnx on a function of positional inputs, whose names are then set to the columns' own."""
    tf = tensorflow()
    with quiet():
        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        names = [column.name for column in columns]

        def positional(*tensors: Any) -> list[Any]:
            made = call(dict(zip(names, tensors, strict=True)))
            return [tf.identity(made[output]) for output in outputs]

        traced = tf.function(positional, autograph=False)
        # Column names may hold characters that TensorFlow does not allow in a tensor's name.
        signature = [
            tf.TensorSpec([None, column.length or 1], column.dtype, name=f"input_{number}")
            for number, column in enumerate(columns)
        ]
        proto = convert(traced, signature, OPSET, folder)
    _rename(proto.graph, {f"input_{number}": name for number, name in enumerate(names)}, outputs)
    return proto


def _rename(graph: Any, inputs: dict[str, str], outputs: Sequence[str]) -> None:
    """Name the inputs and the outputs, number everything else, and call the first dimension `batch`."""
    names = {**inputs, **{value.name: name for value, name in zip(graph.output, outputs, strict=True)}}
    taken = set(names.values())
    for number, value in enumerate([*(i.name for i in graph.initializer), *(o for n in graph.node for o in n.output)]):
        names.setdefault(value, f"mews/{number}" if f"mews/{number}" not in taken else f"mews//{number}")
    for named in [*graph.initializer, *graph.input, *graph.output]:
        named.name = names[named.name]
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        node.input[:] = [names.get(value, value) for value in node.input]
        node.output[:] = [names[value] for value in node.output]
    del graph.value_info[:]
    graph.name = "model"
    for value in [*graph.input, *graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def simplify(graph: Any) -> None:
    """Drop the reshaping around embedding lookups that only TensorFlow needs; the numbers stay the same.

    Squeeze(Unsqueeze(x)) along one axis is x. Unsqueeze(Gather(table, Squeeze(codes [batch, 1])), 1) is
    Gather(table, codes): both are [batch, 1, dim].
    """
    import onnx.numpy_helper

    constants = {value.name: value for value in graph.initializer}
    made = {node.output[0]: node for node in graph.node}

    def axes(node: Any) -> list[int]:
        stored = constants.get(node.input[1]) if len(node.input) > 1 else None
        return [] if stored is None else onnx.numpy_helper.to_array(stored).reshape(-1).tolist()

    renamed: dict[str, str] = {}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        before = made.get(node.input[0]) if node.input else None
        if before is None:
            continue
        if node.op_type == "Squeeze" and before.op_type == "Unsqueeze" and axes(node) == axes(before) == [-1]:
            renamed[node.output[0]] = before.input[0]
        if node.op_type == "Unsqueeze" and before.op_type == "Gather" and axes(node) == [1]:
            codes = made.get(before.input[1])
            if codes is not None and codes.op_type == "Squeeze" and axes(codes) in ([-1], [1]):
                node.CopyFrom(
                    onnx.helper.make_node("Gather", [before.input[0], codes.input[0]], list(node.output), node.name)
                )
    drop_unused(graph)


def drop_unused(graph: Any) -> None:
    """Take out nodes and constants that no output needs."""
    needed, kept = {value.name for value in graph.output}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    kept.reverse()
    initializers = [value for value in graph.initializer if value.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(initializers)


def compare(path: Path, call: Call, columns: Sequence[Input], what: str) -> float:
    """Return the largest difference between ONNX Runtime and TensorFlow on random rows; MewsError above 1e-5.

    Of numbers over 1 it is relative: float32 holds no more.
    """
    import onnxruntime

    tf, largest = tensorflow(), 0.0
    with quiet():
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    read, outputs = {value.name for value in session.get_inputs()}, [value.name for value in session.get_outputs()]
    for count in _COMPARED_ROWS:
        rows = random_rows(columns, count)
        answers = session.run(outputs, {name: values for name, values in rows.items() if name in read})
        with quiet():
            wanted = call({name: tf.constant(values) for name, values in rows.items()})
        expected = {output: wanted[output].numpy() for output in outputs}
        for output, found in zip(outputs, answers, strict=True):
            if output == ITEM and SCORE in expected:  # ranked items: places may change where scores tie
                largest = max(largest, float(misplaced(found, expected[ITEM], expected[SCORE])))
            else:
                largest = max(largest, _difference(found, expected[output]))
    if not largest <= TOLERANCE:
        raise MewsError(what, expected=f"a difference of at most {TOLERANCE} to TensorFlow", received=str(largest))
    return largest


def _difference(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> float:
    return float((np.abs(found - wanted) / np.maximum(1, np.abs(wanted))).max(initial=0))


def random_rows(columns: Sequence[Input], rows: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Random inputs of a model: codes over the whole domain (lists with padding at their end), normal numbers.

    Integers whose domain nobody knows are 0 and 1.
    """
    random, made = np.random.default_rng(seed), {}
    for column in columns:
        shape = (rows, column.length or 1)
        if column.cardinality is None and column.dtype.startswith("float"):
            made[column.name] = random.normal(size=shape).astype(column.dtype)
            continue
        codes = random.integers(0, column.cardinality or 2, shape, dtype="int64")
        if column.length:
            codes[np.arange(column.length) >= random.integers(0, column.length + 1, (rows, 1))] = 0
        made[column.name] = codes.astype(column.dtype)
    return made

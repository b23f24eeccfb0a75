"""Forests to ONNX: XGBoost, LightGBM and scikit-learn's random forests, answering as Merlin's PredictForest does.

The converters are onnxmltools' and skl2onnx's; what is added is a door of named columns and, behind the trees, the
answer that the parameters of NVIDIA's Forest Inference Library (FIL) ask for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from etl.atomic import atomic_file
from etl.errors import ConfigError
from etl.graph import Column
from training.export.onnx import OPSET, drop_unused
from training.tensorflow import quiet

Array = npt.NDArray[Any]
Mode = Literal["values", "positive", "probabilities", "class"]

OUTPUT = "output__0"
"""What FIL calls the output of a forest."""
_ML_OPSET = 4
_WHOLE = 1e-5
_DEFAULT_NAME = re.compile(r"(f|Column_)\d+")


@dataclass(frozen=True)
class Answer:
    """What a forest is asked for; the first three are FIL's parameters.

    `positive` asks a classifier of two classes for the probability of the second, where nothing else is asked for.
    """

    predict_proba: bool = False
    output_class: bool = False
    threshold: float = 0.5
    positive: bool = False


@dataclass(frozen=True)
class Forest:
    """One forest of one library: `natural` is what the library's predict gives, `classes` 0 for a regression.

    `names` are the columns it was trained on, in order, empty where it does not know; `labels` are its classes.
    `own` and `shares` are the library's answers to float32 [rows, columns]: its predict, and the probability of each
    class. `convert` gives the trees as an ONNX model of one input [batch, columns]; its numbers are the last output
    of floats.
    """

    family: str
    features: int
    names: tuple[str, ...]
    classes: int
    natural: Mode
    convert: Callable[[], Any]
    own: Callable[[Array], Array]
    shares: Callable[[Array], Array] | None = None
    labels: tuple[float, ...] = ()
    trees: int = 1
    """How many trees vote, where their votes are averaged: votes are counted, for halves and ties are exact then."""

    def mode(self, answer: Answer) -> Mode:
        """Return what the output holds; ConfigError for an answer that this forest cannot give."""
        what = f"the {self.family} forest: predict_proba or output_class"
        if (answer.predict_proba or answer.output_class) and not self.classes:
            raise ConfigError(what, expected="a classifier", received="one of numbers")
        if answer.predict_proba and self.shares is None:
            raise ConfigError(what, expected="a forest of probabilities", hint="Train it with multi:softprob.")
        if answer.predict_proba:
            return "probabilities"
        if answer.output_class:
            return "class"
        return "positive" if answer.positive and self.classes == 2 else self.natural

    def width(self, answer: Answer) -> int:
        """Return how many numbers the answer has for each row."""
        return self.classes if self.mode(answer) == "probabilities" else 1

    def order(self, columns: Sequence[Column]) -> list[Column]:
        """Return the columns that the forest reads, in its order: by its names, or all of them as they come.

        ConfigError when they are not those it was trained on, or lists or texts.
        """
        by_name = {column.name: column for column in columns}
        names = self.names if set(self.names) <= set(by_name) else ()
        chosen = [by_name[name] for name in names] or list(columns)
        unknown = [name for name in self.names if not names and not _DEFAULT_NAME.fullmatch(name)]
        if len(chosen) != self.features or unknown:
            raise ConfigError(
                f"the columns of the {self.family} forest",
                expected=", ".join(self.names) if unknown else f"{self.features} columns",
                received=", ".join(by_name),
                hint="Train it on the workflow's output columns, by their names.",
            )
        if wrong := [
            column.name
            for column in chosen
            if column.dtype == "string" or (column.length or 1) > 1 or (column.is_list and not column.length)
        ]:
            raise ConfigError(f"columns {', '.join(wrong)}", expected="one number a row", received="lists or texts")
        return chosen

    def predict(self, values: Array, answer: Answer) -> Array:
        """Return the library's own answer to `values` [rows, columns], float32 [rows, width]."""
        values, mode = values.astype(np.float32), self.mode(answer)
        if self.shares is None or (mode == self.natural and not answer.output_class):
            found = self.own(values)
        elif mode == "class":
            found = self._classes(self.shares(values), answer)
        else:
            shares = self.shares(values)
            found = shares[:, 1] if mode == "positive" else shares
        return np.asarray(found, dtype=np.float32).reshape(len(values), -1)

    def _classes(self, shares: Array, answer: Answer) -> Array:
        trees = np.float32(self.trees)
        above = np.float32(shares[:, 1] * self.trees) > np.float32(answer.threshold) * trees
        found = above if self.classes == 2 else shares.argmax(axis=1)
        labels: Array = np.asarray(self.labels, dtype=np.float32)
        chosen: Array = labels[found.astype(np.int64)]
        return chosen


def forest_to_onnx(
    forest: Forest, columns: Sequence[Column], target: Path, fingerprint: str, answer: Answer, output: str = OUTPUT
) -> None:
    """Write the forest as the ONNX file `target`, atomically.

    Inputs carry the names and types of `columns`, [batch, 1], in any order; the output is float32 [batch, width].
    """
    import onnx

    chosen = forest.order(columns)
    with quiet():
        trees = forest.convert()
    graph, helper = trees.graph, onnx.helper
    inner = graph.input[0].name
    scores = _scores(graph)
    before = [
        helper.make_node("Cast", [c.name], [f"mews/in/{n}"], to=onnx.TensorProto.FLOAT) for n, c in enumerate(chosen)
    ]
    before.append(helper.make_node("Concat", [f"mews/in/{n}" for n in range(len(chosen))], [inner], axis=1))
    mode = forest.mode(answer)
    if mode == "class" and forest.trees > 1:
        _count_votes(graph, forest.trees)
    after, constants = _after(forest, mode, answer, scores, output)
    types = {column.name: onnx.helper.np_dtype_to_tensor_dtype(np.dtype(column.dtype)) for column in chosen}
    made = helper.make_graph(
        [*before, *graph.node, *after],
        "forest",
        [helper.make_tensor_value_info(name, kind, ["batch", 1]) for name, kind in types.items()],
        [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["batch", forest.width(answer)])],
        [*graph.initializer, *constants],
    )
    drop_unused(made)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    proto = helper.make_model(made, opset_imports=opsets, ir_version=8, producer_name="mews")
    if fingerprint:
        helper.set_model_props(proto, {"mews.fingerprint": fingerprint})
    onnx.checker.check_model(proto)
    with atomic_file(target) as temporary:
        temporary.write_bytes(proto.SerializeToString())


def _scores(graph: Any) -> str:
    """The name of the trees' numbers: the last output of floats, for classifiers have their class before it."""
    import onnx

    floats = [value.name for value in graph.output if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    return str(floats[-1])


def _count_votes(graph: Any, trees: int) -> None:
    """Have the trees' votes added, not averaged: in float32 thirty thirtieths are not one."""
    weights = next(a for node in graph.node for a in node.attribute if a.name == "class_weights")
    counted = np.asarray(weights.floats, dtype=np.float64) * trees
    whole = np.rint(counted)
    weights.floats[:] = np.where(np.abs(counted - whole) < _WHOLE, whole, counted).tolist()


def _after(forest: Forest, mode: Mode, answer: Answer, scores: str, output: str) -> tuple[list[Any], list[Any]]:
    """The nodes, and their constants, that make the answer from the trees' numbers."""
    import onnx

    node, array = onnx.helper.make_node, onnx.numpy_helper.from_array
    one = array(np.array([1], dtype=np.int64), "mews/one")
    positive = node("Gather", [scores, "mews/one"], [output], axis=1)
    if mode in ("values", "probabilities"):
        return [node("Identity", [scores], [output])], []
    if mode == "positive":
        return [positive], [one]
    labels = array(np.asarray(forest.labels, dtype=np.float32), "mews/labels")
    choose = node("Gather", ["mews/labels", "mews/class"], [output])
    if forest.classes == 2:  # the converters give the second class's share, and the first's as 1 less it
        limit = answer.threshold if answer.output_class else 0.5
        threshold = array(np.float32(limit) * np.float32(forest.trees), "mews/threshold")
        positive.output[0] = "mews/positive"
        above = node("Greater", ["mews/positive", "mews/threshold"], ["mews/above"])
        cast = node("Cast", ["mews/above"], ["mews/class"], to=onnx.TensorProto.INT64)
        return [positive, above, cast, choose], [one, threshold, labels]
    return [node("ArgMax", [scores], ["mews/class"], axis=1, keepdims=1), choose], [labels]

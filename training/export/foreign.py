"""Models that Mews did not train: Keras and Merlin models in memory, and SavedModel folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.errors import ArtifactError, ConfigError
from etl.graph import Column
from etl.names import SCORE, VALUES
from training.tensorflow import merlin_models, quiet, tensorflow

Score = Callable[[dict[str, Any]], Any]
"""{column: [rows, width]} to [rows, 1] float32, on tensors."""

Call = Callable[[dict[str, Any]], dict[str, Any]]
"""{column: [rows, width]} to {output: [rows, ...]}, on tensors."""

_SIGNATURE = "serving_default"
_BY_NAME = "Give the model the workflow's output columns by their names."
_RAGGED = (
    "It was saved for lists of any length: call it with lists of a fixed length, [rows, length], and save it again."
)


@dataclass(frozen=True)
class Network:
    """A Keras or Merlin model, or a SavedModel, with all its outputs: the columns it reads, and its outputs by name.

    `made` are the outputs as columns, a vector as a list of fixed length.
    """

    columns: tuple[Column, ...]
    names: tuple[str, ...]
    made: tuple[Column, ...]
    call: Call
    what: str


def network(model: Any, columns: Sequence[Column], names: Sequence[str] = ()) -> Network:
    """Return `model`, as `foreign` takes it, with all its outputs; a scalar of a row becomes [rows, 1].

    `names` are those of the outputs where the model itself has none. ConfigError as `foreign`, and for outputs that are
    not numbers with the batch first and one more dimension at most.
    """
    wanted, answer = _saved(Path(model)) if isinstance(model, Path | str) else _in_memory(model)
    read = _read(wanted, columns)
    shaped = wanted or {}
    spelled = tuple(names) or tuple(getattr(model, "output_names", None) or ())

    def call(tensors: dict[str, Any]) -> dict[str, Any]:
        found = answer({column.name: _as(tensors[column.name], shaped.get(column.name)) for column in read})
        return {name: _row_first(name, value) for name, value in _named(found, spelled).items()}

    what = str(model) if isinstance(model, Path | str) else type(model).__name__
    tf = tensorflow()
    with quiet():
        probe = call({column.name: tf.zeros([2, column.length or 1], column.dtype) for column in read})
    made = tuple(Column(name, value.dtype.name, *_width(value)) for name, value in probe.items())
    return Network(tuple(read), tuple(probe), made, call, what)


def _width(value: Any) -> tuple[bool, int | None]:
    return (False, None) if value.shape[1] == 1 else (True, int(value.shape[1]))


def _named(found: Any, names: Sequence[str]) -> dict[str, Any]:
    """The outputs by name; those of a dict have theirs, but that a single one may be given another."""
    if isinstance(found, dict):
        single = len(found) == len(names) == 1
        return dict(zip(names, found.values(), strict=True)) if single else dict(found)
    values = list(found) if isinstance(found, list | tuple) else [found]
    if len(names) != len(values):
        names = [SCORE] if len(values) == 1 else [f"output_{number}" for number in range(len(values))]
    return dict(zip(names, values, strict=True))


def _row_first(name: str, value: Any) -> Any:
    """One number a row as [rows, 1], a vector as [rows, width]; ConfigError for anything else."""
    tf = tensorflow()
    shape = getattr(value, "shape", None)
    if shape is None or shape.rank not in (1, 2) or not (value.dtype.is_floating or value.dtype.is_integer):
        received = f"{getattr(shape, 'as_list', lambda: type(value).__name__)()}"
        raise ConfigError(
            f"the model's output {name!r}", expected="numbers, [rows] or [rows, width]", received=received
        )
    return tf.reshape(value, [-1, 1]) if shape.rank == 1 else value


def foreign(model: Any, columns: Sequence[Column]) -> tuple[list[Column], Score]:
    """Return those of `columns` that the model reads, and the function that scores them.

    `model` is a Keras or Merlin model, or the folder of a SavedModel with the signature `serving_default`. ConfigError
    when it reads columns that are not there, or lists without a fixed length, or gives more than one number a row.
    """
    wanted, score = _saved(Path(model)) if isinstance(model, Path | str) else _in_memory(model)
    read = _read(wanted, columns)
    if SCORE in [column.name for column in read]:
        raise ConfigError(f"column {SCORE!r}", expected="another name", hint="The output of every model has this one.")
    shaped = wanted or {}
    return read, lambda tensors: _one(score({c.name: _as(tensors[c.name], shaped.get(c.name)) for c in read}))


def _read(wanted: Mapping[str, Any] | None, columns: Sequence[Column]) -> list[Column]:
    """Those of `columns` that a model reads; ConfigError when one is not there, or a list without a fixed length."""
    by_name = {column.name: column for column in columns}
    names = list(by_name) if wanted is None else list(wanted)
    if missing := [name for name in names if name not in by_name]:
        raise ConfigError(
            f"the model reads {', '.join(missing)}",
            expected=f"columns of the features: {', '.join(by_name)}",
            hint=_RAGGED if any(name.endswith(VALUES) for name in missing) else _BY_NAME,
        )
    if ragged := [name for name in names if by_name[name].is_list and by_name[name].length is None]:
        raise ConfigError(
            f"lists {', '.join(ragged)}",
            expected="a fixed length",
            received="lists of different lengths",
            hint="Put ListSlice(start, end, pad=True) behind Categorify.",
        )
    return [by_name[name] for name in names]


def _in_memory(model: Any) -> tuple[Mapping[str, Any] | None, Callable[[dict[str, Any]], Any]]:
    """The columns of a Merlin model are in its schema, those of a functional Keras model are its inputs' names."""
    merlin_models()
    if not callable(model):
        raise ConfigError("the model", expected="a Keras model or a SavedModel folder", received=type(model).__name__)
    schema, inputs = getattr(model, "input_schema", None), getattr(model, "inputs", None)
    wanted: Mapping[str, Any] | None = None
    if schema is not None:
        wanted = dict.fromkeys(schema.column_names)
    elif inputs:
        wanted = dict(zip(model.input_names, inputs, strict=True))
    return wanted, lambda tensors: model(tensors, training=False)


def _saved(folder: Path) -> tuple[Mapping[str, Any], Callable[[dict[str, Any]], Any]]:
    tf = tensorflow()
    merlin_models()  # registers Merlin's layers
    if not (folder / "saved_model.pb").is_file():
        raise ArtifactError(f"SavedModel {folder}", expected="a folder with saved_model.pb", received="none")
    with quiet():
        loaded = tf.saved_model.load(str(folder))
    if _SIGNATURE not in loaded.signatures:
        found = ", ".join(loaded.signatures) or "none"
        raise ArtifactError(f"SavedModel {folder}", expected=f"the signature {_SIGNATURE}", received=found)
    signature = loaded.signatures[_SIGNATURE]
    # `loaded` is named here so that its variables live as long as this function.
    return signature.structured_input_signature[1], lambda tensors: loaded.signatures[_SIGNATURE](**tensors)


def _as(tensor: Any, spec: Any) -> Any:
    """Give the tensor [rows, width] the shape and type that the model declares."""
    tf = tensorflow()
    if spec is None:
        return tensor
    return tf.cast(tf.reshape(tensor, [-1]) if spec.shape.rank == 1 else tensor, spec.dtype)


def _one(outputs: Any) -> Any:
    """The model's one number a row as [rows, 1] float32."""
    tf = tensorflow()
    found = outputs if isinstance(outputs, dict) else {"": outputs}
    output = next(iter(found.values()))
    shape = getattr(output, "shape", None)
    if len(found) != 1 or shape is None or shape.rank not in (1, 2) or list(shape[1:]) not in ([], [1]):
        names = ", ".join(f"{name} {getattr(value, 'shape', type(value))}".strip() for name, value in found.items())
        raise ConfigError("the model's output", expected="one number a row", received=names)
    return tf.cast(tf.reshape(output, [-1, 1]), "float32")

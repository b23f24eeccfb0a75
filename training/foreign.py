"""Models that Mews did not train: Keras and Merlin models in memory, and SavedModel folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from etl.errors import ArtifactError, ConfigError
from etl.graph import Column
from etl.names import SCORE
from training.tensorflow import merlin_models, quiet, tensorflow

Score = Callable[[dict[str, Any]], Any]
"""{column: [rows, width]} to [rows, 1] float32, on tensors."""

_SIGNATURE = "serving_default"


def foreign(model: Any, columns: Sequence[Column]) -> tuple[list[Column], Score]:
    """Return those of `columns` that the model reads, and the function that scores them.

    `model` is a Keras or Merlin model, or the folder of a SavedModel with the signature `serving_default`. ConfigError
    when it reads columns that are not there, or lists without a fixed length, or gives more than one number a row.
    """
    wanted, score = _saved(Path(model)) if isinstance(model, Path | str) else _in_memory(model)
    by_name = {column.name: column for column in columns}
    names = list(by_name) if wanted is None else list(wanted)
    if missing := [name for name in names if name not in by_name]:
        raise ConfigError(
            f"the model reads {', '.join(missing)}",
            expected=f"columns of the features: {', '.join(by_name)}",
            hint="Give the model the workflow's output columns by their names.",
        )
    if ragged := [name for name in names if by_name[name].is_list and by_name[name].length is None]:
        raise ConfigError(
            f"lists {', '.join(ragged)}",
            expected="a fixed length",
            received="lists of different lengths",
            hint="Put ListSlice(start, end, pad=True) behind Categorify.",
        )
    if SCORE in names:
        raise ConfigError(f"column {SCORE!r}", expected="another name", hint="The output of every model has this one.")
    shaped = wanted or {}
    return [by_name[name] for name in names], lambda tensors: score(
        {name: _as(tensors[name], shaped.get(name)) for name in names}
    )


def _in_memory(model: Any) -> tuple[Mapping[str, Any] | None, Score]:
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
    return wanted, lambda tensors: _one(model(tensors, training=False))


def _saved(folder: Path) -> tuple[Mapping[str, Any], Score]:
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
    return signature.structured_input_signature[1], lambda tensors: _one(loaded.signatures[_SIGNATURE](**tensors))


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

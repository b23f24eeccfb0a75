"""A trained model on disk: its SavedModel for inference, and the description beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from etl.errors import ArtifactError
from etl.names import SCORE
from training import data
from training.tasks import Task
from training.tensorflow import quiet, tensorflow


def save(model: Any, task: Task, inputs: data.Inputs, folder: Path) -> None:
    """Write the model as a SavedModel for inference: {feature: [batch, width]} -> the answers of its task.

    Features are called there as data.tensor_names says. A model with user_tower and item_tower has them there too, as
    functions of that side's features alone that return {"vector": [batch, dim]}. One that answers with items has
    `every_item` there too, which returns {"score": [batch, codes]}, of all items whatever the list holds.
    """
    tf = tensorflow()
    names = data.tensor_names(inputs.features)
    signature = {
        names[feature.name]: tf.TensorSpec([None, feature.width], feature.dtype, name=names[feature.name])
        for feature in inputs.features
    }

    def score(columns: dict[str, Any]) -> dict[str, Any]:
        return task.answer(model, {name: columns[tensor] for name, tensor in names.items()})

    module = tf.Module()
    # Only the variables are tracked: Keras' own format holds a trace of every layer, and takes far longer to write.
    module.weights = model.variables
    module.score = tf.function(score, input_signature=[signature], autograph=False)
    if hasattr(model, "every_item"):
        module.every_item = tf.function(
            lambda columns: {SCORE: model.every_item({name: columns[tensor] for name, tensor in names.items()})},
            input_signature=[signature],
            autograph=False,
        )
    for side in ("user", "item"):
        if hasattr(model, f"{side}_tower"):
            setattr(module, f"{side}_tower", _tower(model, side, inputs))
    with quiet():
        tf.saved_model.save(module, str(folder), signatures=module.score)


def _tower(model: Any, side: str, inputs: data.Inputs) -> Any:
    """The function from the features of one side to its vectors."""
    tf, names = tensorflow(), data.tensor_names(inputs.features)
    own = data.of_side(inputs.features, side)
    signature = {names[f.name]: tf.TensorSpec([None, f.width], f.dtype, name=names[f.name]) for f in own}
    tower = getattr(model, f"{side}_tower")

    def vector(columns: dict[str, Any]) -> dict[str, Any]:
        return {"vector": tower({feature.name: columns[names[feature.name]] for feature in own})}

    return tf.function(vector, input_signature=[signature], autograph=False)


def read_training(model: Path) -> dict[str, Any]:
    """The contents of a model folder's training.json; ArtifactError when it is not one."""
    try:
        found: dict[str, Any] = json.loads((model / "training.json").read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"model folder {model}", expected="training.json", received=str(error)) from error
    return found

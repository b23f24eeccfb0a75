"""A stand-in for Triton's TensorFlow backend, in the Python backend: runs 1/model.savedmodel. Stands alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """One instance."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Load the SavedModel."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow as tf

        config = json.loads(arguments["model_config"])
        folder = Path(arguments["model_repository"]) / arguments["model_version"] / "model.savedmodel"
        self.tensorflow, self.loaded = tf, tf.saved_model.load(str(folder))
        self.score = self.loaded.signatures["serving_default"]
        # TensorFlow writes the names of a signature in lower case.
        self.inputs = {name.lower(): (name, spec) for name, spec in self.score.structured_input_signature[1].items()}
        self.outputs = [output["name"] for output in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run each request by itself."""
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        """Return one response."""
        feed = {}
        for tensor in request.inputs():
            name, spec = self.inputs[tensor.name().lower()]
            values = tensor.as_numpy()
            feed[name] = self.tensorflow.constant(values.reshape(-1, *spec.shape[1:]))
        found = self.score(**feed)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, found[name].numpy()) for name in self.outputs])

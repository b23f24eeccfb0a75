"""What a model costs: its parameters, its size as ONNX, and the time of one answer."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from etl.progress import Progress

Array = npt.NDArray[Any]
_WARMUP, _ASKED = 20, 300


def parameters(model: Path) -> int:
    """Return how many numbers the SavedModel in the folder `model` holds that training could change."""
    from training.tensorflow import tensorflow

    tf = tensorflow()
    listed = tf.train.list_variables(str(model / "saved_model" / "variables" / "variables"))
    whole = tf.train.load_checkpoint(str(model / "saved_model" / "variables" / "variables"))
    kinds = whole.get_variable_to_dtype_map()
    return sum(math.prod(shape) for name, shape in listed if name.startswith("weights/") and kinds[name].is_floating)


def served(model: Path, features: Path, progress: Progress) -> dict[str, float]:
    """Return the bytes of the model as ONNX, and the median microseconds of ONNX Runtime for one row.

    One row at a time of the split `features`, one thread, in this process: without a server, and without the features.
    """
    from training.export.onnx import to_onnx

    progress("export", 0, None, "models")
    with tempfile.TemporaryDirectory(prefix="mews-compare-") as folder:
        to_onnx(model, Path(folder, "model.onnx"))
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        return {"onnx_bytes": float(size), "onnx_p50_us": _latency(Path(folder, "model.onnx"), _rows(model, features))}


def _rows(model: Path, features: Path) -> dict[str, Array]:
    """Return the first rows of a split as the model reads them: {feature: [rows, width]}."""
    from training import data
    from training.predict import read_features
    from training.train import read_training

    read = read_features(read_training(model))
    found = next(data.batches(features, read, _ASKED))
    return {feature.name: found[feature.name].astype(feature.given) for feature in read}


def _latency(path: Path, rows: Mapping[str, Array]) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {one.name for one in session.get_inputs()}
    count = min(len(values) for values in rows.values())
    taken = []
    for number in range(_WARMUP + _ASKED):
        row = {name: values[number % count][None] for name, values in rows.items() if name in names}
        started = time.perf_counter()
        session.run(None, row)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[_WARMUP:]) * 1e6)

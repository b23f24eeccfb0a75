"""PyTorch modules to ONNX, with the torch that their owner has; it is imported when a module is converted, not before.

A module is called as Merlin's PredictPyTorch calls it: with one dict of tensors, {column: [rows]} or [rows, length] for
a list, and it answers [rows, outputs], a column for each of its outputs' names.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from etl.atomic import atomic_file
from etl.errors import ConfigError
from etl.graph import Column
from training.export.onnx import OPSET, random_rows
from training.tensorflow import quiet

Array = npt.NDArray[Any]
_TRACED_ROWS = 3


def torch_to_onnx(module: Any, columns: Sequence[Column], names: Sequence[str], target: Path, fingerprint: str) -> None:
    """Write a torch.nn.Module as the ONNX file `target`, atomically.

    Inputs carry the names and types of `columns`, [batch, 1] or [batch, length]; the outputs `names` are float32
    [batch, 1]. ConfigError where torch is not installed, or cannot export the module; the reason is torch's.
    """
    import onnx

    torch = _torch()

    class Door(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *tensors: Any) -> Any:
            return tuple(_columns(self.module, columns, tensors, len(names)))

    rows = random_rows(columns, _TRACED_ROWS)
    given = tuple(torch.from_numpy(rows[column.name]) for column in columns)
    inputs, kept = [column.name for column in columns], module.training
    with atomic_file(target) as temporary:
        try:
            with quiet(), torch.no_grad():
                module.eval()
                torch.onnx.export(
                    Door().eval(),
                    given,
                    str(temporary),
                    input_names=inputs,
                    output_names=list(names),
                    dynamic_axes={name: {0: "batch"} for name in (*inputs, *names)},
                    opset_version=OPSET,
                    **_tracing(torch),
                )
        except Exception as error:  # torch's errors have no common base
            hint = "Export it yourself, and give the file by one of its output columns: onnx={'output': 'model.onnx'}."
            raise ConfigError(
                f"torch.onnx.export of {type(module).__name__}", received=str(error), hint=hint
            ) from error
        finally:
            module.train(kept)
        proto = onnx.load(temporary)
        onnx.helper.set_model_props(proto, {"mews.fingerprint": fingerprint})
        temporary.write_bytes(proto.SerializeToString())


def predict_torch(
    module: Any, columns: Sequence[Column], names: Sequence[str], rows: dict[str, Array]
) -> dict[str, Array]:
    """Return the module's own answer to {column: [rows, width]}: [rows, 1] for each of `names`."""
    torch, kept = _torch(), module.training
    with torch.no_grad():
        module.eval()
        given = [torch.from_numpy(np.ascontiguousarray(rows[column.name])) for column in columns]
        found = _columns(module, columns, given, len(names))
        module.train(kept)
    return {name: value.numpy() for name, value in zip(names, found, strict=True)}


def _tracing(torch: Any) -> dict[str, Any]:
    """The argument that keeps newer versions to tracing: their other exporter needs a package more."""
    return {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        hint = "Install the torch that the model was made with, or give an ONNX file: onnx={'output': 'model.onnx'}."
        raise ConfigError("PyTorch cannot be imported", received=str(error), hint=hint) from error
    return torch


def _columns(module: Any, columns: Sequence[Column], tensors: Sequence[Any], outputs: int) -> list[Any]:
    squeezed = {c.name: tensor if c.is_list else tensor[:, 0] for c, tensor in zip(columns, tensors, strict=True)}
    found = module(squeezed)
    found = found if len(found.shape) > 1 else found[:, None]
    return [found[:, number : number + 1] for number in range(outputs)]

"""PyTorch modules to ONNX; without torch, the reason is said."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from etl.errors import ConfigError
from etl.graph import Column
from training.export.torch import predict_torch, torch_to_onnx

COLUMNS = [Column("user", "int64", cardinality=20), Column("price", "float32")]
HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.mark.skipif(HAS_TORCH, reason="torch is installed here")
def test_without_torch_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"PyTorch cannot be imported.*give an ONNX file"):
        torch_to_onnx(object(), COLUMNS, ["score"], tmp_path / "model.onnx", "")


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed here; its wheel is gigabytes")
def test_a_module_answers_in_onnx_as_in_torch(tmp_path: Path) -> None:
    import torch

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.users = torch.nn.Embedding(20, 4)
            self.top = torch.nn.Linear(5, 2)

        def forward(self, columns: dict[str, Any]) -> Any:
            vectors = self.users(columns["user"])
            return torch.sigmoid(self.top(torch.cat([vectors, columns["price"][:, None]], dim=1)))

    model = Net()
    torch_to_onnx(model, COLUMNS, ["click", "buy"], tmp_path / "model.onnx", "f" * 64)
    random = np.random.default_rng(0)
    rows = {
        "user": random.integers(0, 20, (9, 1)),
        "price": random.normal(size=(9, 1)).astype(np.float32),
    }
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    found = dict(zip(["click", "buy"], session.run(["click", "buy"], rows), strict=True))
    wanted = predict_torch(model, COLUMNS, ["click", "buy"], rows)
    for name, values in wanted.items():
        assert values.shape == (9, 1)
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-6)

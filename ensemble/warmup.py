"""Real rows that Triton runs through a model before it says that the model is ready."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tritonclient.utils import serialize_byte_tensor

from ensemble.encode import Array
from ensemble.spec import TensorSpec, Warmup, WarmupTensor


def write_warmup(
    folder: Path, inputs: tuple[TensorSpec, ...], rows: Mapping[str, Array], count: int
) -> tuple[Warmup, ...]:
    """Write the first `count` rows as raw data files into `folder`; return what config.pbtxt says of them.

    Triton repeats one row to make a batch, so that every row is a warm-up of its own. Dims are those of the row.
    """
    available = min((len(values) for values in rows.values()), default=0)
    samples = []
    for number in range(min(count, available)):
        folder.mkdir(exist_ok=True)
        tensors = []
        for position, spec in enumerate(inputs):
            row = rows[spec.name][number]
            file = f"row{number}.{position}.raw"
            (folder / file).write_bytes(_raw(row))
            tensors.append(WarmupTensor(spec.name, spec.dtype, tuple(row.shape), file))
        samples.append(Warmup(f"row{number}", tuple(sorted(tensors, key=lambda tensor: tensor.name))))
    return tuple(samples)


def _raw(row: Array) -> bytes:
    """Little-endian values; strings each with their length in four bytes before them."""
    return bytes(serialize_byte_tensor(row).item()) if row.dtype == object else row.tobytes()

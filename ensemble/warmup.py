"""Real rows that Triton runs through a model before it says that the model is ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tritonclient.utils import serialize_byte_tensor

from ensemble.requests.encode import Array
from ensemble.spec import TensorSpec, Warmup, WarmupTensor


def write_warmup(
    folder: Path, inputs: tuple[TensorSpec, ...], rows: Sequence[Mapping[str, Array]], *, batched: bool
) -> tuple[Warmup, ...]:
    """Write `rows`, each a request of one row, as raw data files into `folder`; return what config.pbtxt says of them.

    Where Triton makes batches it repeats the row of a warm-up, and dims are those of the row; else of the request.
    """
    samples = []
    for number, request in enumerate(rows):
        folder.mkdir(exist_ok=True)
        tensors = []
        for position, spec in enumerate(inputs):
            if spec.name not in request:  # it may be left out, and the rows do so
                continue
            values = request[spec.name]
            row = values[0] if batched else values
            file = f"row{number}.{position}.raw"
            (folder / file).write_bytes(_raw(row))
            tensors.append(WarmupTensor(spec.name, spec.dtype, tuple(row.shape), file))
        samples.append(Warmup(f"row{number}", tuple(sorted(tensors, key=lambda tensor: tensor.name))))
    return tuple(samples)


def _raw(row: Array) -> bytes:
    """Little-endian values; strings each with their length in four bytes before them."""
    return b"".join(serialize_byte_tensor(row).reshape(-1).tolist()) if row.dtype == object else row.tobytes()

"""What people serve a recommender with: one peer, one script.

Each runs alone as `python -m benchmarks.servers.<peer> --settings settings.json --port 8000`, answers KServe v2 in JSON
(kserve.py) and takes the same raw rows as the ensemble. The folder that the settings name is what benchmarks/subject.py
writes: the fitted graph, model.onnx, the SavedModel, and the vocabularies for who looks values up by hand.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """One server: the packages that it needs, the parts of the folder that it reads, and what it is.

    `workers` are the numbers of processes that are tried (0: as many as there are cores); the faster is measured.
    """

    title: str
    needs: tuple[str, ...]
    parts: tuple[str, ...]
    workers: tuple[int, ...] = (1,)

    def tried(self) -> tuple[int, ...]:
        """Return the numbers of processes to try on this machine."""
        cores = len(os.sched_getaffinity(0))
        return tuple(dict.fromkeys(workers or cores for workers in self.workers))

    @property
    def missing(self) -> str:
        """Say what is not installed; nothing if all is there."""
        absent = [name for name in self.needs if importlib.util.find_spec(name) is None]
        return f"{', '.join(absent)} not installed (make peers)" if absent else ""


_WEB = ("fastapi", "uvicorn", "orjson", "uvloop", "httptools")

PEERS: dict[str, Peer] = {
    "fastapi_nvtabular": Peer(
        "FastAPI, NVTabular and TensorFlow", (*_WEB, "nvtabular", "tensorflow"), ("graph", "model"), (0,)
    ),
    "fastapi_onnx": Peer(
        "FastAPI, features by hand, ONNX Runtime", (*_WEB, "onnxruntime"), ("by_hand", "model.onnx"), (1, 2)
    ),
    "litserve": Peer(
        "LitServe with batching, features by hand, ONNX Runtime",
        ("litserve", "orjson", "onnxruntime"),
        ("by_hand", "model.onnx"),
    ),
    "bentoml": Peer(
        "BentoML with batching, features by hand, ONNX Runtime",
        ("bentoml", "fastapi", "orjson", "onnxruntime"),
        ("by_hand", "model.onnx"),
    ),
}
"""By name, which is that of the script."""

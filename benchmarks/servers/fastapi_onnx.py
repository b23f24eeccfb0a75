"""FastAPI with the best that one writes by hand: orjson, uvloop, dicts and NumPy, one ONNX Runtime session."""

from __future__ import annotations

from benchmarks.servers import by_hand, kserve

if __name__ == "__main__":
    kserve.main(by_hand.load)

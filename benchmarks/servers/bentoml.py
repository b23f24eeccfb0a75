"""BentoML with adaptive batching: a gateway that speaks KServe asks a service whose calls are batched.

BentoML batches the calls of one service to another, each in a process of its own, which is how its documents put a web
framework before a batched model. Between the two a request travels as the text that came in.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import bentoml
import fastapi
import orjson

from benchmarks.servers import by_hand, kserve
from benchmarks.servers.kserve import Settings

_SETTINGS = "MEWS_BENCHMARK_SETTINGS"
_settings = Settings.load(Path(os.environ[_SETTINGS])) if _SETTINGS in os.environ else Settings("model", [], 0, Path())
_counter = kserve.Counter()
_app = fastapi.FastAPI(openapi_url=None)
kserve.add_routes(_app, _settings, _counter)


@bentoml.service(workers=1, traffic={"timeout": 60})
class Scorer:
    """Features by hand and the model, for several requests at once."""

    def __init__(self) -> None:
        self.features = by_hand.Features(_settings.folder / "by_hand")
        self.model = by_hand.session(_settings.folder / "model.onnx")

    @bentoml.api(batchable=True, max_batch_size=1024, max_latency_ms=60_000)  # type: ignore[untyped-decorator, unused-ignore]
    def score(self, bodies: list[str]) -> list[list[float]]:
        """Return the scores of each request; a request is its KServe JSON."""
        requests = [kserve.read(orjson.loads(body)) for body in bodies]
        scores = self.model.run(["score"], self.features(by_hand.together(requests)))[0][:, 0].tolist()
        answers, start = [], 0
        for request in requests:
            answers.append(scores[start : start + request.rows])
            start += request.rows
        return answers


@bentoml.service(workers=1, traffic={"timeout": 60})
@bentoml.asgi_app(_app, path="/")
class Gateway:
    """KServe over HTTP."""

    scorer: Any = bentoml.depends(Scorer)

    @_app.post(f"/v2/models/{_settings.model}/infer", response_model=None)  # type: ignore[untyped-decorator]
    async def infer(self, request: fastapi.Request) -> fastapi.Response:
        """Answer one request."""
        body = (await request.body()).decode()
        (scores,) = await self.scorer.to_async.score([body])
        _counter.add()
        answered = orjson.dumps(kserve.answer(_settings.model, scores))
        return fastapi.Response(answered, media_type="application/json")


def main() -> None:
    """Become `bentoml serve`."""
    given = kserve.options()
    os.environ |= {_SETTINGS: str(given.settings), "BENTOML_DO_NOT_TRACK": "true", "BENTO_SERVE_IS_PRODUCTION": "1"}
    command = [sys.executable, "-m", "bentoml", "serve", "benchmarks.servers.bentoml:Gateway"]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(given.port)])


if __name__ == "__main__":
    main()

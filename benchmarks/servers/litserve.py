"""LitServe with its batching on: requests that wait together are scored together, in a process of its own."""

from __future__ import annotations

import itertools
from typing import Any

import litserve  # type: ignore[import-untyped, import-not-found, unused-ignore]

from benchmarks.servers import by_hand, kserve
from benchmarks.servers.kserve import Settings

BATCH, WAIT_SECONDS = 64, 0.001


class Scorer(litserve.LitAPI):  # type: ignore[misc, unused-ignore]
    """Features by hand and the model, for several requests at once."""

    def __init__(self, settings: Settings, path: str) -> None:
        super().__init__(max_batch_size=BATCH, batch_timeout=WAIT_SECONDS, api_path=path)
        self.settings = settings

    def setup(self, device: str) -> None:
        """Load, in the worker."""
        self.features = by_hand.Features(self.settings.folder / "by_hand")
        self.model = by_hand.session(self.settings.folder / "model.onnx")

    def decode_request(self, request: Any) -> Any:
        """Read KServe JSON."""
        return kserve.read(request)

    def batch(self, inputs: Any) -> Any:
        """Return the rows of each request, and all requests as one."""
        return [one.rows for one in inputs], by_hand.together(inputs)

    def predict(self, inputs: Any) -> Any:
        """Score them."""
        rows, request = inputs
        return rows, self.model.run(["score"], self.features(request))[0][:, 0].tolist()

    def unbatch(self, output: Any) -> Any:
        """Give each request its own scores."""
        rows, scores = output
        return [scores[end - count : end] for count, end in zip(rows, itertools.accumulate(rows), strict=True)]

    def encode_response(self, output: Any) -> Any:
        """Return KServe JSON."""
        return kserve.answer(self.settings.model, output)


# LitServe reads these two as FastAPI would; without annotations a request's JSON comes as it is.
Scorer.decode_request.__annotations__ = {}
Scorer.encode_response.__annotations__ = {}


class _Counting:
    """ASGI middleware that counts answered requests."""

    def __init__(self, app: Any, path: str, counter: kserve.Counter) -> None:
        self.app, self.path, self.counter = app, path, counter

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)
        if scope["type"] == "http" and scope["path"] == self.path:
            self.counter.add()


def main() -> None:
    """Serve the settings of the command line."""
    given = kserve.options()
    settings, counter = Settings.load(given.settings), kserve.Counter()
    path = f"/v2/models/{settings.model}/infer"
    server = litserve.LitServer(Scorer(settings, path), accelerator="cpu", devices=1, workers_per_device=1, timeout=60)
    kserve.add_routes(server.app, settings, counter)
    server.app.add_middleware(_Counting, path=path, counter=counter)
    server.run(
        host="127.0.0.1",
        port=given.port,
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()

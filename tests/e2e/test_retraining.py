"""`mews pipeline update`, `train` and `release`: generations of a model, from the demo's on, on a real Triton."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import mews.cli  # noqa: F401 (all commands)
from ensemble.labels import Canary
from ensemble.server.triton import TritonServer
from ensemble.versions import change, check
from ensemble.versions.control import Control
from ensemble.versions.state import Place, State
from ensemble.versions.work import Work
from etl.errors import ArtifactError, MewsError, ServerError
from etl.graph import FeatureGraph
from mews import retraining
from mews.commands.groups import app
from mews.run import Run
from tests.e2e.conftest import SMALL, Demo, leftovers, settings

pytestmark = pytest.mark.xdist_group("demo")
NEXT = ("data.rows=15000", "data.users=520")
WORSE = "model.learning_rate=3"


class Loop:
    """A folder of generations, whose first is the demo's run; registry and model repository are shared."""

    def __init__(self, folder: Path, first: Path) -> None:
        self.folder, self.champion, self.models = folder, folder / "champion", folder / "models"
        shutil.copytree(first, folder / "first")
        shutil.rmtree(folder / "first" / "repository")  # it was exported into its own
        place = f"registry.uri=sqlite:///{folder / 'registry.db'}"
        self.registry = (place, 'registry.metrics=["auc"]', "registry.max_slice_drop=0.3")

    def mews(self, *arguments: object, code: int = 0) -> Any:
        """The answer of a command, in this process: to start Python and TensorFlow for each would take a minute."""
        handler, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
        try:
            done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
        finally:
            signal.signal(signal.SIGINT, handler)
            sys.unraisablehook = hook
        assert done.exit_code == code, done.output
        return json.loads(done.stdout.splitlines()[-1])

    def update(self, name: str, *values: str) -> Any:
        shared = (f"--champion={self.champion}", f"--repository={self.models}")
        values = (*SMALL, *self.registry, *NEXT, *values)
        return self.mews("pipeline", "update", f"--run={self.folder / name}", *shared, *settings(*values))

    def train(self, name: str) -> Any:
        return self.mews("pipeline", "train", f"--run={self.folder / name}")

    def release(self, name: str, *options: str, code: int = 0) -> Any:
        shared = (f"--champion={self.champion}", f"--repository={self.models}", "--wait=0.1")
        return self.mews("pipeline", "release", f"--run={self.folder / name}", *shared, *options, code=code)

    def codes(self, name: str) -> dict[str, list[Any]]:
        """The values of each vocabulary, in the order of their codes."""
        return {
            f"{node.id}/{key}": table.select(pl.col("^value.*$")).rows()
            for node in FeatureGraph.load(Run(self.folder / name).graph).nodes
            if node.op == "Categorify"
            for key, table in (node.state or {}).items()
        }

    @property
    def state(self) -> State:
        return Place(self.models, "mews").state

    @property
    def leading(self) -> tuple[str, int | None, int]:
        """The run that the champion file names, the stable version on disk, and the registry's champion."""
        champion = self.mews("models", "show", "champion", f"--run={self.folder / 'first'}")
        return Path(self.champion.read_text().strip()).name, self.state.stable, champion["version"]


@pytest.fixture(scope="module", autouse=True)
def patient() -> Iterator[None]:
    """A version may be slow here, for other tests run beside these; hence fewer requests will do."""
    real = check.latency

    def latency(control: Control, model: str, rows: Any, limits: check.Limits, stable: Any) -> dict[str, float]:
        return real(control, model, rows, replace(limits, slower=100.0, requests=10), stable)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "latency", latency)
        yield


@pytest.fixture(scope="module")
def loop(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """Two generations, both released."""
    loop = Loop(tmp_path_factory.mktemp("retraining"), demo.folder)
    told = loop.release("first", *settings(*loop.registry))
    assert told == {"decision": "promote", "reason": "the first model", "registered": 1}
    assert loop.leading == ("first", 1, 1)
    told = loop.update("second")
    assert told["base"] == str(loop.folder / "first")
    assert told["appended"] > 0
    loop.train("second")
    told = loop.release("second", "--share=0.5", "--wait=1")
    assert told == {"decision": "promote", "reason": "no worse, and sound as a canary", "registered": 2}
    assert loop.leading == ("second", 2, 2)
    assert (loop.state.previous, loop.state.labels.canary) == (1, None)
    yield loop
    assert leftovers(loop.folder) == []


def test_a_generation_grows_the_codes_starts_warm_and_takes_over(loop: Loop) -> None:
    old, new = loop.codes("first"), loop.codes("second")
    added = sum(map(len, new.values())) - sum(map(len, old.values()))
    assert added > 0
    assert all(new[name][: len(values)] == values for name, values in old.items())
    warm = json.loads((Run(loop.folder / "second").model / "training.json").read_text())["warm_start"]
    assert warm["weights"] > 0
    assert warm["added_rows"] == added

    before = (loop.leading, loop.state, loop.mews("models", "show", f"--run={loop.folder / 'first'}"))
    for name in ("first", "second"):
        decided = json.loads((loop.folder / name / retraining.DECISION).read_text())
        assert loop.update(name, "seed=99") == loop.train(name) == loop.release(name) == decided
    assert (loop.leading, loop.state, loop.mews("models", "show", f"--run={loop.folder / 'first'}")) == before


def test_a_release_that_was_killed_before_it_wrote_why_is_decided(loop: Loop) -> None:
    decision, state = loop.folder / "second" / retraining.DECISION, loop.state
    kept = {path: path.read_text() for path in (decision, loop.champion)}
    decision.unlink()
    loop.champion.write_text(f"{loop.folder / 'second'}\n")
    assert loop.update("second", "seed=99")["decision"] == "promote"
    assert loop.release("second")["decision"] == "promote"
    assert loop.state == state
    for path, text in kept.items():
        path.write_text(text)


def test_a_model_that_is_worse_stops(loop: Loop) -> None:
    leading, labels = loop.leading, loop.state.labels
    loop.update("worse", WORSE)
    loop.train("worse")
    told = loop.release("worse")
    assert told["decision"] == "stop"
    assert "auc" in told["reason"]
    assert (loop.leading, loop.state.labels) == (leading, labels)
    assert loop.state.of(loop.state.versions[-1]) == "stored"
    assert loop.release("worse") == loop.update("worse") == told


def test_servers_are_switched_together_or_not_at_all(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    leading, state = loop.leading, loop.state
    assert state.stable is not None
    loop.update("third", "data.users=530")
    loop.train("third")
    with TritonServer(loop.models, None, ["mews"]) as one, TritonServer(loop.models, None, ["mews"]) as two:
        urls = [one.grpc_url, two.grpc_url]
        # What a name with two addresses is resolved to: HTTP's, which are gRPC's less one.
        monkeypatch.setattr(retraining, "addresses", lambda _: [f"127.0.0.1:{s.ports.grpc - 1}" for s in (one, two)])

        with failing(two, ServerError("no answer"), calls=2):  # the canary was sound, and the first server switched
            loop.release("third", "--triton-url=shop:8000", code=ServerError("").exit_code)
        new = loop.state.versions[-1]
        assert serving(urls) == [new, state.stable]

        with failing(two, ArtifactError("another answer"), calls=1):
            told = loop.release("third", "--triton-url=shop:8000")
        assert told["decision"] == "stop"
        assert told["reason"].startswith("another answer")
        assert serving(urls) == [state.stable, state.stable]
        assert loop.leading == leading
        assert (loop.state.previous, loop.state.of(new)) == (state.previous, "stored")

        decision = loop.folder / "third" / retraining.DECISION
        decision.unlink()  # somebody tries again
        with taken_back(loop, new):
            told = loop.release("third", "--triton-url=shop:8000", "--share=0.5")
        assert told["decision"] == "stop"
        assert "taken back" in told["reason"]
        assert serving(urls) == [state.stable, state.stable]
        assert loop.leading == leading

        decision.unlink()
        assert loop.release("third", "--triton-url=shop:8000")["decision"] == "promote"
        assert serving(urls) == [new, new]
        assert loop.leading == ("third", new, told["registered"])
        assert (loop.state.previous, loop.state.labels.canary) == (state.stable, None)


@contextmanager
def failing(server: TritonServer, error: MewsError, calls: int) -> Iterator[None]:
    """Let the last check of a version on this server fail, at that call."""
    left, real = [calls], check.latency

    def latency(control: Control, *given: Any) -> dict[str, float]:
        left[0] -= control.url == server.grpc_url
        if control.url == server.grpc_url and left[0] == 0:
            raise error
        return real(control, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "latency", latency)
        yield


@contextmanager
def taken_back(loop: Loop, version: int) -> Iterator[None]:
    """Let somebody end the canary while it is waited for."""
    real = retraining._waited

    def waited(*given: Any) -> bool:
        assert loop.state.labels.canary == Canary(version, 0.5)
        change.canary(Work(Place(loop.models, "mews"), None), version, 0)
        return real(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retraining, "_waited", waited)
        yield


def serving(urls: list[str]) -> list[int | None]:
    found = []
    for url in urls:
        with Control(url) as control:
            found.append(control.serving("mews"))
    return found

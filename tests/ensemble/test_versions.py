"""Versions changed on a real server: which one answers, what is refused, and what a crash at any step leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.swap import altered
from ensemble.labels import Labels
from ensemble.requests.encode import encode
from ensemble.server.triton import TritonServer
from ensemble.versions import change, recorded
from ensemble.versions.check import Limits
from ensemble.versions.control import Control
from ensemble.versions.state import Place, beside_folders, describe
from ensemble.versions.work import Work
from etl.errors import ArtifactError, ConfigError, MewsError, ServerError
from tests.ensemble.conftest import Parts

ROOT = Path(__file__).resolve().parents[2]
QUICK = Limits(requests=5, slower=100)


def two_versions(parts: Parts, folder: Path) -> Place:
    """Versions 1 (stable) and 2, whose scores are half of those of 1."""
    place = Place(folder / "models", "shop")
    onnx.save(altered(onnx.load(parts.model)), folder / "altered.onnx")
    for graph in (parts.model, folder / "altered.onnx"):
        Parts(parts.workflow, graph, parts.schema, parts.rows, parts.features_graph, parts.model_graph).export(
            place.repository, shape="fused"
        )
    place.label(1, Labels())
    return place


@pytest.fixture(scope="module")
def place(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return two_versions(parts, tmp_path_factory.mktemp("versions"))


@pytest.fixture(scope="module")
def control(place: Place) -> Iterator[Control]:
    with TritonServer(place.repository, models=["shop"]) as server, Control(server.grpc_url) as connected:
        yield connected


@pytest.fixture
def work(place: Place, control: Control) -> Work:
    """Version 1 is stable, and nothing is beside it, before each test."""
    work = Work(place, control, limits=QUICK)
    if place.state.stable != 1 or place.state.labels.beside:
        change.publish(work, 1)
        place.label(1, Labels())
        change.settle(work)
    return work


def answers(place: Place, control: Control, parts: Parts, model: str = "shop") -> int:
    """The version that `model` answers with, by what the answer says and by its scores."""
    tensors = encode(parts.rows(4, seed=5), parts.schema)
    reply = control.ask(model, tensors, ["score"])
    np.testing.assert_allclose(
        reply.outputs["score"], recorded.offline(place, reply.version, tensors)["score"], atol=1e-6
    )
    return reply.version


def test_publish_and_roll_back(work: Work, place: Place, control: Control, parts: Parts) -> None:
    assert answers(place, control, parts) == 1
    done = change.publish(work)
    assert (done["version"], done["did"], done["stable"], done["previous"]) == (2, "published", 2, 1)
    assert done["parity"] <= 1e-5
    assert answers(place, control, parts) == 2
    assert control.ready() == {"shop", "shop_fused_2"}
    assert change.publish(work)["did"] == "stable already"
    assert change.rollback(work)["stable"] == 1
    assert answers(place, control, parts) == 1
    assert control.ready() == {"shop", "shop_fused_1"}
    with pytest.raises(ArtifactError, match="no version of 'shop' was stable before"):
        change.rollback(work)


def test_a_canary_is_beside_the_stable_version_until_it_is_promoted(
    work: Work, place: Place, control: Control, parts: Parts
) -> None:
    assert change.canary(work, 2, 0.25)["canary"] == {"version": 2, "share": 0.25}
    assert [answers(place, control, parts, model) for model in ("shop", "shop_v2")] == [1, 2]
    config = control._client.get_model_config("shop").config
    assert config.parameters["mews.canary"].string_value == '{"version": 2, "share": 0.25}'
    assert [(each["state"], each["ready"]) for each in describe(place, control.ready())] == [
        ("stable", True),
        ("canary", True),
    ]
    with pytest.raises(ConfigError, match="received the canary version"):
        change.delete(work, 2)
    assert change.promote(work)["stable"] == 2
    assert answers(place, control, parts) == 2
    assert place.state.labels.canary is None
    assert beside_folders(place) == {}


def test_a_canary_ends_with_a_share_of_nothing(work: Work, place: Place, control: Control) -> None:
    change.canary(work, 2, 0.5)
    assert change.canary(work, 2, 0)["canary"] is None
    assert control.ready() == {"shop", "shop_fused_1"}
    for version, share in ((1, 0.1), (2, 1.5)):
        with pytest.raises(ConfigError):
            change.canary(work, version, share)


def test_a_candidate_waits_beside_the_stable_version(work: Work, place: Place, control: Control) -> None:
    assert change.publish(work, candidate=True)["did"] == "candidate"
    assert [each["state"] for each in describe(place)] == ["stable", "candidate"]
    assert "shop_v2" in control.ready()
    assert change.promote(work)["stable"] == 2
    with pytest.raises(ConfigError, match="to promote"):
        change.promote(work)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(parity=-1, requests=5), "does not answer the recorded rows"),
        (Limits(p99_ms=0.001, requests=5), "shop_v2 is slow.*p99 of at most 0.001 ms"),
    ],
)
def test_what_misses_a_limit_does_not_become_stable(
    work: Work, place: Place, control: Control, parts: Parts, limits: Limits, reason: str
) -> None:
    with pytest.raises(ArtifactError, match=rf"{reason}.*Version 1 stays\."):
        change.publish(Work(place, control, limits=limits), 2)
    assert answers(place, control, parts) == 1
    assert control.ready() == {"shop", "shop_fused_1"}
    assert beside_folders(place) == {}


def test_a_damaged_version_does_not_become_stable(work: Work, place: Place, control: Control, parts: Parts) -> None:
    graph = place.repository / "shop_fused_2" / "1" / "model.onnx"
    kept = graph.read_bytes()
    graph.write_bytes(b"nothing")
    try:
        with pytest.raises(ArtifactError, match=r"model.onnx: changed\n.*Version 1 stays"):
            change.publish(work, 2)
        with pytest.raises(ServerError, match=r"load of 'shop_fused_2'.*Version 1 stays"):
            change.publish(Work(place, control, check=False), 2)
    finally:
        graph.write_bytes(kept)
    assert answers(place, control, parts) == 1
    assert place.state.stable == 1


def test_an_export_is_checked_before_it_answers(work: Work, place: Place, control: Control, parts: Parts) -> None:
    """As after `mews export` beside a running server: the files name a version that nobody has tried."""
    place.label(2, place.state.labels)
    with pytest.raises(ArtifactError, match=r"Version 1 stays"):
        change.publish(Work(place, control, limits=Limits(parity=-1)), 2)
    assert place.state.stable == 1
    place.label(2, place.state.labels)
    assert change.publish(work, 2)["did"] == "published"
    assert place.state.previous == 1


def test_two_changes_at_once_are_refused(work: Work, place: Place) -> None:
    with place.locked(), pytest.raises(ArtifactError, match="no other `mews versions`"):
        change.publish(work, 2)


def test_a_deleted_version_is_gone_and_its_number_is_not_used_again(parts: Parts, tmp_path: Path) -> None:
    place = two_versions(parts, tmp_path)
    work = Work(place, None)
    assert change.delete(work, 2) == {"deleted": 2, "stable": 1}
    assert place.state.versions == (1,)
    assert not list(place.repository.glob("shop_*_2"))
    assert parts.export(place.repository).version == 3
    with pytest.raises(ConfigError, match="received the previous version"):
        change.delete(work, 1)
    assert change.rollback(work)["stable"] == 1


_STEPS = {
    "put version 2 beside the stable one": 1,
    "load shop_v2": 1,
    "name version 2 in config.pbtxt": 1,
    "load shop": 2,
    "unload shop_fused_1, shop_v2": 2,
    "version 2 is stable": 2,
}
"""Before each the process dies; which version is stable then."""
_DIES = """
import os, signal, sys
from pathlib import Path
from ensemble.versions import change
from ensemble.versions.check import Limits
from ensemble.versions.control import Control
from ensemble.versions.state import Place
from ensemble.versions.work import Work
step, repository, url = sys.argv[1:]
def tell(said):
    if said == step:
        os.kill(os.getpid(), signal.SIGKILL)
with Control(url) as control:
    change.publish(Work(Place(Path(repository), "shop"), control, tell, Limits(requests=5, slower=100)), 2)
"""


@pytest.mark.parametrize("step", _STEPS)
def test_a_publish_that_is_killed_leaves_one_version_and_is_finished_by_another(
    work: Work, place: Place, control: Control, parts: Parts, step: str
) -> None:
    command = [sys.executable, "-c", _DIES, step, str(place.repository), control.url]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert answers(place, control, parts) in (1, 2)
    assert place.state.stable == _STEPS[step]
    assert change.publish(work, 2)["stable"] == 2
    assert answers(place, control, parts) == 2
    assert control.ready() == {"shop", "shop_fused_2"}
    assert beside_folders(place) == {}
    assert place.state.labels.switch is None
    assert place.state.previous == 1


@pytest.mark.parametrize("step", ["load shop_v2", "load shop"])
def test_a_server_that_is_killed_serves_the_last_good_version_again(parts: Parts, tmp_path: Path, step: str) -> None:
    place = two_versions(parts, tmp_path)
    with TritonServer(place.repository, models=["shop"]) as server, Control(server.grpc_url) as control:

        def tell(said: str) -> None:
            if said == step:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(server.pid, signal.SIGKILL)

        with pytest.raises(MewsError, match=r"no answer from Triton.*Version \d (stays|is stable)") as caught:
            change.publish(Work(place, control, tell, QUICK), 2)
        assert "Start it again" in str(caught.value)
    # Everything in the repository is loaded: nothing that was left keeps Triton from starting.
    with TritonServer(place.repository) as again, Control(again.grpc_url) as control:
        assert answers(place, control, parts) == place.state.stable
        assert change.publish(Work(place, control, limits=QUICK), 2)["stable"] == 2
        assert answers(place, control, parts) == 2

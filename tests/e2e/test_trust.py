"""What the demo wrote: whole, without pickles, signed if asked for, and refused once anything is changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import Demo, last_json, mews
from tests.official import problems
from tests.pickles import pickles_below

pytestmark = pytest.mark.xdist_group("demo")


@pytest.fixture
def repository(demo: Demo, tmp_path: Path) -> Path:
    """A copy of the demo's run with its repository only."""
    shutil.copytree(demo.folder / "repository", tmp_path / "run" / "repository")
    shutil.copy(demo.folder / "config.yaml", tmp_path / "run")
    return tmp_path / "run"


def test_nothing_that_a_run_writes_or_serves_is_a_pickle(demo: Demo) -> None:
    assert list(pickles_below(demo.folder)) == []


def test_the_repository_fits_the_official_image(demo: Demo) -> None:
    assert problems(demo.folder / "repository") == []


def test_verify_says_what_is_wrong(repository: Path) -> None:
    done = mews("verify", "--run", repository, "--json")
    assert done.returncode == 0, done.stderr
    found = last_json(done)
    assert (found["ok"], found["problems"], found["signed_by"]) == (True, [], None)
    assert found["files"] > 10
    by_name = last_json(mews("verify", repository / "repository" / "mews", "--json"))
    assert (by_name["ok"], by_name["version"]) == (True, found["version"])

    model = next((repository / "repository").glob("*/1/model.onnx"))
    model.write_bytes(model.read_bytes() + b"\0")
    done = mews("verify", "1", "--run", repository, "--json")
    assert done.returncode == 1
    name = model.relative_to(repository / "repository").as_posix()
    assert last_json(done)["problems"] == [f"{name}: changed"]
    assert f"{name}: changed" in done.stderr
    done = mews("serve", "--run", repository, "--http-port", 0, "--grpc-port", 0, "--metrics-port", 0)
    assert done.returncode == 1
    assert f"{name}: changed" in done.stderr

    done = mews("verify", "99", "--run", repository, "--json")
    assert done.returncode == 2
    assert "expected one of 1" in last_json(done)["error"]


def test_a_version_is_signed_and_trusted(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = repository / "key"
    created = last_json(mews("keys", "create", key, "--json"))
    assert key.stat().st_mode & 0o777 == 0o600
    version = repository / "repository" / "mews" / "1"
    done = mews("verify", version, "--key", f"{key}.pub", "--run", repository, "--json")
    assert (done.returncode, last_json(done)["ok"]) == (1, False)
    monkeypatch.setenv("MEWS_SIGNING_KEY_FILE", str(key))
    assert last_json(mews("keys", "sign", "--run", repository, "--json"))["key"] == created["key"]
    done = mews("verify", version, "--key", f"{key}.pub", "--run", repository, "--json")
    assert (done.returncode, last_json(done)["signed_by"]) == (0, created["key"])

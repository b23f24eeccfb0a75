"""The images and the compose file: linted, and each path, lock and setting that they name is there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
IMAGES = sorted(DOCKER.glob("*.Dockerfile"))
OURS = [path for path in IMAGES if path.name != "serve.Dockerfile"]
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]


def instructions(path: Path, name: str) -> list[str]:
    """Return the values of one instruction of a Dockerfile, in order."""
    return [i["value"] for i in DockerfileParser(path=str(path)).structure if i["instruction"] == name]


def sent() -> set[str]:
    """Return the paths that .dockerignore lets through."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return {line[1:] for line in lines if line.startswith("!")}


@pytest.fixture(params=IMAGES, ids=lambda path: path.stem)
def image(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_there_is_one_for_each_role() -> None:
    assert [path.stem for path in IMAGES] == ["cpu", "etl-gpu", "serve", "train-gpu"]


def test_it_is_linted(image: Path) -> None:
    tool = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([tool, image], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_what_it_copies_is_there_and_is_sent(image: Path) -> None:
    for value in instructions(image, "COPY"):
        if "--from" in value:
            continue
        *sources, _ = [word for word in value.split() if not word.startswith("--")]
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(source == path or source.startswith(f"{path}/") for path in sent()), f"{source} is ignored"


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_locks_with_hashes_are_what_it_installs(path: Path) -> None:
    copied = " ".join(instructions(path, "COPY"))
    locks = re.findall(r"-r (\S+\.lock)", " ".join(instructions(path, "RUN")))
    assert locks
    for lock in locks:
        assert lock in copied
        assert "--hash=sha256:" in (ROOT / lock).read_text(encoding="utf-8")
    installs = re.findall(r"pip install[^&]*", " ".join(instructions(path, "RUN")))
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_every_package_is_in_it(path: Path) -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    top = {name.split(".")[0] for name in listed}
    assert top <= {value.split()[0] for value in instructions(path, "COPY")}


def test_it_runs_as_nobody_special_and_is_watched(image: Path) -> None:
    assert instructions(image, "USER")[-1] == "${UID}"
    assert "UID=10001" in instructions(image, "ARG")
    assert instructions(image, "HEALTHCHECK")
    assert not instructions(image, "ADD")
    assert instructions(image, "ENTRYPOINT")[-1].startswith("[")


def test_the_base_is_an_argument_and_pinned(image: Path) -> None:
    arguments = dict(value.split("=", 1) for value in instructions(image, "ARG") if "=" in value)
    base = arguments.get("BASE") or arguments["TRITON"]
    assert re.search(r"\d", base.rpartition(":")[2])
    assert "latest" not in base


def test_it_holds_no_secret(image: Path) -> None:
    settings = " ".join(instructions(image, "ENV") + instructions(image, "ARG"))
    assert not re.search(r"(?i)password|token|secret|api_?key", settings)


def variables() -> set[str]:
    """Return the names of what compose takes from the environment."""
    return set(re.findall(r"\$\{([A-Z_]+)", (DOCKER / "compose.yaml").read_text(encoding="utf-8")))


def test_each_setting_of_compose_is_in_the_example_with_a_comment() -> None:
    lines = (DOCKER / ".env.example").read_text(encoding="utf-8").splitlines()
    assert {line.split("=")[0] for line in lines if "=" in line and not line.startswith("#")} == variables()
    assert lines[0].startswith("#")


def test_each_file_that_compose_mounts_or_builds_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            if source.startswith("./") and "$" not in source:
                assert (DOCKER / source).exists(), source
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_a_profile_starts_in_an_order_that_works(profile: str) -> None:
    own = {name: service for name, service in SERVICES.items() if profile in service["profiles"]}
    assert {"prometheus", "grafana"} <= set(own)
    server = next(name for name in own if name.startswith("triton"))
    assert [(on, why["condition"]) for on, why in own[server]["depends_on"].items()] == [
        (next(name for name in own if name.startswith("pipeline")), "service_completed_successfully")
    ]
    reserved = {name for name, service in own.items() if "deploy" in service}
    assert reserved == ({"pipeline-gpu", "triton-gpu"} if profile == "gpu" else set())


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened_and_listens_here_only(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))

"""An export is for NVIDIA's images: their protobuf reads it, their backend has it, and docker/ builds around it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from ensemble.server.embedded import find
from tests.ensemble.conftest import Parts
from tests.official import problems

DOCKER = Path(__file__).resolve().parents[2] / "docker"
_WORDS = {"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL"} | {
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"shape": "fused"},
        {"signature": "packed"},
        {"shape": "fused", "signature": "packed"},
        {"device": "gpu", "instances": 2, "preferred_batch_sizes": [4], "warmup_rows": 3},
        {"max_batch_size": 0},
    ],
    ids=str,
)
def test_an_export_fits_the_official_image(graphs: Parts, tmp_path: Path, settings: dict[str, object]) -> None:
    graphs.export(tmp_path / "models", **settings)
    assert problems(tmp_path / "models") == []


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("shop_model_1/config.pbtxt", '"onnxruntime"', '"python"', "refers to python"),
        ("shop_model_1/config.pbtxt", "TYPE_FP32", "TYPE_FP64", "in the graph"),
        ("shop_model_1/config.pbtxt", "dims: 4", "dims: 5", "in the graph"),
        ("shop/config.pbtxt", 'value: "score"', 'value: "other"', "one end is missing"),
        ("shop/config.pbtxt", 'model_name: "shop_model_1"', 'model_name: "gone"', "not in the repository"),
        ("shop/config.pbtxt", 'value: "features/user__out"', 'value: "user"', ""),
    ],
)
def test_the_check_sees_what_is_wrong(graphs: Parts, tmp_path: Path, file: str, old: str, new: str, says: str) -> None:
    graphs.export(tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1))
    found = problems(tmp_path)
    assert found
    assert any(says in problem for problem in found)


def _instructions(path: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile: comments gone, continued lines joined."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def test_the_dockerfile_is_one_and_its_sources_exist() -> None:
    found = _instructions(DOCKER / "serve.Dockerfile")
    words = [word for word, _ in found]
    assert set(words) <= _WORDS
    assert words.index("FROM") == next(number for number, word in enumerate(words) if word != "ARG")
    defaults = dict(rest.split("=", 1) for word, rest in found if word == "ARG" and "=" in rest)
    image = next(rest for word, rest in found if word == "FROM").replace("${TRITON}", defaults["TRITON"])
    assert re.fullmatch(r"nvcr\.io/nvidia/tritonserver:\d\d\.\d\d-py3", image)
    users = [rest for word, rest in found if word == "USER"]
    assert users[-1] not in ("root", "0")
    assert words.index("ENTRYPOINT") > words.index("USER")
    for word, rest in found:
        if word == "COPY":
            *sources, _ = (part for part in rest.split() if not part.startswith("--"))
            assert all((DOCKER.parent / source).exists() for source in sources), rest
        if word == "ENTRYPOINT":
            assert isinstance(json.loads(rest), list)
    assert next(rest for word, rest in found if word == "EXPOSE").split() == ["8000", "8001", "8002"]
    assert "/ready" in next(rest for word, rest in found if word == "HEALTHCHECK")


def test_the_start_script_gives_options_that_triton_has(tmp_path: Path) -> None:
    script = DOCKER / "serve.sh"
    subprocess.run(["sh", "-n", script], check=True)
    options = set(re.findall(r"--[a-z-]+", script.read_text(encoding="utf-8")))
    program = find(tmp_path)
    helped = subprocess.run(
        [program.binary, "--help"], env=program.environment, capture_output=True, text=True, check=False
    )
    assert options >= {"--model-repository", "--model-control-mode", "--load-model"}
    assert options <= set(re.findall(r"--[a-z-]+", helped.stdout + helped.stderr))

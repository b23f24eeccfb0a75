"""What docs/clients.md and the Java page show is run as it stands, against a real server."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ensemble.client.async_client import AsyncClient
from ensemble.client.client import Client
from ensemble.client.conversation import Asking
from etl import errors

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "clients.md"
JAVA = ROOT / "clients" / "java"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_commands_for_curl_work(served):
    if shutil.which("curl") is None:
        pytest.skip("no curl on PATH")
    settings, *commands = blocks(PAGE, "bash")
    example = served.repository / "chained" / "1" / "request.example.json"
    ours = {"URL": f"http://{served.http_url}", "MODEL": "chained", "EXAMPLE": str(example)}
    assert set(re.findall(r"(\w+)=", settings)) == set(ours)
    answers = []
    for command in commands:
        assert command.startswith("curl ")
        done = subprocess.run(["bash", "-c", command], env={**os.environ, **ours}, capture_output=True, check=True)
        answers.append(json.loads(done.stdout or "null"))
    ready, model, two, one = answers
    assert ready is None
    assert (model["name"], model["platform"]) == ("chained", "ensemble")
    assert two["outputs"][0]["shape"] == [2, 1]
    assert (one["id"], one["model_version"]) == ("order-7", "1")
    row = {"user": 7, "item": "überraschung", "price": None, "tags": ["pear", "apple"], "active": True}
    with Client(served.http_url, "chained") as client:
        assert np.float32(one["outputs"][0]["data"][0]) == client.predict([row])[0]


def here(text: str, served) -> str:
    text = text.replace("127.0.0.1:8000", served.http_url).replace("127.0.0.1:8001", served.grpc_url)
    assert '"mews"' in text
    return text.replace('"mews"', '"chained"')


def test_the_python_works(served):
    found: dict[str, object] = {}
    code = here("\n".join(blocks(PAGE, "python")), served)
    exec(compile(code, str(PAGE), "exec"), found)  # the page is ours
    assert found["answer"].version == "1"
    assert found["answer"].scores.shape == (2,)
    np.testing.assert_allclose(np.concatenate(found["scores"]), found["answer"].scores, rtol=0, atol=1e-6)


def test_every_error_of_the_client_is_in_the_table():
    table = set(re.findall(r"^\| `(\w+Error)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors._Asked)}
    assert named - {"_Asked"} <= table
    assert all(hasattr(errors, name) for name in table)


def test_every_setting_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    clients = [*inspect.signature(Client).parameters, *inspect.signature(AsyncClient).parameters]
    assert [name for name in [*clients, *Asking.__annotations__] if not re.search(rf"\b{name}\b", text)] == []


def test_the_java_works(served, tmp_path):
    if shutil.which("javac") is None:
        pytest.skip("no JDK: javac is not on PATH")
    (code,) = blocks(JAVA / "README.md", "java")
    (tmp_path / "Example.java").write_text(here(code, served), encoding="utf-8")
    sources = [str(path) for path in (JAVA / "src/main/java/mews/client").glob("*.java")]
    subprocess.run(["javac", "-d", str(tmp_path), *sources, str(tmp_path / "Example.java")], check=True)
    done = subprocess.run(["java", "-cp", str(tmp_path), "Example"], capture_output=True, text=True, check=True)
    *scores, count = done.stdout.split()
    rows = [
        {"user": 7, "item": "apple", "price": 2.5, "tags": ["pear"], "active": True},
        {"user": None, "item": None, "price": None, "tags": [], "active": False},
    ]
    with Client(served.http_url, "chained") as client:
        np.testing.assert_array_equal(np.array(scores, dtype=np.float32), client.predict(rows))
    assert count == "2"

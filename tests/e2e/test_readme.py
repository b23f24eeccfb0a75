"""The README's commands and files, as written there; what would be large gets a smaller load."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest

from ensemble import Client
from tests.e2e.conftest import ROOT, Demo, mews, settings

pytestmark = pytest.mark.xdist_group("demo")

README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICK = settings("bench.stock=false", "bench.seconds=0.2", "bench.concurrency=[1]", "bench.batch=[1]")
EXTRA = {
    "demo": QUICK,
    "bench": QUICK,
    "tune-serving": ["--trials", "2", "--seconds", "0.2"],
    "compare": ["--models", "mf", "--baselines", "popularity"],
    "tune": ["--trials", "2", "--jobs", "1"],
}

WORKFLOW = """
from nvtabular import Workflow, ops

def build():
    return Workflow((["user", "item"] >> ops.Categorify()) + (["price"] >> ops.LogOp()))
"""


def blocks(language: str) -> list[str]:
    """Every code block of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands(name: str) -> list[list[str]]:
    """Every command line of the README that runs `name`, comments removed."""
    lines = [re.sub(r"\s+#.*$", "", line) for block in blocks("bash") for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith(name)]


@pytest.fixture
def place(demo: Demo, tmp_path: Path) -> Path:
    """A folder as the README's reader has it: a finished demo run, and clicks of their own."""
    shutil.copytree(demo.folder, tmp_path / "runs" / "demo")
    (tmp_path / "clicks").mkdir()
    count = 3000
    frame = pl.DataFrame(
        {
            "user": [number % 97 for number in range(count)],
            "item": [f"i{number * 7 % 31}" for number in range(count)],
            "country": ["NL", "DE", None, "FR"] * (count // 4),
            "words": [["red"], ["red", "blue"], [], None] * (count // 4),
            "price": [float(number * 13 % 50) for number in range(count)],
            "at": range(count),
            "clicked": [int(number * 7 % 31 < 9) for number in range(count)],
        }
    )
    frame.write_parquet(tmp_path / "clicks" / "rows.parquet")
    (tmp_path / "pipeline.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    for name in ("rows.parquet", "last_week.parquet", "new.parquet"):
        frame.write_parquet(tmp_path / name)
    (tmp_path / "rows").mkdir()
    frame.write_parquet(tmp_path / "rows" / "first.parquet")
    (tmp_path / "my_workflow.py").write_text(WORKFLOW, encoding="utf-8")
    save = "import nvtabular, my_workflow; w = my_workflow.build(); "
    save += "w.fit(nvtabular.Dataset('rows.parquet', cpu=True)); w.save('saved_workflow')"
    subprocess.run([sys.executable, "-c", save], cwd=tmp_path, capture_output=True, check=True)
    return tmp_path


def test_every_command_works_as_written(place: Path) -> None:
    written = commands(".venv/bin/mews")
    assert len(written) >= 8
    for command in written:
        if command[1] == "serve":
            continue  # runs until it is stopped: tests/e2e/test_serve.py
        extra = EXTRA.get(command[1], [])
        done = mews(*command[1:], *extra, cwd=place)
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
    assert (place / "runs" / "clicks" / "report.html").is_file()


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {command[1] for command in commands("make")} <= targets


def test_the_chains_are_a_valid_configuration(tmp_path: Path) -> None:
    chains = next(block for block in blocks("yaml") if "chains:" in block)
    (tmp_path / "chains.yaml").write_text(chains, encoding="utf-8")
    done = mews("config", "validate", "--config", "chains.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_workflow_and_a_model_of_ones_own_are_served_as_written(tmp_path: Path) -> None:
    snippet = next(block for block in blocks("python") if "mews.export(" in block)
    before = """
        import sys
        from pathlib import Path
        sys.path.insert(0, EXAMPLES)
        from bring_your_own import clicks, fitted_workflow, trained_model
        from merlin.io import Dataset
        rows = clicks(4000)
        dataset = Dataset(rows.to_pandas())
        workflow = fitted_workflow(dataset, Path.cwd())
        model = trained_model(workflow.transform(dataset))
    """.replace("EXAMPLES", repr(str(ROOT / "examples")))
    script = textwrap.dedent(before) + snippet
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    scores = [float(found) for found in re.findall(r"\b[01]\.\d+(?:e-\d+)?", done.stdout)]
    assert len(scores) >= 6, done.stdout  # NumPy shows the first and the last three
    assert all(0 < score < 1 for score in scores)


def test_the_client_snippet_names_what_there_is() -> None:
    snippet = next(block for block in blocks("python") if "with Client(" in block)
    compile(snippet, "README.md", "exec")
    assert callable(Client.predict)


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert missing == []

"""No module of Mews reads or writes pickles: what it loads cannot run code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PICKLING = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
PACKAGES = ("etl", "training", "ensemble", "triton_models", "benchmarks", "mews")
# Reads NVTabular's own pickles on request, with every instruction that could run something taken out.
DOOR = ROOT / "etl" / "reader" / "saved" / "unpickle.py"
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path != DOOR)


def pickles(source: str) -> Iterator[str]:
    """Yield what a module imports or calls that reads or writes pickles, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call):
            if pickling_call(node):
                yield f"{node.lineno}: {ast.unparse(node)}"
            continue
        else:
            continue
        yield from (f"{node.lineno}: import of {name}" for name in names if name.partition(".")[0] in PICKLING)


def pickling_call(call: ast.Call) -> bool:
    """Whether a call is one that unpickles: torch.load, read_pickle, to_pickle, or allow_pickle other than False."""
    called = ast.unparse(call.func)
    if called == "torch.load" or called.endswith(("read_pickle", "to_pickle")):
        return True
    allowed = next((keyword.value for keyword in call.keywords if keyword.arg == "allow_pickle"), None)
    if allowed is not None:
        return not (isinstance(allowed, ast.Constant) and allowed.value is False)
    return called in ("np.save", "numpy.save")  # which pickles objects unless told not to


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_reads_or_writes_pickles(path: Path) -> None:
    assert list(pickles(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import cloudpickle as cp",
        "from joblib import load",
        "def later():\n    from dill import loads",
        "import torch\ntorch.load('x')",
        "np.load('x.npy', allow_pickle=True)",
        "np.load('x.npy', allow_pickle=allowed)",
        "np.save('x.npy', rows)",
        "pandas.read_pickle('x')",
        "frame.to_pickle('x')",
    ],
)
def test_the_scan_finds_pickles(source: str) -> None:
    assert list(pickles(source))


@pytest.mark.parametrize(
    "source", ["import json", "np.load('x.npy')", "np.load('x.npy', allow_pickle=False)", "'import pickle'"]
)
def test_the_scan_finds_nothing_else(source: str) -> None:
    assert not list(pickles(source))

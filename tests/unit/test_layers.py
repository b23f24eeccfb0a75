"""Imports point down only, and each third-party library has its one door."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAY_IMPORT = {
    "etl": set(),
    "training": {"etl"},
    "ensemble": {"etl"},
    "benchmarks": {"etl", "training", "ensemble"},
    "mews": {"etl", "training", "ensemble", "benchmarks"},
}
DOORS = {
    "implicit": ("training/baselines.py",),
    "nvtabular": ("etl/workflow.py", "etl/reader/", "benchmarks/"),
    "merlin": ("etl/workflow.py", "etl/reader/", "training/", "benchmarks/"),
    "tensorflow": ("training/", "benchmarks/"),
    "tf2onnx": ("training/",),
    "tritonclient": ("ensemble/", "benchmarks/"),
    "mlflow": ("training/registry/",),
    "kfp": ("mews/kubeflow/program.py",),
    "opentelemetry": ("ensemble/client/traced.py",),
    "optuna": ("training/tuning/", "benchmarks/"),
}
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the top-level name and the line of every import in a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield (node.module or "").partition(".")[0], node.lineno


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_down_only(package: str) -> None:
    allowed = MAY_IMPORT[package] | {package}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in (ROOT / package).rglob("*.py")
        for name, line in imported(path)
        if name in MAY_IMPORT and name not in allowed
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", DOORS)
def test_each_library_is_imported_behind_its_door(library: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in FILES
        for name, line in imported(path)
        if name == library and not str(path.relative_to(ROOT)).startswith(DOORS[library])
    ]
    assert not wrong, f"{library} is imported in {', '.join(wrong)}"


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["etl.workflow", "etl.reader", "etl.reader.saved", "etl.batch", "etl.fit", "etl.sources", "etl.schema"]
)
def test_etl_loads_nothing_heavy(module: str) -> None:
    assert not loaded_by(f"import {module}") & {"nvtabular", "merlin", "tensorflow", "pandas", "dask"}


def test_ensemble_loads_neither_training_nor_nvtabular() -> None:
    files = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "ensemble").rglob("*.py")]
    loaded = loaded_by("; ".join(f"import {'.'.join(path.parts)}" for path in files if path.stem != "__init__"))
    assert not loaded & {"nvtabular", "merlin", "tensorflow", "training"}


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    made = {".".join(path.parent.relative_to(ROOT).parts) for path in FILES if path.name == "__init__.py"}
    assert made <= set(listed)

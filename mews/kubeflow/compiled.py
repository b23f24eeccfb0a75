"""`mews pipeline compile`: writes what Kubeflow takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from etl.atomic import atomic_file, write_text
from etl.errors import ConfigError, MewsError
from mews.kubeflow.katib import experiment
from mews.kubeflow.tfjob import tfjob
from mews.kubeflow.values import KubeflowValues, read

if TYPE_CHECKING:
    from mews.config import PipelineConfig
    from mews.session import Session

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-kubeflow"


def write(
    session: Session, to: str, out: Path, values: Path | None, kfp_python: Path | None, local: Path | None
) -> dict[str, Any]:
    """Write the file; ConfigError for values that cannot be used, and where kfp is wanted and not installed."""
    if local is not None and to != "kfp":
        raise ConfigError("--local", expected="--to kfp", received=f"--to {to}")
    given, config = read(values), session.config
    out.parent.mkdir(parents=True, exist_ok=True)
    if to == "kfp":
        _compile(config, given, out, _python(kfp_python), local)
    else:
        made = experiment(config, given) if to == "katib" else tfjob(given)
        write_text(out, yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=120))
    session.terminal.line(f"wrote {out}")
    return {"out": str(out), "to": to}


def _compile(config: PipelineConfig, values: KubeflowValues, out: Path, python: Path, local: Path | None) -> None:
    with atomic_file(out) as temporary:
        made = temporary.with_suffix(".yaml")  # kfp looks at the end of the name
        plan = {
            "values": values.model_dump(mode="json"),
            "config": json.dumps(config.model_dump(mode="json", exclude_defaults=True)),
            "out": str(made.absolute()),
            "local": None if local is None else str(local.resolve()),
        }
        try:
            done = _run(python, plan)
            if done.returncode:
                said = (done.stderr or "see above").strip().splitlines()[-1]
                raise MewsError(f"kfp of {python}", expected="a compiled pipeline", received=said)
            made.replace(temporary)
        finally:
            made.unlink(missing_ok=True)


def _run(python: Path, plan: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run mews.kubeflow.program with a path that has `mews` only: of what lies beside it, kfp has other versions."""
    quiet = None if plan["local"] else subprocess.PIPE
    with tempfile.TemporaryDirectory(prefix="mews-kfp-") as folder:
        (Path(folder) / "mews").symlink_to(Path(__file__).resolve().parents[1], target_is_directory=True)
        program = Path(sys.executable).with_name("mews")
        found = {**os.environ, "PYTHONPATH": folder, "PYTHONWARNINGS": "ignore", "MEWS_PROGRAM": str(program)}
        command = [str(python), "-m", "mews.kubeflow.program"]
        text = json.dumps(plan)
        return subprocess.run(
            command, input=text, stdout=quiet, stderr=quiet, text=True, check=False, env=found, cwd=folder
        )


def _python(given: Path | None) -> Path:
    """The Python that has kfp: the one that is named, or that of the environment beside the sources."""
    for python in [given] if given is not None else _known():
        if python.exists() and _has_kfp(python):
            return python
    raise ConfigError(
        "kfp",
        expected="a Python with kfp: its protobuf is not TensorFlow's, so it needs an environment of its own",
        received=f"none in {given or ENVIRONMENT}",
        hint=(
            f"python3.11 -m venv {ENVIRONMENT} && {ENVIRONMENT}/bin/pip install --require-hashes -r"
            f" {ROOT / 'requirements' / 'kubeflow.lock'}, or name one with --kfp-python."
        ),
    )


def _known() -> Iterator[Path]:
    if "MEWS_KFP_PYTHON" in os.environ:
        yield Path(os.environ["MEWS_KFP_PYTHON"])
    yield ENVIRONMENT / "bin" / "python"


def _has_kfp(python: Path) -> bool:
    code = "import importlib.util as u, sys; sys.exit(not (u.find_spec('kfp') and u.find_spec('kfp.kubernetes')))"
    return subprocess.run([str(python), "-c", code], capture_output=True, check=False).returncode == 0

from __future__ import annotations

import subprocess
import sys

from typer.testing import CliRunner

from mews.cli import app

COMMANDS = (
    "demo train evaluate export serve predict report doctor compile explain operators",
    "config show, config validate, config schema",
    "data generate, data validate, data describe, etl fit, etl transform, bench serving",
)


def every_command() -> list[list[str]]:
    singles, *groups = COMMANDS
    return [[name] for name in singles.split()] + [name.split() for group in groups for name in group.split(", ")]


def test_every_command_tells_what_it_does_and_takes_the_shared_options() -> None:
    for command in every_command():
        done = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
        assert done.exit_code == 0, command
        for option in ("--config", "--run", "--set", "--json", "--quiet", "--verbose"):
            assert option in done.output, (command, option)


def test_the_command_line_imports_nothing_heavy() -> None:
    """The packages that cost seconds are imported by the stage that needs them."""
    heavy = "{'polars', 'numpy', 'pandas', 'tensorflow', 'nvtabular', 'merlin', 'onnx', 'onnxruntime', 'tritonclient'}"
    script = f"import sys, mews.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_configuration_is_shown_with_every_default() -> None:
    done = CliRunner().invoke(app, ["config", "show", "--run", "no-such-run", "--set", "model.epochs=2"])
    assert done.exit_code == 0
    assert "epochs: 2" in done.output
    assert "max_queue_delay_microseconds: 0" in done.output

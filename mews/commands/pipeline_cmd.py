"""`mews pipeline`: retraining, and the pipeline as Kubeflow takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mews.commands.groups import app
from mews.session import Session, command

pipeline_app = typer.Typer(help="Retrain, and compile the pipeline for Kubeflow.", no_args_is_help=True)
app.add_typer(pipeline_app, name="pipeline")

_Champion = Annotated[
    Path, typer.Option("--champion", metavar="FILE", help="The file that names the run folder whose model serves.")
]
_Base = Annotated[
    Path | None, typer.Option("--champion", metavar="FILE", help="The same file; fit anew if absent, or not there.")
]
_Repository = Annotated[
    Path | None, typer.Option("--repository", help="The model repository of all runs; the run's own if absent.")
]


@pipeline_app.command()
@command
def update(session: Session, champion: _Base = None, repository: _Repository = None) -> Any:
    """Make the run's features with the champion's codes, grown by the new rows; `mews train` then starts from it."""
    from mews.retraining import update as run_update

    return run_update(session, champion, repository)


@pipeline_app.command()
@command
def train(session: Session) -> Any:
    """Train the run's model, unless it was released already."""
    from mews.retraining import train as run_train

    return run_train(session)


@pipeline_app.command()
@command
def release(
    session: Session,
    champion: _Champion,
    repository: _Repository = None,
    triton_url: Annotated[
        str | None, typer.Option("--triton-url", help="host:port of HTTP; a name with several addresses: every one.")
    ] = None,
    share: Annotated[float, typer.Option("--share", min=0, max=1, help="Of the requests, for the canary.")] = 0.1,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds that it has that share.")] = 600.0,
) -> Any:
    """Register the run's model; if it is no worse than the champion, canary, then promote; else stop."""
    from mews.retraining import Canary
    from mews.retraining import release as run_release

    return run_release(session, champion, repository, triton_url, Canary(share, wait))


@pipeline_app.command("compile")
@command
def compile_(
    session: Session,
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    to: Annotated[
        Literal["kfp", "katib", "tfjob"], typer.Option("--to", help="Kubeflow's pipeline, search or training.")
    ] = "kfp",
    values: Annotated[
        Path | None, typer.Option("--values", help="Images, GPUs, retries (YAML; docs/kubernetes.md).")
    ] = None,
    kfp_python: Annotated[
        Path | None, typer.Option("--kfp-python", help="A Python that has kfp; .venv-kubeflow if absent.")
    ] = None,
    local: Annotated[
        Path | None, typer.Option("--local", metavar="FOLDER", help="Also run it here, with kfp's local runner.")
    ] = None,
) -> Any:
    """Write the pipeline's IR YAML (kfp), a Katib Experiment of `tune.space`, or a TFJob."""
    from mews.kubeflow.compiled import write

    return write(session, to, out, values, kfp_python, local)

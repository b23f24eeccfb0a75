"""The command line's groups; the modules beside this one add their commands to them."""

from __future__ import annotations

from typing import Annotated

import typer

from mews import __version__

app = typer.Typer(
    name="mews",
    help="Recommender data to a served model: features, training and one Triton ensemble.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Look at and check pipeline.yaml.", no_args_is_help=True)
data_app = typer.Typer(help="Get data, check it, describe it.", no_args_is_help=True)
etl_app = typer.Typer(help="Fit and run the feature graph.", no_args_is_help=True)
bench_app = typer.Typer(help="Measure.", no_args_is_help=True)
versions_app = typer.Typer(help="Change the version that a server answers with.", no_args_is_help=True)
models_app = typer.Typer(help="The models that can be trained, and those that were.", no_args_is_help=True)
keys_app = typer.Typer(help="Keys that versions are signed with.", no_args_is_help=True)
for name, group in (
    ("config", config_app),
    ("data", data_app),
    ("etl", etl_app),
    ("bench", bench_app),
    ("models", models_app),
    ("keys", keys_app),
    ("versions", versions_app),
):
    app.add_typer(group, name=name)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"mews {__version__}")
        raise typer.Exit


@app.callback()
def _mews(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Recommender data to a served model: features, training and one Triton ensemble."""

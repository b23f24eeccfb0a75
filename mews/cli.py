"""The `mews` command. Every command is thin: it names stages, or calls one function, and prints what came back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mews.session import Session, columns, command

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
for name, group in (("config", config_app), ("data", data_app), ("etl", etl_app), ("bench", bench_app)):
    app.add_typer(group, name=name)

_DataOption = Annotated[
    Path | None, typer.Option("--data", "-d", help="Folder or file of a known data set; generated if absent.")
]


@app.command()
@command
def demo(session: Session, data: _DataOption = None) -> Any:
    """Take data to a served, queried, measured ensemble and a report; from the defaults without --config."""
    from mews.demo import demo as run_demo

    return run_demo(session, data)


@config_app.command("show")
@command
def config_show(session: Session) -> Any:
    """Print the resolved configuration, every default included."""
    from mews.config import dump

    text = dump(session.config)
    if not session.terminal.as_json:
        typer.echo(text, nl=False)
    return session.config.model_dump(mode="json")


@config_app.command("validate")
@command
def config_validate(session: Session) -> Any:
    """Check the configuration, and build its feature graph's workflow if it names one."""
    config = session.config
    if config.features.workflow:
        from etl import workflow

        workflow.load(config.features.workflow)
    session.terminal.line("the configuration is valid")
    return {"valid": True}


@config_app.command("schema")
@command
def config_schema(session: Session) -> Any:
    """Print the JSON Schema of pipeline.yaml, for editors."""
    import json

    from mews.config import json_schema

    schema = json_schema()
    if not session.terminal.as_json:
        typer.echo(json.dumps(schema, indent=2))
    return schema


@data_app.command("generate")
@command
def data_generate(session: Session) -> Any:
    """Read or generate the rows of the configured source into the run folder."""
    return session.bring("data")["data"].result


@data_app.command("validate")
@command
def data_validate(session: Session) -> Any:
    """Check the rows; refused ones go to quarantine.parquet with the reason. Exit code 3 if the data is refused."""
    from mews.stages.data import checks_table, read_validation

    try:
        session.bring("validate")
    finally:
        if (report := read_validation(session.run)) is not None:
            session.terminal.line(checks_table(report))
    return report


@data_app.command("describe")
@command
def data_describe(session: Session) -> Any:
    """Print what every column holds."""
    import json

    from mews.stages.data import profile_table

    session.bring("split")
    profile = json.loads(session.run.profile.read_text(encoding="utf-8"))
    session.terminal.line(profile_table(profile))
    return profile


@etl_app.command("fit")
@command
def etl_fit(session: Session) -> Any:
    """Fit the feature graph on the training rows."""
    return session.bring("fit")["fit"].result


@etl_app.command("transform")
@command
def etl_transform(session: Session) -> Any:
    """Write the features of train, valid and test as Parquet with a Merlin schema."""
    return session.bring("transform")["transform"].result


@app.command()
@command
def train(session: Session) -> Any:
    """Train the configured model on the features."""
    return session.bring("train")["train"].result


@app.command()
@command
def evaluate(session: Session) -> Any:
    """Judge the model on the held-out rows, against baselines, with intervals."""
    result = session.bring("evaluate")["evaluate"].result
    from mews.stages.model import metrics_table

    session.terminal.line(metrics_table(result))
    return result


@app.command()
@command
def export(
    session: Session,
    fused: Annotated[bool, typer.Option("--fused", help="Preprocessing and model in one graph.")] = False,
) -> Any:
    """Write the next version of the ensemble into the Triton repository."""
    if fused:
        session.overrides.append("export.fused=true")
    return session.bring("export")["export"].result


@app.command()
@command
def serve(
    session: Session,
    host: Annotated[
        str | None, typer.Option(help="Address to bind to; not a loopback address: open to the network.")
    ] = None,
    http_port: Annotated[int | None, typer.Option(help="0 chooses a free one.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="0 chooses a free one.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="0 chooses a free one.")] = None,
    triton_url: Annotated[str | None, typer.Option(help="Check a running server instead of starting one.")] = None,
) -> Any:
    """Serve the newest version with the embedded Triton until Ctrl-C."""
    from mews.serve import serve as run_serve

    given = {"host": host, "http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    return run_serve(session, {key: value for key, value in given.items() if value is not None}, triton_url)


@app.command()
@command
def predict(
    session: Session,
    input_file: Annotated[Path, typer.Option("--input", "-i", help="Rows: .json, .jsonl, .csv or .parquet.")],
    http: Annotated[bool, typer.Option("--http/--grpc", help="Protocol.")] = True,
    triton_url: Annotated[str | None, typer.Option(help="host:port; the run's `mews serve` if absent.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write scores to .csv, .json or .parquet.")
    ] = None,
) -> Any:
    """Score rows with a running server, or with one that is started for this command."""
    from mews.predict import predict as run_predict

    return run_predict(session, input_file, "http" if http else "grpc", triton_url, output)


@bench_app.command("serving")
@command
def bench_serving(session: Session) -> Any:
    """Measure the ensemble with perf_analyzer, beside an identity ensemble and stock Merlin Systems."""
    from mews.stages.serving import bench_table

    result = session.bring("bench", again=("bench",))["bench"].result
    session.terminal.line(bench_table(result))
    return {key: result[key] for key in ("results", "ratios", "goals", "machine")}


@app.command()
@command
def report(session: Session) -> Any:
    """Write report.html from what the run folder holds."""
    from mews.report import render

    path = render(session.run.folder)
    session.terminal.line(f"report: {path}")
    return {"report": str(path)}


@app.command()
@command
def doctor(session: Session) -> Any:
    """Check what this machine has and lacks for every part of Mews."""
    from mews.doctor import diagnose

    checks = diagnose()
    session.terminal.line(columns([[c.name, c.status, c.detail] for c in checks], "check", "status", "detail"))
    if any(check.status == "FAIL" for check in checks):
        session.terminal.result({"checks": [vars(check) for check in checks]})
        raise typer.Exit(1)
    return {"checks": [vars(check) for check in checks]}


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()

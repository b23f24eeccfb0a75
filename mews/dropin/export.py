"""`mews.export`: an ensemble of Merlin Systems, or a workflow and a model, as a true Triton ensemble."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from etl.errors import ConfigError
from etl.graph import FeatureGraph
from etl.names import SCORE

if TYPE_CHECKING:
    from ensemble.config import ExportConfig
    from ensemble.export.export import Exported
    from ensemble.export.plan import Plan
    from ensemble.spec import RequestSchema
    from etl.requests import RequestForm
    from mews.dropin.models import Loaded
    from mews.dropin.steps import Made, Read


def export(
    source: Any,
    path: Path | str,
    model: Any = None,
    *,
    config: ExportConfig | Mapping[str, Any] | None = None,
    examples: Any = None,
    label_columns: Sequence[str] = (),
    onnx: Mapping[str, Path | str] | None = None,
    check: bool = True,
    metrics: Mapping[str, Any] | None = None,
    **options: Any,
) -> Exported:
    """Export to the Triton model repository `path`, as its next version, and return what was written.

    `source` is a merlin.systems.dag.Ensemble; or a fitted nvtabular.Workflow, or the folder of a feature graph, with
    `model`: a Keras or Merlin model, the folder of a SavedModel, a forest of XGBoost, LightGBM or scikit-learn, or an
    ONNX file. `options` are keys of `export` in pipeline.yaml (name, shape, signature, max_batch_size, ...) and stand
    above `config`. `examples` are raw rows (a DataFrame or a Parquet file) to compare the ONNX graphs with your own
    objects and to warm up with; without them rows are made up, with a warning. `label_columns` are raw columns that a
    request does not have, beside those that are tagged as targets. `onnx` has ONNX files to take for models of an
    ensemble, by one of their output columns. `check=False` leaves the comparison out.

    Nothing is written when an error is raised: CompileError with every operator that cannot be served, ConfigError for
    what does not fit, MewsError when the graphs and your own objects differ.
    """
    from ensemble.export.export import export_plan

    settings = _settings(config, options)
    read = _read(source, model, label_columns, settings.forms, {k: Path(v) for k, v in (onnx or {}).items()})
    with tempfile.TemporaryDirectory(prefix="mews-export-") as folder:
        plan, request, rows = prepare(read, settings.forms, Path(folder), examples, check)
        return export_plan(plan, Path(path), settings, request, metrics or {}, rows)


def prepare(
    read: Read,
    forms: Mapping[str, RequestForm],
    folder: Path,
    examples: Any,
    check: bool = True,
) -> tuple[Plan, RequestSchema, pl.DataFrame]:
    """Write the graphs to `folder`, compare them with the user's objects, and return the plan, request and rows."""
    from mews.dropin.check import check as compare
    from mews.dropin.examples import given, made_up
    from mews.dropin.plan import request_schema, write_plan

    request = request_schema(read, forms)
    if examples is None:
        text = "No examples were given: the export is tried, compared and warmed up with made-up rows. Give real ones."
        warnings.warn(text, UserWarning, stacklevel=3)
    rows = (
        made_up(request, [step.graph for step in read.steps if step.graph])
        if examples is None
        else given(examples, request)
    )
    plan, tensors = write_plan(read, request, folder)
    if check:
        compare(read, plan, tensors, request, rows)
    return plan, request, rows


def _settings(config: ExportConfig | Mapping[str, Any] | None, options: Mapping[str, Any]) -> ExportConfig:
    from pydantic import ValidationError

    from ensemble.config import ExportConfig

    given = config.model_dump(exclude_unset=True) if isinstance(config, ExportConfig) else dict(config or {})
    try:
        return ExportConfig.model_validate(
            {**given, **{key: value for key, value in options.items() if value is not None}}
        )
    except ValidationError as error:
        lines = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ConfigError("mews.export", expected="options of `export` in pipeline.yaml", received=lines) from error


def _read(
    source: Any,
    model: Any,
    label_columns: Sequence[str],
    forms: Mapping[str, RequestForm],
    onnx: Mapping[str, Path],
) -> Read:
    from mews.dropin.graph import is_ensemble, read_ensemble

    if is_ensemble(source):
        if model is not None:
            raise ConfigError("model", expected="none beside an ensemble", received=type(model).__name__)
        return read_ensemble(source, label_columns, forms, onnx)
    if model is None:
        hint = "Give the model: mews.export(workflow, path, model=...)."
        raise ConfigError(
            f"mews.export of a {type(source).__name__}", expected="an Ensemble, or a model too", hint=hint
        )
    if onnx:
        raise ConfigError("onnx", expected="an ensemble", hint="Give the ONNX file as `model`.")
    return read_pair(source, model, label_columns, forms)


def read_pair(source: Any, model: Any, label_columns: Sequence[str], forms: Mapping[str, RequestForm]) -> Read:
    """Return a workflow, or the folder of a graph, and one model behind it as steps."""
    from mews.dropin.features import labels
    from mews.dropin.graph import Walk
    from mews.dropin.models import named_score
    from mews.dropin.steps import Read

    workflow = None if isinstance(source, Path | str | FeatureGraph) else source
    whole = _graph(source)
    graph = whole.remove_inputs(labels(whole, label_columns))
    walk = Walk(label_columns, forms, {})
    made = walk.add_graph(graph, whole, {}, workflow)
    step, outputs = named_score(_model(walk.role("model"), model, made))
    return Read((*walk.steps, step), outputs)


def _graph(source: Any) -> FeatureGraph:
    if isinstance(source, FeatureGraph):
        return source
    if isinstance(source, Path | str):
        return FeatureGraph.load(Path(source))
    from etl.reader import read

    return read(source)


def _model(role: str, model: Any, made: Made) -> Loaded:
    from mews.dropin.models import forest_step, keras_step, onnx_step, torch_step
    from training.export.forest_libraries import is_forest
    from training.export.forests import Answer

    if is_forest(model):
        return forest_step(role, model, made, Answer(positive=True), SCORE)
    if isinstance(model, Path | str) and Path(model).suffix == ".onnx":
        return onnx_step(role, Path(model), made)
    if any(cls.__module__.startswith("torch.") for cls in type(model).__mro__):
        return torch_step(role, model, made, [SCORE])
    return keras_step(role, model, made)

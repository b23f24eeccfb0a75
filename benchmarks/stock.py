"""What people have today: Merlin Systems' own export, whole (`stock`) and preprocessing alone (`stock_preprocessing`).

Merlin Systems exports the models itself. `executor_model` is a Python-backend model that unpickles the graph, makes
pandas frames of each request and asks Triton for the TensorFlow step. Triton has had no TensorFlow backend since 25.03,
so that step is run by a stand-in in the Python backend (stock_tensorflow.py), in a process of its own like a backend.
`stock_preprocessing` is the TransformWorkflow model alone, without the hop that the executor adds: the fastest that
stock Merlin can be.

What we add: the workflow it gets is hydrated from our statistics, so both sides compute the same, with lists padded
(NVTabular's own ListSlice does not pad on a CPU, and its answer is then refused); an environment variable keeps Dask
from turning lists into strings; and the executor hands strings on as objects, for Triton refuses NumPy's own.

A process of its own (`python -m benchmarks.stock GRAPH REPOSITORY [MODEL]`): Merlin is imported here only, and the
pickle that Merlin writes lives and dies in the benchmark's temporary folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.perf_analyzer import BenchmarkError
from ensemble.spec import TensorSpec
from etl.dtypes import BY_TRITON
from etl.graph import FeatureGraph

NODE = 0
PREPROCESSING = f"{NODE}_transformworkflowtriton"  # Merlin Systems' choice
EXECUTOR = "executor_model"  # also Merlin's
ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {
    "DASK_DATAFRAME__CONVERT_STRING": "False",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # The hydrated workflow pads lists with a class of etl, which the model's process has to find.
    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
}
_TIMEOUT_SECONDS = 180
_STRINGS = """

# Added by the benchmark: Triton refuses NumPy's own strings, which Merlin passes on.
from merlin.systems.triton import conversions

_plain = conversions._triton_tensor_from_array
conversions._triton_tensor_from_array = lambda name, array: _plain(
    name, array.astype(object) if getattr(array, "dtype", None) is not None and array.dtype.kind == "U" else array
)
"""


def write(graph: FeatureGraph, work: Path, repository: Path, model: Path | None = None) -> str:
    """Have Merlin Systems export the fitted `graph` to `repository`; returns the name of the model to ask.

    `model` is the folder of a SavedModel to put behind it. BenchmarkError with Merlin's own words if it cannot.
    """
    saved = work / ("graph" if model is None else "graph-executor")
    graph.save(saved)
    command = [sys.executable, "-m", "benchmarks.stock", str(saved), str(repository)]
    done = subprocess.run(
        [*command, *([] if model is None else [str(model)])],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise BenchmarkError("Merlin Systems cannot export this workflow", received=done.stderr.strip()[-2000:])
    return PREPROCESSING if model is None else EXECUTOR


def encode(rows: pl.DataFrame, inputs: Mapping[str, TensorSpec]) -> dict[str, npt.NDArray[Any]]:
    """Return `rows` as one request in Merlin's form: scalars [rows], lists as `x__values` and `x__offsets`.

    There are no nulls in it: numbers become 0, strings empty.
    """
    tensors: dict[str, npt.NDArray[Any]] = {}
    for name, spec in inputs.items():
        column = name.removesuffix("__values").removesuffix("__offsets")
        if name in rows.columns:
            tensors[name] = _array(rows.get_column(name), spec.dtype)
        elif name.endswith("__values"):
            values = rows.get_column(column).drop_nulls().explode(empty_as_null=False)
            tensors[name] = _array(values, spec.dtype)
        else:
            lengths = rows.get_column(column).list.len().fill_null(0).to_numpy()
            tensors[name] = np.concatenate([[0], np.cumsum(lengths)]).astype(BY_TRITON[spec.dtype].numpy)
    return tensors


def inputs(repository: Path, name: str = PREPROCESSING) -> dict[str, TensorSpec]:
    """Return what the exported model `name` reads, by name."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    text = (repository / name / "config.pbtxt").read_text(encoding="utf-8")
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    names = {number: name.removeprefix("TYPE_") for name, number in model_config_pb2.DataType.items()}
    types = {field.name: names[field.data_type].replace("STRING", "BYTES") for field in config.input}
    return {field.name: TensorSpec(field.name, types[field.name], tuple(field.dims)) for field in config.input}


def _array(values: pl.Series, dtype: str) -> npt.NDArray[Any]:
    if dtype == "BYTES":
        return np.array([value.encode() for value in values.fill_null("").to_list()], dtype=np.object_)
    return values.to_physical().fill_null(0).to_numpy().astype(BY_TRITON[dtype].numpy)


def _export(graph: Path, repository: Path, model: Path | None) -> None:
    warnings.simplefilter("ignore")  # Merlin's and TensorFlow's, about GPUs and deprecations
    from merlin.systems.dag.ops.workflow import TransformWorkflow
    from merlin.systems.dag.runtimes.triton.ops.workflow import TransformWorkflowTriton

    from etl.reader import hydrate

    workflow = hydrate(FeatureGraph.load(graph), repository / "tables")
    if model is None:
        exported = TransformWorkflowTriton(TransformWorkflow(workflow))
        exported.export(str(repository), None, None, node_id=NODE)
        return
    from merlin.systems.dag import Ensemble
    from merlin.systems.dag.ops.tensorflow import PredictTensorflow

    predict = PredictTensorflow(str(model / "saved_model"))
    predict.input_schema = _as_made(predict.input_schema, workflow.output_schema.column_names)
    chain = workflow.input_schema.column_names >> TransformWorkflow(workflow) >> predict
    Ensemble(chain, workflow.input_schema).export(str(repository))
    for folder in repository.glob("*_predicttensorflowtriton"):
        _stand_in(folder)
    with (repository / EXECUTOR / "1" / "model.py").open("a", encoding="utf-8") as file:
        file.write(_STRINGS)


def _as_made(schema: Any, names: Sequence[str]) -> Any:
    """Give a SavedModel's inputs the names and shapes of the workflow's columns.

    TensorFlow has put the names in lower case, and scalars leave a workflow as [rows], not [rows, 1].
    """
    from merlin.schema import Schema

    written = {name.lower(): name for name in names}
    columns = []
    for column in schema:
        named = column.with_name(written.get(column.name, column.name))
        dims: Sequence[Any] = named.shape.dims or ()
        columns.append(named.with_shape((None,)) if len(dims) == 2 and dims[1].max == 1 else named)
    return Schema(columns)


def _stand_in(folder: Path) -> None:
    """Have the Python backend answer for the TensorFlow backend; the SavedModel and all else stay."""
    config = folder / "config.pbtxt"
    lines = [line for line in config.read_text(encoding="utf-8").splitlines() if not line.startswith("platform:")]
    told = ['backend: "python"' if line.startswith("backend:") else line for line in lines]
    config.write_text("\n".join(told) + "\n", encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name("stock_tensorflow.py"), folder / "1" / "model.py")


if __name__ == "__main__":
    _export(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)

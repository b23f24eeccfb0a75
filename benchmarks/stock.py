"""What people have today: the same features as a Merlin Systems TransformWorkflow model.

Merlin Systems exports the model itself (a Python-backend model that unpickles the workflow and makes a pandas frame of
each request). What we add: the workflow it gets is hydrated from our statistics, so both sides compute the same, with
lists padded (NVTabular's own ListSlice does not pad on a CPU, and its answer is then refused); and an environment
variable keeps Dask from turning lists into strings. Only preprocessing is measured, not the model behind it, and
without Merlin's `executor_model`, which would add a hop for each step: the fastest that stock Merlin can be.

A process of its own (`python -m benchmarks.stock GRAPH REPOSITORY`): Merlin is imported here only, and the pickle that
Merlin writes lives and dies in the benchmark's temporary folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
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
NAME = f"{NODE}_transformworkflowtriton"  # Merlin Systems' choice
ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {
    "DASK_DATAFRAME__CONVERT_STRING": "False",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # The hydrated workflow pads lists with a class of etl, which the model's process has to find.
    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
}
_TIMEOUT_SECONDS = 180


def write(graph: FeatureGraph, work: Path, repository: Path) -> str:
    """Have Merlin Systems export the fitted `graph` to `repository`; returns the model's name.

    BenchmarkError with Merlin's own words if it cannot.
    """
    graph.save(work / "graph")
    command = [sys.executable, "-m", "benchmarks.stock", str(work / "graph"), str(repository)]
    done = subprocess.run(
        command,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise BenchmarkError("Merlin Systems cannot export this workflow", received=done.stderr.strip()[-2000:])
    return NAME


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


def inputs(repository: Path) -> dict[str, TensorSpec]:
    """Return what the exported model reads, by name."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    text = (repository / NAME / "config.pbtxt").read_text(encoding="utf-8")
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    names = {number: name.removeprefix("TYPE_") for name, number in model_config_pb2.DataType.items()}
    types = {field.name: names[field.data_type].replace("STRING", "BYTES") for field in config.input}
    return {field.name: TensorSpec(field.name, types[field.name], tuple(field.dims)) for field in config.input}


def _array(values: pl.Series, dtype: str) -> npt.NDArray[Any]:
    if dtype == "BYTES":
        return np.array([value.encode() for value in values.fill_null("").to_list()], dtype=np.object_)
    return values.to_physical().fill_null(0).to_numpy().astype(BY_TRITON[dtype].numpy)


def _export(graph: Path, repository: Path) -> None:
    warnings.simplefilter("ignore")  # Merlin's and TensorFlow's, about GPUs and deprecations
    from merlin.systems.dag.ops.workflow import TransformWorkflow
    from merlin.systems.dag.runtimes.triton.ops.workflow import TransformWorkflowTriton

    from etl.reader import hydrate

    workflow = hydrate(FeatureGraph.load(graph), repository / "tables")
    exported = TransformWorkflowTriton(TransformWorkflow(workflow))
    exported.export(str(repository), None, None, node_id=NODE)


if __name__ == "__main__":
    _export(Path(sys.argv[1]), Path(sys.argv[2]))

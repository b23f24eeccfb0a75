"""Real NVTabular on a case: what every target must give."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl

from etl.dtypes import from_polars
from etl.graph import Column, FeatureGraph
from etl.reader import door, read
from tests.conformance.case import Case


@cache
def _folder() -> Path:
    """Where vocabularies are written until this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="mews-oracle-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Ops:
    """nvtabular.ops, with a folder of its own for each operator that writes one (NVTabular caches tables by path)."""

    def __init__(self) -> None:
        self._ops = door.nvtabular().ops
        import dask

        dask.config.set(scheduler="synchronous")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def Categorify(self, **options: Any) -> Any:  # noqa: N802 - NVTabular's name
        return self._ops.Categorify(out_path=tempfile.mkdtemp(dir=_folder()), **options)

    def JoinGroupby(self, **options: Any) -> Any:  # noqa: N802 - NVTabular's name
        return self._ops.JoinGroupby(out_path=tempfile.mkdtemp(dir=_folder()), **options)

    def TargetEncoding(self, target: Any, **options: Any) -> Any:  # noqa: N802 - NVTabular's name
        return self._ops.TargetEncoding(target, out_path=tempfile.mkdtemp(dir=_folder()), **options)


@dataclass(frozen=True)
class Answer:
    """A fitted workflow as a graph, the same unfitted, and what the workflow makes of the rows to serve."""

    graph: FeatureGraph
    unfitted: FeatureGraph
    expected: pd.DataFrame


def columns_of(frame: pl.DataFrame) -> list[Column]:
    """Return the raw columns of a frame."""
    return [Column(name, *from_polars(dtype)) for name, dtype in frame.schema.items()]


def workflow(case: Case) -> Any:
    """Return the case's workflow, unfitted."""
    with door.quiet():
        return door.nvtabular().Workflow(case.build(Ops()))


@cache
def answer(case: Case) -> Answer:
    """Fit and run the case in NVTabular; memoised."""
    unfitted = read(workflow(case), columns_of(case.fit))
    fitted = workflow(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' and NumPy's remarks on NVTabular's code
        fitted.fit(dataset(case.fit))
    return Answer(read(fitted, columns_of(case.fit)), unfitted, transform(fitted, case.serve))


def transform(fitted: Any, frame: pl.DataFrame) -> pd.DataFrame:
    """Run a fitted workflow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fitted.transform(dataset(frame)).to_ddf().compute().reset_index(drop=True)


def dataset(frame: pl.DataFrame) -> Any:
    """Return `frame` as NVTabular reads it: integers with nulls become float64, as in pandas."""
    return door.nvtabular().Dataset(frame.to_pandas(), cpu=True)

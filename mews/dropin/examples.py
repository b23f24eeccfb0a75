"""Raw rows to try an export with: what the user gives, or rows made up from what the features know."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ensemble.spec import RequestColumn, RequestSchema
from etl.dtypes import dtype as dtype_named
from etl.dtypes import is_float, is_integer
from etl.errors import ConfigError, DataError
from etl.graph import INPUT, FeatureGraph
from etl.operators.categorical import vocabulary_of

ROWS = 64
"""How many rows are made up."""
_MOST = 1000
"""Of given rows so many are tried, the first ones."""
_LONGEST = 4


def given(examples: Any, request: RequestSchema) -> pl.DataFrame:
    """Return a pandas or Polars DataFrame, a dict of columns or a Parquet file as rows of the request's columns.

    At most 1,000. ConfigError for anything else, DataError without rows or for columns that are missing.
    """
    frame = _frame(examples)
    if missing := [column.name for column in request.columns if column.name not in frame.columns]:
        raise DataError(
            "examples", expected=f"columns {', '.join(request.names)}", received=f"none called {', '.join(missing)}"
        )
    if frame.is_empty():
        raise DataError("examples", expected="at least one row", received="none")
    return frame.select(request.names).head(_MOST)


def _frame(examples: Any) -> pl.DataFrame:
    if isinstance(examples, pl.DataFrame):
        return examples
    if isinstance(examples, pl.LazyFrame):
        return examples.head(_MOST).collect()
    if isinstance(examples, str | Path):
        try:
            return pl.scan_parquet(examples).head(_MOST).collect()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ConfigError(f"examples {examples}", expected="a Parquet file", received=str(error)) from error
    if isinstance(examples, dict):
        return pl.DataFrame(examples)
    if type(examples).__module__.startswith("pandas"):
        return pl.from_pandas(examples)
    raise ConfigError("examples", expected="a DataFrame or a Parquet file", received=type(examples).__name__)


def made_up(request: RequestSchema, graphs: Iterable[FeatureGraph], rows: int = ROWS) -> pl.DataFrame:
    """Return random rows without nulls: values of the vocabularies where features have one, else plausible ones."""
    random, known = np.random.default_rng(0), _vocabularies(graphs)
    return pl.DataFrame([_column(column, known.get(column.name), random, rows) for column in request.columns])


def _vocabularies(graphs: Iterable[FeatureGraph]) -> dict[str, pl.Series]:
    """Values by raw column: those of the first Categorify that reads it and nothing else with it."""
    found: dict[str, pl.Series] = {}
    for graph in graphs:
        for node in graph.nodes:
            if node.op != "Categorify" or node.state is None:
                continue
            for column in node.outputs:
                sources = node.sources(column.name)
                table = node.state[vocabulary_of(node, column.name)]
                if len(sources) == 1 and sources[0].node == INPUT and "value" in table.columns and table.height:
                    found.setdefault(sources[0].column, table.get_column("value").head(10_000))
    return found


def _column(column: RequestColumn, known: pl.Series | None, random: np.random.Generator, rows: int) -> pl.Series:
    kind = dtype_named(column.dtype).polars
    if not column.is_list:
        return pl.Series(column.name, _values(column, known, random, rows), dtype=kind)
    lengths = [column.length or int(random.integers(1, _LONGEST + 1)) for _ in range(rows)]
    lists = [_values(column, known, random, length) for length in lengths]
    return pl.Series(column.name, lists, dtype=pl.List(kind))


def _values(column: RequestColumn, known: pl.Series | None, random: np.random.Generator, count: int) -> list[Any]:
    if known is not None and (usable := known.drop_nulls()).len():
        return [usable[int(place)] for place in random.integers(0, usable.len(), count)]
    if is_float(column.dtype):
        return list(random.lognormal(1, 1, count).tolist())
    if is_integer(column.dtype):
        return list(random.integers(0, 2, count).tolist())
    if column.dtype == "bool":
        return list((random.random(count) < 0.5).tolist())
    if column.dtype == "datetime":
        return [datetime(2024, 1, 1) + timedelta(hours=int(hours)) for hours in random.integers(0, 8000, count)]
    return list(random.choice(["a", "b", "c"], count).tolist())

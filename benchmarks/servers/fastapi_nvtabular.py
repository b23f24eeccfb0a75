"""FastAPI around what was trained: the NVTabular workflow on a pandas frame of each request, then the SavedModel.

The workflow is run by Merlin's LocalExecutor, as Merlin Systems does; `Workflow.transform` with a Dask graph for each
request would be slower. It is hydrated from the fitted graph, so nothing is unpickled.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.servers import kserve
from benchmarks.servers.kserve import Request, Score, Settings


def load(settings: Settings) -> Score:
    """Return NVTabular's features with TensorFlow's model behind them."""
    os.environ["DASK_DATAFRAME__CONVERT_STRING"] = "False"
    warnings.simplefilter("ignore")  # Merlin's and TensorFlow's, about GPUs and deprecations
    import pandas as pd
    from merlin.dag.executors import LocalExecutor

    from etl.dtypes import BY_TRITON
    from etl.graph import FeatureGraph
    from etl.reader import hydrate
    from training.predict import load as load_model
    from training.predict import read_features
    from training.train import read_training

    graph = FeatureGraph.load(settings.folder / "graph")
    workflow = hydrate(graph, Path(tempfile.mkdtemp()))
    features = read_features(read_training(settings.folder / "model"))
    model, executor = load_model(settings.folder / "model", features), LocalExecutor()
    types = {name: BY_TRITON[kind].numpy for name, kind, _ in settings.inputs}

    def score(request: Request) -> Sequence[float]:
        made = {
            column.name: _lists(column.name, request)
            if column.is_list
            else pd.Series(request.data[column.name], dtype=types[column.name])
            for column in graph.inputs
        }
        found = executor.transform(pd.DataFrame(made), [workflow.output_node])
        return model({each.name: _array(found[each.name], each) for each in features}).tolist()  # type: ignore[no-any-return]

    return score


def _lists(name: str, request: Request) -> Any:
    import pandas as pd

    values, width = request.data[name], request.widths[name]
    lengths = request.data[f"{name}__length"]
    return pd.Series([values[row * width : row * width + size] for row, size in enumerate(lengths)])


def _array(column: Any, feature: Any) -> Any:
    import numpy as np

    values = np.stack(column.to_list()) if feature.length else column.to_numpy()
    return values.astype(feature.dtype).reshape(len(column), feature.width)


if __name__ == "__main__":
    kserve.main(load)

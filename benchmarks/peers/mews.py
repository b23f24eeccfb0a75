"""Mews through its public API: the NVTabular graph is read, fitted and run by Mews.

python -m benchmarks.peers.mews --data DIR --out DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.criteo import CATEGORICAL, CONTINUOUS, ROW
from benchmarks.peers import Engine, Job, main
from benchmarks.peers.graph import workflow
from etl.batch import Layout, transform
from etl.fit import fit
from etl.graph import Column, FeatureGraph
from etl.reader import read


def start(scratch: Path) -> Engine:
    """Import NVTabular, for it is what the graph is written in; reading the graph counts as fit."""
    from etl.reader.door import nvtabular

    nvtabular()
    inputs = [Column(ROW, "int64"), *(Column(name, "int32") for name in (*CATEGORICAL, *CONTINUOUS))]

    def fitted(job: Job) -> FeatureGraph:
        return fit(read(workflow(job.freq_threshold), inputs), [Path(file) for file in job.files])

    def transformed(job: Job, graph: FeatureGraph) -> None:
        transform(graph, [Path(file) for file in job.files], job.out, layout=Layout(compression="snappy"))

    return Engine(fitted, transformed)


if __name__ == "__main__":
    sys.exit(main(start))

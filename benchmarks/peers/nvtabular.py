"""NVTabular 23.08 on the CPU, as its examples run it: Dask's own threads, partitions of 128 MB.

python -m benchmarks.peers.nvtabular --data DIR --out DIR
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import Engine, Job, main
from benchmarks.peers.graph import workflow

PART_SIZE = "128MB"


def start(scratch: Path) -> Engine:
    """Import NVTabular; its vocabularies go to `scratch`."""
    from etl.reader.door import nvtabular

    nvt = nvtabular()

    def fitted(job: Job) -> Any:
        data = nvt.Dataset(list(job.files), engine="parquet", part_size=PART_SIZE, cpu=True)
        return workflow(job.freq_threshold, str(scratch)).fit(data), data

    def transformed(job: Job, found: Any) -> None:
        fitted_workflow, data = found
        fitted_workflow.transform(data).to_parquet(output_path=str(job.out), shuffle=None)

    return Engine(fitted, transformed)


if __name__ == "__main__":
    sys.exit(main(start))

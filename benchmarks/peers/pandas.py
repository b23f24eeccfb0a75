"""pandas, with PyArrow reading and writing: a file at a time, each column mapped through an index.

python -m benchmarks.peers.pandas --data DIR --out DIR
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.criteo import CATEGORICAL, CONTINUOUS, ROW
from benchmarks.peers import FIRST, NULL, UNKNOWN, Engine, Job, main


def start(scratch: Path) -> Engine:
    """Import pandas."""
    import pandas as pd

    def read(file: str, columns: list[str]) -> Any:
        return pd.read_parquet(file, engine="pyarrow", columns=columns, dtype_backend="numpy_nullable")

    def logarithms(frame: Any) -> Any:
        return np.log1p(frame[list(CONTINUOUS)].fillna(0).clip(lower=0).astype("float32"))

    def vocabulary(job: Job, name: str) -> Any:
        values = pd.concat([read(file, [name])[name] for file in job.files])
        counts = values.dropna().astype("int32").value_counts(sort=False)
        kept = counts[counts >= job.freq_threshold].rename_axis("value").reset_index()
        # As an index, in the order of the codes.
        return pd.Index(kept.sort_values(["count", "value"], ascending=[False, True])["value"])

    def fit(job: Job) -> Any:
        vocabularies = {name: vocabulary(job, name) for name in CATEGORICAL}
        numbers = pd.concat([logarithms(read(file, list(CONTINUOUS))) for file in job.files])
        numbers = numbers.astype("float64")
        return vocabularies, numbers.mean(), numbers.std()

    def codes(column: Any, known: Any) -> Any:
        found = known.get_indexer(column.fillna(0).astype("int32"))
        return np.where(column.isna(), NULL, np.where(found < 0, UNKNOWN, found + FIRST)).astype("int64")

    def transform(job: Job, statistics: Any) -> None:
        vocabularies, means, deviations = statistics
        for number, file in enumerate(job.files):
            frame = read(file, [ROW, *CATEGORICAL, *CONTINUOUS])
            made = {ROW: frame[ROW]} | {name: codes(frame[name], known) for name, known in vocabularies.items()}
            numbers = ((logarithms(frame) - means) / deviations).astype("float32")
            pd.concat([pd.DataFrame(made), numbers], axis="columns").to_parquet(
                job.out / f"part_{number:05d}.parquet", engine="pyarrow", index=False
            )

    return Engine(fit, transform)


if __name__ == "__main__":
    sys.exit(main(start))

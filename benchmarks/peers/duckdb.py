"""DuckDB in SQL: a vocabulary table per column, numbered by a window, and one query with 26 hash joins.

DuckDB may use as much memory as it likes (by default 80% of the machine) and spills to the scratch folder. It is not
asked to keep the rows in order, which is slower for it.

python -m benchmarks.peers.duckdb --data DIR --out DIR
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.criteo import CATEGORICAL, CONTINUOUS, ROW
from benchmarks.peers import FIRST, NULL, UNKNOWN, Engine, Job, main


def logarithm(name: str) -> str:
    """A continuous column before Normalize, float32."""
    return f"ln(1 + greatest(coalesce({name}, 0), 0)::DOUBLE)::FLOAT"


def vocabulary(name: str, freq_threshold: int) -> str:
    """Make the table vocabulary_<name>: value, code."""
    return f"""
        CREATE OR REPLACE TABLE vocabulary_{name} AS
        SELECT {name} AS value, {FIRST} - 1 + row_number() OVER (ORDER BY count(*) DESC, {name}) AS code
        FROM raw WHERE {name} IS NOT NULL GROUP BY {name} HAVING count(*) >= {freq_threshold}"""


def moments() -> str:
    """Return one row: mean and deviation of every continuous column."""
    wide = {name: f"{logarithm(name)}::DOUBLE" for name in CONTINUOUS}
    return (
        "SELECT "
        + ", ".join(f"avg({x}) AS {n}_mean, stddev_samp({x}) AS {n}_std" for n, x in wide.items())
        + " FROM raw"
    )


def features(found: dict[str, float]) -> str:
    """Return the query that makes every output column."""
    columns = [f"raw.{ROW}"]
    columns += [
        f"CASE WHEN raw.{n} IS NULL THEN {NULL} ELSE coalesce(v_{n}.code, {UNKNOWN}) END::BIGINT AS {n}"
        for n in CATEGORICAL
    ]
    columns += [
        f"(({logarithm(n)} - {found[f'{n}_mean']!r}::DOUBLE) / {found[f'{n}_std']!r}::DOUBLE)::FLOAT AS {n}"
        for n in CONTINUOUS
    ]
    joins = (f"LEFT JOIN vocabulary_{name} v_{name} ON raw.{name} = v_{name}.value" for name in CATEGORICAL)
    return f"SELECT {', '.join(columns)} FROM raw {' '.join(joins)}"


def start(scratch: Path) -> Engine:
    """Import DuckDB and open a database in memory."""
    import duckdb

    database = duckdb.connect()
    database.execute(f"SET temp_directory = '{scratch}'")
    database.execute("SET preserve_insertion_order = false")

    def fit(job: Job) -> dict[str, float]:
        listed = ", ".join(f"'{file}'" for file in job.files)
        database.execute(f"CREATE OR REPLACE VIEW raw AS SELECT * FROM read_parquet([{listed}])")
        for name in CATEGORICAL:
            database.execute(vocabulary(name, job.freq_threshold))
        answer: Any = database.execute(moments())
        return dict(zip((column[0] for column in answer.description), answer.fetchone(), strict=True))

    def transform(job: Job, found: dict[str, float]) -> None:
        database.execute(f"COPY ({features(found)}) TO '{job.out / 'part_00000.parquet'}' (FORMAT parquet)")

    return Engine(fit, transform, database.close)


if __name__ == "__main__":
    sys.exit(main(start))

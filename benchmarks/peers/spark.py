"""PySpark's DataFrame API, local on all cores: one grouped count, a window for the codes, broadcast joins.

All columns are counted in one job (`stack`), numbered by a window for each column, and cached. Vocabularies are small
beside the rows, so they are broadcast, which spares 26 shuffles of all rows. The driver's memory is set by
SPARK_DRIVER_MEMORY (default 10g).

python -m benchmarks.peers.spark --data DIR --out DIR
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.criteo import CATEGORICAL, CONTINUOUS, ROW
from benchmarks.peers import FIRST, NULL, UNKNOWN, Engine, Job, main

MEMORY = "SPARK_DRIVER_MEMORY"


def start(scratch: Path) -> Engine:
    """Start the JVM and a session with as many threads and partitions as there are cores."""
    from pyspark.sql import SparkSession, Window
    from pyspark.sql import functions as F  # noqa: N812

    cores = len(os.sched_getaffinity(0))
    session = (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.driver.memory", os.environ.get(MEMORY, "10g"))
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.maxResultSize", "0")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.local.dir", str(scratch))
        .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
        .config("spark.sql.shuffle.partitions", str(cores))
        .config("spark.sql.codegen.maxFields", "200")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")

    def logarithm(name: str) -> Any:
        clipped = F.greatest(F.coalesce(F.col(name), F.lit(0)), F.lit(0)).cast("double")
        return F.log(clipped + 1).cast("float")

    def vocabularies(rows: Any, freq_threshold: int) -> Any:
        """Return column, value and code for all columns, from one pass over the rows."""
        pairs = ", ".join(f"'{name}', {name}" for name in CATEGORICAL)
        values = rows.select(F.expr(f"stack({len(CATEGORICAL)}, {pairs}) AS (column, value)"))
        counts = values.where(F.col("value").isNotNull()).groupBy("column", "value").count()
        order = Window.partitionBy("column").orderBy(F.col("count").desc(), F.col("value").asc())
        code = (F.row_number().over(order) + (FIRST - 1)).cast("long")
        found = counts.where(F.col("count") >= freq_threshold).select("column", "value", code.alias("code")).cache()
        found.count()
        return found

    def fit(job: Job) -> Any:
        rows = session.read.parquet(*job.files)
        wide = {name: logarithm(name).cast("double") for name in CONTINUOUS}
        means = (F.avg(x).alias(f"{name}_mean") for name, x in wide.items())
        deviations = (F.stddev_samp(x).alias(f"{name}_std") for name, x in wide.items())
        moments = rows.select(*means, *deviations).first()
        return vocabularies(rows, job.freq_threshold), moments

    def transform(job: Job, statistics: Any) -> None:
        found, moments = statistics
        rows = session.read.parquet(*job.files)
        for name in CATEGORICAL:
            known = found.where(F.col("column") == name).select(
                F.col("value").alias(f"{name}_value"), F.col("code").alias(f"{name}_code")
            )
            rows = rows.join(F.broadcast(known), F.col(name) == F.col(f"{name}_value"), "left")
        codes = [
            F.when(F.col(n).isNull(), F.lit(NULL))
            .otherwise(F.coalesce(f"{n}_code", F.lit(UNKNOWN)))
            .cast("long")
            .alias(n)
            for n in CATEGORICAL
        ]
        numbers = [
            ((logarithm(n) - moments[f"{n}_mean"]) / moments[f"{n}_std"]).cast("float").alias(n) for n in CONTINUOUS
        ]
        rows.select(ROW, *codes, *numbers).write.mode("overwrite").parquet(str(job.out))

    return Engine(fit, transform, session.stop)


if __name__ == "__main__":
    sys.exit(main(start))

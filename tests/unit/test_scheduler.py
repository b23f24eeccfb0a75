"""The same statistics, bit for bit, wherever slices are aggregated, however many there are, whoever dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl.errors import ConfigError, MewsError
from etl.fit import RULES, fit
from etl.fit.scheduler import scheduler
from etl.fit.spill import default_limit, parse_bytes
from etl.graph import Column, FeatureGraph, OpNode, Ref
from etl.operators import facts

INPUTS = (Column("s", "string"), Column("f", "float64"), Column("i", "int64"), Column("y", "float64"))
ROWS = 3_000


def column(name: str) -> Column:
    return next(column for column in INPUTS if column.name == name)


def node(op: str, *columns: str, outputs: tuple[Column, ...] = (), **params: Any) -> OpNode:
    made = outputs or tuple(Column(name, "float64") for name in columns)
    return OpNode(op, op, tuple(Ref("input", name) for name in columns), made, params)


NODES = (
    node("Categorify", "s", "i", outputs=(Column("s", "int64"), Column("i", "int64"))),
    node("Normalize", "f", "i"),
    node("NormalizeMinMax", "f"),
    node(
        "JoinGroupby",
        *("s", "f"),
        outputs=(Column("s_f_mean", "float64"),),
        groups=["s"],
        cont_cols=["f"],
        stats=["count", "sum", "mean", "std", "var", "min", "max"],
    ),
    node(
        "TargetEncoding",
        *("s", "y"),
        outputs=(Column("TE_s_y", "float64"),),
        groups=["s"],
        target=["y"],
        kfold=3,
        fold_seed=1,
        p_smooth=20,
    ),
)


def rows(number: int = ROWS, seed: int = 3) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "s": [None if n == 0 else f"w{n}" for n in random.integers(0, 40, number)],
            "f": np.ldexp(random.normal(size=number), random.integers(-30, 30, number)),
            "i": random.integers(-(2**40), 2**40, number) // 2**32,
            "y": random.normal(size=number),
        }
    )


def usable(op: OpNode) -> bool:
    return op.op in RULES


GRAPH = FeatureGraph(INPUTS, tuple(op for op in NODES if usable(op)), ())


def write(folder: Path, frame: pl.DataFrame, parts: int) -> list[Path]:
    size = -(-frame.height // parts)
    paths = [folder / f"part_{number:03d}.parquet" for number in range(parts)]
    for number, path in enumerate(paths):
        frame[number * size : (number + 1) * size].write_parquet(path)
    return paths


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fit(GRAPH, write(tmp_path_factory.mktemp("one"), rows(), 1)).fingerprint


@contextmanager
def cluster(workers: int) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    options: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "processes": True}
    options["scheduler_kwargs"] = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(host="127.0.0.1", memory_limit=0, **options) as made,
        Client(made, set_as_default=False) as client,
    ):
        yield client


@pytest.mark.parametrize(("parts", "per_slice"), [(1, 7), (10, 1000), (100, 1000)])
def test_partitions_give_the_same_bits(parts: int, per_slice: int, expected: str, tmp_path: Path) -> None:
    assert fit(GRAPH, write(tmp_path, rows(), parts), rows_per_slice=per_slice).fingerprint == expected


def test_sorted_rows_give_the_same_bits_where_order_is_not_asked_for(tmp_path: Path) -> None:
    free = FeatureGraph(INPUTS, tuple(op for op in GRAPH.nodes if not facts(op.op).numbered), ())
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = fit(free, write(tmp_path / "a", rows(), 1))
    assert fit(free, write(tmp_path / "b", rows().sort("f"), 9)).fingerprint == one.fingerprint


@pytest.mark.parametrize("workers", [1, 4])
def test_dask_workers_give_the_same_bits(workers: int, expected: str, tmp_path: Path) -> None:
    paths = write(tmp_path, rows(), 12)
    assert fit(GRAPH, paths, on="dask", workers=workers).fingerprint == expected


def test_a_cluster_of_ours_listens_here_only() -> None:
    import psutil

    with scheduler("dask", workers=1):
        me = psutil.Process()
        processes = [me, *me.children(recursive=True)]
        open_ = [each for process in processes for each in process.net_connections() if each.status == "LISTEN"]
    assert open_
    assert {each.laddr.ip for each in open_} == {"127.0.0.1"}


def test_a_killed_worker_changes_nothing(expected: str, tmp_path: Path) -> None:
    paths = write(tmp_path, rows(), 30)
    with cluster(2) as client:
        pids = list(client.run(os.getpid).values())
        killed = []

        def progress(what: str, done: int, total: int | None, unit: str) -> None:
            if not killed and done > 300:
                killed.append(pids[0])
                os.kill(pids[0], signal.SIGKILL)

        found = fit(GRAPH, paths, progress, rows_per_slice=50, on=client.scheduler.address)
        assert killed
        deadline = time.monotonic() + 30
        while len(client.scheduler_info()["workers"]) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
    assert found.fingerprint == expected


def test_errors_of_workers_are_told_as_here(tmp_path: Path) -> None:
    paths = write(tmp_path, rows(), 3)
    content = bytearray(paths[1].read_bytes())
    content[4:900] = bytes(896)
    paths[1].write_bytes(content)
    with pytest.raises(MewsError, match=r"part_001\.parquet"):
        fit(GRAPH, paths, on="dask", workers=1)


def test_schedulers_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ConfigError, match="local, dask"), scheduler("spark"):
        pass
    with pytest.raises(ConfigError, match="a cluster that answers"), scheduler("tcp://127.0.0.1:1"):
        pass


def test_dask_cuda_is_asked_for_when_it_is_missing() -> None:
    import importlib.util

    if importlib.util.find_spec("dask_cuda"):
        pytest.skip("dask-cuda is installed here")
    with pytest.raises(ConfigError, match="dask-cuda"), scheduler("dask-cuda"):
        pass


@pytest.mark.parametrize("limit", [1_000, "20KB", "1GB"])
def test_a_small_memory_limit_gives_the_same_bits(limit: str | int, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    frame = pl.DataFrame({"s": [f"v{n * n % 20_011}" for n in range(40_000)]})
    params = {"freq_threshold": {"s": 2}}
    graph = FeatureGraph(INPUTS, (node("Categorify", "s", outputs=(Column("s", "int64"),), **params),), ())
    (tmp_path / "data").mkdir()
    paths = write(tmp_path / "data", frame, 4)
    seen: list[int] = []

    def progress(what: str, done: int, total: int | None, unit: str) -> None:
        seen.append(len(list(tmp_path.glob("mews-fit-*/*/*/*.parquet"))))

    assert fit(graph, paths, progress, 3_000, memory_limit=limit).fingerprint == fit(graph, paths).fingerprint
    assert (max(seen) > 0) == (limit != "1GB")
    assert not list(tmp_path.glob("mews-fit-*"))


def test_many_threads_may_fit_at_once(expected: str, tmp_path: Path) -> None:
    paths, found = write(tmp_path, rows(), 5), []
    threads = [threading.Thread(target=lambda: found.append(fit(GRAPH, paths).fingerprint)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 3


@pytest.mark.parametrize(
    ("text", "expected_bytes"), [("4GB", 4 * 10**9), ("512 MiB", 2**29), ("1.5kb", 1500), ("7", 7)]
)
def test_bytes_are_read(text: str, expected_bytes: int) -> None:
    assert parse_bytes(text) == expected_bytes


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "4GX", "nan"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="memory limit"):
        parse_bytes(text)


def test_the_default_limit_is_a_part_of_the_memory() -> None:
    import psutil

    assert 0 < default_limit() <= psutil.virtual_memory().total // 2 + 2**20

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

import polars as pl
import pytest

from etl.errors import ConfigError, MewsError
from etl.fit import fit
from etl.fit.scheduler import scheduler
from etl.graph import FeatureGraph
from etl.memory import default_limit, parse_bytes
from etl.operators import facts
from tests.fitted import CASES, FITTED, GRAPH, INPUTS, ROWS, codes, graph, node, rows, write


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


@pytest.mark.parametrize("op", FITTED)
def test_partitions_give_the_same_bits(op: str, tmp_path: Path) -> None:
    of = graph(*CASES[op])
    layouts = ((1, ROWS, None), (1, 700, None), (10, 900, None), (100, 400, None), (2, 1000, 1000))
    found = set()
    for number, (parts, per_slice, limit) in enumerate(layouts):
        (tmp_path / str(number)).mkdir()
        paths = write(tmp_path / str(number), rows(), parts)
        found.add(fit(of, paths, rows_per_slice=per_slice, memory_limit=limit).fingerprint)
    assert len(found) == 1
    other = rows(seed=4).with_columns(pl.col("i") * 1000, pl.col("l").list.head(3), u=pl.col("s"))
    assert fit(of, write(tmp_path, other, 1)).fingerprint not in found


def test_a_sketch_of_medians_is_the_same_for_every_partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = fit(graph(*CASES["FillMedian"]), write(tmp_path, rows(), 1)).nodes[0].state
    monkeypatch.setattr("etl.fit.missing.MOST_VALUES", 200)
    found = [
        fit(graph(*CASES["FillMedian"]), write(tmp_path, rows(), parts), rows_per_slice=size, memory_limit=limit)
        for parts, size, limit in ((1, ROWS, None), (10, 300, None), (3, 1000, 1000))
    ]
    assert len({each.fingerprint for each in found}) == 1
    assert exact is not None
    (sketch,) = (node.state or {} for node in found[0].nodes)
    assert sketch["medians"]["median"].to_list() == pytest.approx(exact["medians"]["median"].to_list(), rel=1e-4)
    assert not sketch["medians"].equals(exact["medians"])


def test_sorted_rows_give_the_same_bits_where_order_is_not_asked_for(tmp_path: Path) -> None:
    free = FeatureGraph(INPUTS, tuple(op for op in GRAPH.nodes if not facts(op.op).numbered), GRAPH.outputs)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = fit(free, write(tmp_path / "a", rows(), 1))
    assert fit(free, write(tmp_path / "b", rows().sort("f", "i"), 9)).fingerprint == one.fingerprint


def test_negative_zero_is_zero_whichever_came_first(tmp_path: Path) -> None:
    zeros = rows(40).with_columns(f=pl.Series([0.0, -0.0] * 20), y=pl.Series([-0.0, 0.0] * 20))
    (tmp_path / "back").mkdir()
    free = FeatureGraph(INPUTS, tuple(op for op in GRAPH.nodes if not facts(op.op).numbered), GRAPH.outputs)
    forth, back = write(tmp_path, zeros, 1), write(tmp_path / "back", zeros.reverse(), 1)
    assert fit(free, forth).fingerprint == fit(free, back).fingerprint


@pytest.mark.parametrize("workers", [1, 4])
def test_dask_workers_give_the_same_bits(workers: int, expected: str, tmp_path: Path) -> None:
    paths = write(tmp_path, rows(), 12)
    assert fit(GRAPH, paths, rows_per_slice=250, on="dask", workers=workers).fingerprint == expected


def test_a_cluster_of_ours_listens_here_only() -> None:
    import psutil

    with scheduler("dask", workers=1):
        me = psutil.Process()
        processes = [me, *me.children(recursive=True)]
        open_ = [each for process in processes for each in process.net_connections() if each.status == "LISTEN"]
    assert open_
    # Others of this process' children may listen too, and the JVM spells it as IPv6.
    assert {each.laddr.ip.removeprefix("::ffff:") for each in open_} == {"127.0.0.1"}


def test_a_killed_worker_changes_nothing(expected: str, tmp_path: Path) -> None:
    paths = write(tmp_path, rows(), 30)
    with cluster(2) as client:
        pids = list(client.run(os.getpid).values())
        killed = []

        def progress(what: str, done: int, total: int | None, unit: str) -> None:
            if not killed and done > 300:
                killed.append(pids[0])
                os.kill(pids[0], signal.SIGKILL)

        found = fit(GRAPH, paths, progress, rows_per_slice=100, on=client.scheduler.address)
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


def test_schedulers_that_cannot_be_used_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.fit.scheduler._ANSWER", "1s")
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
    counted = graph(node("Categorify", "s", outputs=codes("s"), **params))
    (tmp_path / "data").mkdir()
    paths = write(tmp_path / "data", frame, 4)
    seen: list[int] = []

    def progress(what: str, done: int, total: int | None, unit: str) -> None:
        seen.append(len(list(tmp_path.glob("mews-fit-*/*/*/*.parquet"))))

    assert fit(counted, paths, progress, 3_000, memory_limit=limit).fingerprint == fit(counted, paths).fingerprint
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

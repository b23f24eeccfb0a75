"""The batch benchmark, all real: generated rows, every engine that is installed, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from benchmarks import criteo, etl
from benchmarks.outputs import compare, same_up_to_ties
from etl.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
ROWS = 20_000


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run of all engines but Spark through the command line; figures of so few rows mean nothing."""
    out = tmp_path_factory.mktemp("bench")
    engines = [name for name in etl.ENGINES if name != "spark"]
    command = [sys.executable, "-m", "mews.cli", "bench", "etl", "--rows", str(ROWS), "--peers", ",".join(engines)]
    done = subprocess.run(
        [*command, "--freq-threshold", "3", "--out", str(out), "--json"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == json.loads((out / f"etl-{ROWS}.json").read_text())
    return out


def test_all_engines_make_the_same_features(written: Path) -> None:
    report = json.loads((written / f"etl-{ROWS}.json").read_text())
    assert report["rows"] == ROWS
    assert report["equal"] is True
    for name, found in report["engines"].items():
        if "failed" in found:
            assert found["failed"] == etl.missing(name) != "", f"{name}: {found['failed']}"
            print(f"{name} was not measured: {found['failed']}")
            continue
        assert found["seconds"] == pytest.approx(found["fit_seconds"] + found["transform_seconds"], abs=0.01)
        assert found["rows_per_s"] == pytest.approx(ROWS / found["seconds"], rel=0.01)
        assert found["peak_rss_mb"] > 50
        assert name == "mews" or found["difference"]["equal"]
    assert {"mews", "nvtabular", "polars", "pandas"} <= {n for n, f in report["engines"].items() if "failed" not in f}
    assert report["goals"]["mews_seconds_over_polars"]["limit"] == "<= 1.15"


def test_table_and_plot_tell_every_engine(written: Path) -> None:
    table = (written / f"etl-{ROWS}.md").read_text()
    plot = ElementTree.parse(written / f"etl-{ROWS}.svg").getroot()
    told = {text.text for text in plot.iter("{http://www.w3.org/2000/svg}text")}
    for name in ("Mews", "NVTabular", "Polars by hand", "pandas", "DuckDB"):
        assert f"| {name}" in table
        assert name in told


@pytest.mark.skipif(bool(etl.missing("spark")), reason=etl.missing("spark") or "can run")
def test_spark_makes_the_same_features(tmp_path: Path) -> None:
    report = etl.run(2000, tmp_path, peers="spark")
    assert report["engines"]["spark"].get("failed") is None
    assert report["equal"] is True


def test_an_engine_that_is_stopped_is_told(tmp_path: Path) -> None:
    report = etl.run(2000, tmp_path, peers="mews", limits=etl.Limits(memory_mb=100_000))
    assert report["equal"] is None  # nothing was compared
    runs = etl.Runs()
    data = criteo.generate(tmp_path / "data", 2000)
    etl._measure("nvtabular", data, tmp_path / "stopped", 0, etl.Limits(memory_mb=20), runs)
    assert runs.to_json(2000)["failed"] == "stopped at the limit of 20 MiB of memory"
    etl._measure(
        "polars", criteo.Data((tmp_path / "none" / "x",), 1, 0), tmp_path / "failed", 0, etl.Limits(9999), runs
    )
    assert "no Parquet files there" in runs.failed


def test_unknown_engines_are_refused() -> None:
    with pytest.raises(ConfigError, match="presto"):
        etl.engines("polars,presto")
    assert etl.engines("polars") == ["mews", "polars"]


def test_data_are_those_of_the_seed_and_keep_their_shape(tmp_path: Path) -> None:
    first = pl.read_parquet(criteo.generate(tmp_path / "a", ROWS).files)
    assert first.equals(pl.read_parquet(criteo.generate(tmp_path / "b", 2 * ROWS).files).head(ROWS))
    assert not first.equals(pl.read_parquet(criteo.generate(tmp_path / "c", ROWS, seed=1).files))
    assert first.columns == [criteo.ROW, *criteo.CATEGORICAL, *criteo.CONTINUOUS]
    assert first["C9"].n_unique() == 3
    assert first["C3"].n_unique() > ROWS / 4
    assert first["I12"].null_count() / ROWS == pytest.approx(0.76, abs=0.02)
    top = first["C1"].value_counts(sort=True)["count"]
    assert top[0] / top[9] == pytest.approx(10, rel=0.4)  # Zipf: the tenth is a tenth of the first


def test_values_of_ranks_are_distinct() -> None:
    values = criteo.identifiers(2, np.arange(1_000_000, dtype=np.uint32))
    assert len(np.unique(values)) == 1_000_000


def frame(codes: list[int], number: float = 0.5) -> pl.DataFrame:
    made = {criteo.ROW: range(len(codes))} | dict.fromkeys(criteo.CATEGORICAL, codes)
    return pl.DataFrame(made).with_columns(pl.lit(number, pl.Float32).alias(name) for name in criteo.CONTINUOUS)


def test_outputs_are_compared_cell_by_cell_in_any_order(tmp_path: Path) -> None:
    codes = [1, 3, 3, 4, 5, 2]
    others = {
        "same": frame(codes).reverse(),
        "codes": frame([1, 3, 3, 5, 4, 2]),
        "floats": frame(codes, 0.51),
        "rows": frame(codes[:-1]),
        "types": frame(codes).with_columns(pl.col("C7").cast(pl.Int32)),
    }
    for name, made in (("reference", frame(codes)), *others.items()):
        (tmp_path / name).mkdir()
        made.write_parquet(tmp_path / name / "part.parquet")
    found = {name: compare(tmp_path / "reference", tmp_path / name, len(codes)) for name in others}
    assert found["same"].equal
    assert set(found["codes"].columns) == set(criteo.CATEGORICAL)
    assert set(found["floats"].columns) == set(criteo.CONTINUOUS)
    assert set(found["rows"].columns) == {criteo.ROW}
    assert set(found["types"].columns) == {"C7"}
    assert compare(tmp_path / "reference", tmp_path / "codes", len(codes), ties=True).equal


@pytest.mark.parametrize(
    ("found", "same"),
    [
        ([1, 3, 3, 5, 4, 2], True),
        ([1, 4, 4, 3, 5, 2], False),  # another code for the most frequent value
        ([1, 3, 3, 4, 4, 2], False),  # two values share a code
        ([2, 3, 3, 4, 5, 1], False),  # null and unknown exchanged
        ([1, 3, 4, 3, 5, 2], False),  # one value has two codes
    ],
)
def test_only_equally_frequent_values_may_exchange_codes(found: list[int], same: bool) -> None:
    assert same_up_to_ties(np.array([1, 3, 3, 4, 5, 2]), np.array(found)) is same


def test_latency_of_one_row_is_measured_for_each_vocabulary(tmp_path: Path) -> None:
    # In a process of its own, for NVTabular warns when it is imported.
    code = "import sys, pathlib; from benchmarks.features import run; run(pathlib.Path(sys.argv[1]), (100, 5000), 200)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    report = json.loads((tmp_path / "features.json").read_text())
    assert [found["vocabulary"] for found in report["results"]] == [100, 5000]
    for found in report["results"]:
        assert 0 < found["p50_us"] <= found["p99_us"]
        assert found["all_columns"] == sum(min(found["vocabulary"], size) for size in criteo.CARDINALITIES)
    assert report["goals"]["p50_us"]["measured"] == pytest.approx(max(f["p50_us"] for f in report["results"]), abs=0.01)

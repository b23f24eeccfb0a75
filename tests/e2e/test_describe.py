"""`mews data describe` as a user runs it: on real data, on a run, and its page in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.e2e.conftest import Demo, last_json, mews
from tests.e2e.test_report_browser import CHROMIUM, HARNESS

NUMBERS = {"age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hr_per_week"}


@pytest.fixture(scope="module")
def adult(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The census by age: young.csv and old.csv, without pipeline.yaml."""
    folder = tmp_path_factory.mktemp("adult")
    rows = pl.read_csv(real_data / "adult" / "adult.data.gz")
    rows.filter(pl.col("age") < 40).write_csv(folder / "young.csv")
    rows.filter(pl.col("age") >= 40).write_csv(folder / "old.csv")
    return folder


def test_adult_is_described_as_it_lies(real_data: Path, tmp_path: Path) -> None:
    done = mews("data", "describe", real_data / "adult", "--label", "income", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = last_json(done)
    columns = {column["name"]: column for column in found["columns"]}
    assert (found["rows"], len(columns)) == (30_162, 15)
    assert {name for name, one in columns.items() if one["kind"] == "number"} == NUMBERS
    assert found["label"] | {"rate": 0} == {
        "column": "income", "kind": "binary", "rows": 30_162, "nulls": 0, "positive": ">50K", "negative": "<=50K",
        "rate": 0,
    }  # fmt: skip
    rows = pl.read_csv(real_data / "adult" / "adult.data.gz")
    assert columns["age"]["mean"] == pytest.approx(rows["age"].mean())
    assert columns["relationship"]["association"]["measures"]["auc"] > 0.75
    assert list(tmp_path.iterdir()) == [], "nothing is written without --out"
    assert "relationship" in done.stderr


def test_online_retail_is_described_in_bounded_memory(real_data: Path, tmp_path: Path) -> None:
    done = mews("data", "describe", real_data / "online-retail", "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    found = last_json(done)
    columns = {column["name"]: column for column in found["columns"]}
    assert found["rows"] == 541_909
    assert [columns[name]["distinct"] for name in ("InvoiceNo", "StockCode", "CustomerID")] == [25_900, 4_070, 4_372]
    assert columns["CustomerID"]["nulls"] == 135_080
    assert columns["Country"]["top"][0]["value"] == "United Kingdom"
    assert found["peak_rss_mb"] < 700
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"describe.html", "describe.json"}
    assert json.loads((tmp_path / "out" / "describe.json").read_text())["columns"] == found["columns"]


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for part in range(6):
        rows = 500_000
        frame = pl.DataFrame({"key": np.arange(rows) + part * rows, "x": random.normal(size=rows)})
        frame.with_columns(name="row " + pl.col("key").cast(pl.String)).write_parquet(tmp_path / f"{part}.parquet")
    peaks = []
    for files in ([tmp_path / "0.parquet", tmp_path / "1.parquet"], [tmp_path]):
        done = mews("data", "describe", *files, "--json")
        assert done.returncode == 0, done.stderr
        peaks.append(last_json(done)["peak_rss_mb"])
    assert last_json(done)["rows"] == 3_000_000
    assert peaks[1] < peaks[0] * 1.5


def test_a_run_is_described_with_its_label(demo: Demo) -> None:
    done = mews("data", "describe", "--run", demo.folder, "--json")
    assert done.returncode == 0, done.stderr
    found = last_json(done)
    profile = json.loads((demo.folder / "data" / "profile.json").read_text())
    assert {key: found[key] for key in profile} == profile, "what was there stays"
    assert found["description"]["rows"] == profile["rows"]
    assert found["description"]["label"]["rate"] == pytest.approx(profile["label"]["rate"])
    assert Path(found["description"]["page"]).is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["gone.csv"], 3, "gone.csv; expected a file or a folder; received nothing there"),
        (["header.csv"], 3, "header.csv; expected rows"),
        (["young.csv", "--label", "incom"], 3, "label 'incom'; expected a column of young.csv. Did you mean 'income'?"),
        (["young.csv", "--reference", "gone"], 3, "gone; expected a file or a folder"),
        (["picture.png"], 3, "picture.png; expected a table: Parquet, CSV"),
        (["young.csv", "--out", "old.csv"], 2, "--out old.csv; expected a folder; received a file"),
    ],
)
def test_bad_input_is_explained_and_nothing_is_written(
    adult: Path, arguments: list[str], code: int, message: str
) -> None:
    (adult / "header.csv").write_text("a,b\n")
    (adult / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    before = {path: path.read_bytes() for path in adult.iterdir() if path.is_file()}
    done = mews("data", "describe", *arguments, *([] if "--out" in arguments else ["--out", "out"]), cwd=adult)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert not (adult / "out").exists()
    assert {path: path.read_bytes() for path in adult.iterdir() if path.is_file()} == before


def test_a_reference_with_other_columns_is_reported(adult: Path) -> None:
    pl.read_csv(adult / "young.csv").drop("sex").with_columns(town=pl.lit("x")).write_csv(adult / "other.csv")
    done = mews("data", "describe", adult / "old.csv", "--reference", adult / "other.csv")
    assert done.returncode == 0, done.stderr
    assert "sex: column added, the reference lacks it; not compared" in done.stdout
    assert "town: column gone, only the reference has it; not compared" in done.stdout


def test_text_of_the_data_is_never_markup(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "<i>name</i>": ["[red]x[/nothing]", "[red]x[/nothing]", "<script>alert(1)</script>", "</style>"] * 9,
            "y": [0, 1, 1, 0] * 9,
        }
    )
    frame.write_parquet(tmp_path / "a.parquet")
    done = mews("data", "describe", tmp_path / "a.parquet", "--label", "y", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "describe.html").read_text()
    assert "<script>alert" not in page
    assert "<i>name" not in page
    assert page.count("</style>") == 1
    assert "[red]x[/" in done.stdout


@pytest.fixture(scope="module")
def browsed(adult: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What the browser found on the page of old.csv against young.csv by width, and its console."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH (apt-get install chromium)")
    folder = tmp_path_factory.mktemp("browser")
    done = mews(
        "data", "describe", adult / "old.csv", "--label", "income", "--reference", adult / "young.csv", "--out",
        folder / "demo",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shutil.copy(folder / "demo" / "describe.html", folder / "demo" / "report.html")
    (folder / "harness.html").write_text(HARNESS)
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files",
        f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=5000",
        "--window-size=1500,1000", "--dump-dom", (folder / "harness.html").as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search("FOUND(.*)END", shown.stdout)
    assert found, f"the page did not load: {shown.stdout[-500:]}"
    console = "\n".join(line for line in shown.stderr.splitlines() if "CONSOLE" in line)
    return json.loads(html.unescape(found[1])), console


@pytest.mark.parametrize("width", ["390", "1440"])
def test_the_page_works_at_every_width(browsed: tuple[dict[str, Any], str], width: str) -> None:
    found, console = browsed[0][width], browsed[1]
    assert console == ""
    assert found["scroll"] <= found["client"], "no sideways scrolling"
    assert found["outside"] == [], "no label of a chart is cut off"
    assert found["resources"] == 0, "nothing is loaded"
    assert found["tip"].startswith("education_num\nAUC: 0.7"), "the keyboard steps through a chart"
    assert found["themes"][0] != found["themes"][1]

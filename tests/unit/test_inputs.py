"""Rows come from many places; what differs between files is told before any work."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import polars as pl
import pytest

from etl import inputs
from etl.errors import ConfigError, DataError, SchemaError
from etl.graph import Column

COLUMNS = [Column("user", "string"), Column("count", "int64"), Column("price", "float64")]
ROWS = pl.DataFrame({"user": ["a", None, "ø"], "count": [1, None, -3], "price": [0.5, None, 2.0], "other": [1, 2, 3]})


class Ranges(SimpleHTTPRequestHandler):
    """Serves files with byte ranges, as stores do."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data, asked = path.read_bytes(), self.headers.get("Range")
        first, last = 0, len(data) - 1
        if asked:
            start, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = (int(start), min(int(end or last), last)) if start else (len(data) - int(end), last)
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        if body:
            self.wfile.write(data[first : last + 1])

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def written(folder: Path) -> dict[str, Path]:
    ROWS.write_parquet(folder / "a.parquet")
    ROWS.write_csv(folder / "b.csv")
    ROWS.write_csv(folder / "c.tsv", separator="\t")
    ROWS.write_ipc(folder / "d.arrow")
    return {path.suffix: path for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".arrow"])
def test_every_format_gives_the_same_rows(suffix: str, tmp_path: Path) -> None:
    found = inputs.scan(COLUMNS, written(tmp_path)[suffix]).collect()
    assert found.equals(ROWS.select("user", "count", "price"))


def test_folders_globs_and_lists_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "x" / "year=1").mkdir(parents=True)
    for name in ("x/b.parquet", "x/year=1/a.parquet", "x/_hidden.parquet", "x/.tmp.parquet"):
        ROWS.write_parquet(tmp_path / name)
    (tmp_path / "x" / "notes.txt").write_text("no rows")
    assert [file.name for file in inputs.find(tmp_path / "x")] == ["b.parquet", "a.parquet"]
    assert [file.name for file in inputs.find(str(tmp_path / "x" / "b*.parquet"))] == ["b.parquet"]
    both = [tmp_path / "x" / "b.parquet", tmp_path / "x"]
    assert [file.name for file in inputs.find(both)] == ["b.parquet", "b.parquet", "a.parquet"]
    with pytest.raises(DataError, match="at least one"):
        inputs.find(str(tmp_path / "nothing*.csv"))


def test_everything_that_differs_is_told_at_once(tmp_path: Path) -> None:
    ROWS.write_parquet(tmp_path / "good.parquet")
    ROWS.drop("user").with_columns(pl.col("price").cast(pl.String), extra=1).write_parquet(tmp_path / "bad.parquet")
    ROWS.with_columns(pl.col("count").cast(pl.Int32), price=None).write_parquet(tmp_path / "narrow.parquet")
    files = inputs.find([tmp_path / name for name in ("good.parquet", "bad.parquet", "narrow.parquet")])
    with pytest.raises(SchemaError) as caught:
        inputs.check(files, COLUMNS)
    assert "3 column(s)" in str(caught.value)
    assert "bad.parquet: 'user' is missing (expected string)" in str(caught.value)
    assert "bad.parquet: 'price' is string (expected float64)" in str(caught.value)
    assert "narrow.parquet: 'count' is int32 (expected int64)" in str(caught.value)
    assert inputs.drift(files) == [
        "bad.parquet: 'user' is missing (good.parquet has it)",
        "bad.parquet: 'extra' is extra (good.parquet lacks it)",
        "bad.parquet: 'price' is String, in good.parquet it is Float64",
        "narrow.parquet: 'count' is Int32, in good.parquet it is Int64",
        "narrow.parquet: 'price' is Null, in good.parquet it is Float64",
    ]


def test_a_narrower_type_is_taken_only_when_that_is_allowed(tmp_path: Path) -> None:
    ROWS.with_columns(pl.col("count").cast(pl.Int32)).write_parquet(tmp_path / "narrow.parquet")
    with pytest.raises(SchemaError, match=r"features\.widen=true"):
        inputs.scan(COLUMNS, tmp_path / "narrow.parquet")
    widened = inputs.scan(COLUMNS, tmp_path / "narrow.parquet", widen=True).collect()
    assert widened.equals(ROWS.select("user", "count", "price"))
    ROWS.with_columns(pl.col("count").cast(pl.Float64)).write_parquet(tmp_path / "float.parquet")
    with pytest.raises(SchemaError, match="'count' is float64"):
        inputs.scan(COLUMNS, tmp_path / "float.parquet", widen=True)


def test_slices_cover_all_rows_once(tmp_path: Path) -> None:
    files = inputs.find([written(tmp_path)[suffix] for suffix in (".csv", ".parquet")])
    found = [(file.name, offset, rows) for file, offset, rows in inputs.slices(files, 2)]
    assert found == [("b.csv", 0, 2), ("b.csv", 2, 1), ("a.parquet", 0, 2), ("a.parquet", 2, 1)]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_files_are_read_over_http(suffix: str, tmp_path: Path, served: str) -> None:
    path = written(tmp_path)[suffix]
    assert inputs.scan(COLUMNS, f"{served}/{path.name}").collect().equals(ROWS.select("user", "count", "price"))
    with pytest.raises(DataError, match=r"none\.parquet cannot be read"):
        inputs.scan(COLUMNS, f"{served}/none.parquet")
    with pytest.raises(ConfigError, match="HTTP has no folders"):
        inputs.find(f"{served}/*.parquet")


def test_a_store_without_a_driver_and_delta_without_its_package_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="cannot be listed"):
        inputs.find("nosuch://bucket/rows/")
    (tmp_path / "table" / "_delta_log").mkdir(parents=True)
    monkeypatch.setitem(__import__("sys").modules, "deltalake", None)
    with pytest.raises(ConfigError, match="pip install deltalake"):
        inputs.scan(COLUMNS, tmp_path / "table")


def test_folders_and_globs_of_a_store_are_listed() -> None:
    store = fsspec.filesystem("memory")
    names = (
        "x/b.parquet",
        "x/y/a.csv",
        "x/_hidden.parquet",
        "x/notes.txt",
        "table/_delta_log/0.json",
        "table/a.parquet",
    )
    try:
        for name in names:
            store.pipe(f"/shop/{name}", b"")
        for folder in ("memory://shop/x", "memory://shop/x/"):
            assert [file.name for file in inputs.find(folder)] == ["b.parquet", "a.csv"]
        assert [file.format for file in inputs.find("memory://shop/x/*/*.csv")] == ["CSV"]
        assert [file.format for file in inputs.find("memory://shop/table")] == ["Delta Lake"]
        with pytest.raises(DataError, match="at least one"):
            inputs.find("memory://shop/none")
    finally:
        store.rm("/shop", recursive=True)


def test_csv_in_a_store_without_a_driver_is_refused_at_once() -> None:
    if importlib.util.find_spec("gcsfs"):
        pytest.skip("gcsfs is installed")
    with pytest.raises(ConfigError, match=r"gs://bucket/\*\.csv cannot be listed.*Name the files one by one"):
        inputs.find("gs://bucket/*.csv")


def test_csv_and_parquet_differ_in_names_only(tmp_path: Path) -> None:
    files = inputs.find([written(tmp_path)[suffix] for suffix in (".parquet", ".csv")])
    assert inputs.drift(files) == []
    assert inputs.drift(files[:1]) == []

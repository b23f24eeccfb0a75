import json
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from ensemble.requests.encode import encode
from ensemble.requests.rows import read_rows
from ensemble.spec import RequestColumn, RequestSchema
from etl.errors import RequestError

SCHEMA = RequestSchema(
    (
        RequestColumn("user", "int64"),
        RequestColumn("item", "string"),
        RequestColumn("price", "float32"),
        RequestColumn("tags", "string", is_list=True),
        RequestColumn("scores", "int32", is_list=True),
        RequestColumn("when", "datetime"),
        RequestColumn("active", "bool"),
    )
)
MICROSECONDS = 1577836800000000
ROWS = [
    {"user": 2**60, "item": "a,b", "price": 1.5, "tags": ["x", "y z"], "scores": [1, 2]}
    | {"when": "2020-01-01T00:00:00Z", "active": True},
    {"user": None, "item": None, "price": 2, "tags": [], "scores": None, "when": MICROSECONDS, "active": False},
]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    cells = (
        "user,item,price,tags,scores,when,active\n"
        f'{2**60},"a,b",1.5,"[""x"", ""y z""]",1|2,2020-01-01T00:00:00Z,true\n'
        f",,2,,,{MICROSECONDS},0\n"
    )
    frame = pl.DataFrame(
        {
            "user": [2**60, None],
            "item": ["a,b", None],
            "price": [1.5, 2.0],
            "tags": [["x", "y z"], []],
            "scores": [[1, 2], None],
            "when": [datetime(2020, 1, 1)] * 2,
            "active": [True, False],
        }
    )
    frame.write_parquet(tmp_path / "rows.parquet")
    return {
        "json": write(tmp_path / "rows.json", json.dumps(ROWS)),
        "lines": write(tmp_path / "lines.json", "\n".join(map(json.dumps, ROWS)) + "\n\n"),
        "jsonl": write(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, ROWS))),
        "csv": write(tmp_path / "rows.csv", cells),
        "parquet": tmp_path / "rows.parquet",
    }


@pytest.mark.parametrize("kind", ["json", "lines", "jsonl", "csv", "parquet"])
def test_the_same_rows_make_the_same_request_from_every_kind_of_file(files, kind):
    tensors = encode(read_rows(files[kind], SCHEMA), SCHEMA)
    assert tensors["user"].tolist() == [[2**60], [-(2**63)]]
    assert tensors["item"].tolist() == [[b"a,b"], [b""]]
    assert tensors["price"].tolist() == [[1.5], [2.0]]
    assert tensors["tags"][0, :2].tolist() == [b"x", b"y z"]
    assert tensors["tags__length"].tolist() == [[2], [0]]
    assert tensors["scores"][0, :2].tolist() == [1, 2]
    assert tensors["when"].tolist() == [[MICROSECONDS]] * 2
    assert tensors["active"].tolist() == [[True], [False]]


def test_a_key_that_some_objects_lack_is_null_and_one_that_all_lack_is_missing(tmp_path):
    path = write(tmp_path / "rows.json", '[{"user": 1}, {"item": "a"}]')
    rows = read_rows(path, SCHEMA)
    assert rows.to_dict(as_series=False) == {"user": [1, None], "item": [None, "a"]}
    with pytest.raises(RequestError, match="missing column 'price'"):
        encode(rows, SCHEMA)


def test_other_columns_stay_for_encode_to_refuse_or_go(files, tmp_path):
    rows = read_rows(files["parquet"], SCHEMA).with_columns(label=pl.lit(1))
    rows.write_parquet(tmp_path / "labelled.parquet")
    assert "label" in read_rows(tmp_path / "labelled.parquet", SCHEMA).columns
    assert read_rows(tmp_path / "labelled.parquet", SCHEMA, drop_unknown=True).columns == list(SCHEMA.names)


def test_no_rows_are_no_rows(tmp_path):
    for name, text in (("a.json", "[]"), ("b.jsonl", ""), ("c.csv", ",".join(SCHEMA.names) + "\n")):
        rows = read_rows(write(tmp_path / name, text), SCHEMA)
        assert rows.height == 0
        assert len(encode(rows, SCHEMA)["user"]) == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"user": "7"}, r"column 'user', row 1; expected int64; received '7'"),
        ({"user": 1.5}, r"column 'user', row 1; expected int64; received 1\.5"),
        ({"user": True}, r"column 'user', row 1; expected int64; received True"),
        ({"user": 2**70}, r"column 'user'; expected int64"),
        ({"price": "cheap"}, r"column 'price', row 1; expected float32; received 'cheap'"),
        ({"item": 5}, r"column 'item', row 1; expected string; received 5"),
        ({"tags": "x"}, r"column 'tags', row 1; expected a list of string; received 'x'"),
        ({"tags": [1]}, r"column 'tags', row 1; expected string; received 1"),
        ({"item": ["a"]}, r"column 'item', row 1; expected string; received \['a'\]"),
        ({"when": "yesterday"}, r"column 'when', row 1; expected datetime; received 'yesterday'"),
        ({"active": 1}, r"column 'active', row 1; expected bool; received 1"),
    ],
)
def test_a_value_of_another_type_names_file_column_and_row(tmp_path, value, message):
    path = write(tmp_path / "rows.json", json.dumps([ROWS[0], ROWS[0] | value]))
    with pytest.raises(RequestError, match=rf"rows\.json: {message}"):
        read_rows(path, SCHEMA)


@pytest.mark.parametrize(
    ("cell", "message"),
    [("user\nseven", "column 'user', row 0; expected int64"), ('tags\n"[1"', "column 'tags'; expected a JSON list")],
)
def test_a_csv_cell_of_another_type_names_its_column(tmp_path, cell, message):
    with pytest.raises(RequestError, match=message):
        read_rows(write(tmp_path / "rows.csv", cell + "\n"), SCHEMA)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b"{", "is not JSON"),
        ("a.json", b"[1, 2]", "row 0; expected an object; received int"),
        ("a.json", b"\xff\xfe", "cannot be read"),
        ("a.parquet", b"PAR1nonsense", "cannot be read"),
        ("a.parquet", b"", "cannot be read"),
        ("a.csv", b"", "cannot be read"),
        ("a.txt", b"x", r"expected a file ending in \.json"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RequestError, match=message):
        read_rows(tmp_path / name, SCHEMA)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"rows\.json is not a file"):
        read_rows(tmp_path / "rows.json", SCHEMA)

import json
import math
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from ensemble.requests.encode import encode, to_json
from ensemble.spec import RequestColumn, RequestSchema
from etl.dtypes import DTYPES
from etl.errors import RequestError


def one(values: pl.Series, dtype: str, **column) -> dict[str, np.ndarray]:
    return encode(pl.DataFrame({"x": values}), RequestSchema((RequestColumn("x", dtype, **column),)))


@pytest.mark.parametrize("name", [name for name in DTYPES if name not in ("datetime", "string")])
def test_a_scalar_travels_as_its_type(name):
    tensor = one(pl.Series([1, 0]).cast(DTYPES[name].polars), name)["x"]
    assert tensor.dtype == DTYPES[name].numpy
    assert tensor.tolist() == [[1], [0]]
    assert tensor.flags.c_contiguous


@pytest.mark.parametrize("name", [name for name, kind in DTYPES.items() if kind.null is not None])
def test_a_null_travels_as_the_table_of_types_says(name):
    tensor = one(pl.Series([None], dtype=DTYPES[name].polars), name)["x"]
    null = DTYPES[name].null
    expected = b"" if name == "string" else null
    assert tensor.shape == (1, 1)
    assert np.isnan(tensor[0, 0]) if isinstance(null, float) else tensor[0, 0] == expected
    untyped = one(pl.Series([None]), name)["x"]
    assert untyped.dtype == tensor.dtype


@pytest.mark.parametrize("name", ["bool", "uint8", "uint64"])
def test_a_null_that_the_type_cannot_say_names_column_and_rows(name):
    values = pl.Series([1, None, 0, None]).cast(DTYPES[name].polars)
    with pytest.raises(
        RequestError, match=rf"column 'x' holds null, which {name} cannot say; fill it before \(row 1, 3\)"
    ):
        one(values, name)


def test_a_null_in_a_column_that_may_not_is_refused():
    with pytest.raises(RequestError, match=r"column 'x' holds null, which it may not \(row 1\)"):
        one(pl.Series([1.0, None]), "float32", nullable=False)


@pytest.mark.parametrize(
    ("values", "target"),
    [
        (pl.Series([300], dtype=pl.Int64), "uint8"),
        (pl.Series([-1], dtype=pl.Int8), "uint64"),
        (pl.Series([2**63], dtype=pl.UInt64), "int64"),
        (pl.Series([2**31], dtype=pl.Int64), "int32"),
        (pl.Series([1e300], dtype=pl.Float64), "float32"),
    ],
)
def test_a_value_out_of_range_names_its_row(values, target):
    values = pl.concat([pl.Series([1, 2]).cast(values.dtype), values])
    with pytest.raises(RequestError, match=rf"column 'x' is out of the range of {target} \(row 2\)"):
        one(values, target)


def test_a_value_that_would_be_read_as_null_is_refused():
    with pytest.raises(RequestError, match=r"holds -128, the value that stands for null \(row 1\)"):
        one(pl.Series([1, -128, None], dtype=pl.Int64), "int8")


def test_nan_and_infinity_travel_as_they_are():
    tensor = one(pl.Series([math.nan, math.inf, -math.inf, None]), "float32")["x"][:, 0]
    assert np.isnan(tensor[[0, 3]]).all()
    assert tensor[1:3].tolist() == [math.inf, -math.inf]


def test_strings_are_bytes_in_utf_8():
    tensor = one(pl.Series(["a", "überraschung", "", None, "日本"]), "string")["x"]
    assert tensor[:, 0].tolist() == [b"a", "überraschung".encode(), b"", b"", "日本".encode()]
    sent = deserialize_bytes_tensor(serialize_byte_tensor(tensor).item())
    assert sent.tolist() == tensor[:, 0].tolist()


def test_categoricals_are_strings():
    assert one(pl.Series(["a", "b"], dtype=pl.Categorical), "string")["x"].tolist() == [[b"a"], [b"b"]]


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([datetime(2020, 1, 1), None]),
        pl.Series([datetime(2020, 1, 1), None], dtype=pl.Datetime("ms")),
        pl.Series([datetime(2020, 1, 1), None], dtype=pl.Datetime("ns")),
        pl.Series([datetime(2020, 1, 1, tzinfo=UTC), None]),
        pl.Series([datetime(2020, 1, 1, tzinfo=UTC), None]).dt.convert_time_zone("Asia/Tokyo"),
        pl.Series([date(2020, 1, 1), None]),
        pl.Series([1577836800000000, None]),
    ],
)
@pytest.mark.parametrize("target", ["datetime", "int64"])
def test_times_are_microseconds_in_utc(values, target):
    """A server's metadata calls a datetime INT64."""
    assert one(values, target)["x"].tolist() == [[1577836800000000], [-(2**63)]]


def test_lists_of_different_length_are_padded_and_counted():
    tensors = one(pl.Series([[1, 2, 3, 4, 5], [], None, [6]]), "int64", is_list=True)
    assert tensors["x"].tolist() == [[1, 2, 3, 4, 5, 0, 0, 0], [0] * 8, [0] * 8, [6, 0, 0, 0, 0, 0, 0, 0]]
    assert tensors["x__length"].tolist() == [[5], [0], [0], [1]]
    assert tensors["x__length"].dtype == np.int32


def test_a_null_in_a_list_travels_as_a_null():
    assert one(pl.Series([["a", None]]), "string", is_list=True)["x"][0, :2].tolist() == [b"a", b""]
    assert one(pl.Series([[1, None]]), "int32", is_list=True)["x"][0, :2].tolist() == [1, -(2**31)]
    with pytest.raises(RequestError, match=r"bool cannot say; fill it before \(row 1\)"):
        one(pl.Series([[True], [False, None]]), "bool", is_list=True)


@pytest.mark.parametrize("values", [[[]], [None], [[], None]])
def test_a_frame_of_empty_lists_has_a_width(values):
    tensors = one(pl.Series(values, dtype=pl.List(pl.String)), "string", is_list=True)
    assert tensors["x"].shape == (len(values), 4)
    assert tensors["x"][0, 0] == b""
    assert one(pl.Series(values), "string", is_list=True)["x__length"].tolist() == [[0]] * len(values)


def test_lists_of_fixed_length_are_one_tensor():
    values = pl.Series([[1.0, 2.0], [3.0, 4.0]])
    for series in (values, values.cast(pl.Array(pl.Float64, 2))):
        tensors = one(series, "float32", is_list=True, length=2)
        assert tensors["x"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
        assert list(tensors) == ["x"]
    with pytest.raises(RequestError, match=r"not a list of 2 values \(row 1, 2\)"):
        one(pl.Series([[1.0, 2.0], [3.0], None]), "float32", is_list=True, length=2)


SCHEMA = RequestSchema(
    (
        RequestColumn("user_id", "int64"),
        RequestColumn("item", "string"),
        RequestColumn("price", "float32"),
        RequestColumn("tags", "string", is_list=True),
        RequestColumn("active", "bool"),
    )
)


def test_all_problems_are_told_at_once():
    rows = pl.DataFrame(
        {
            "userid": [1, 2],
            "item": [1, 2],
            "price": ["1", "2"],
            "tags": ["a", "b"],
            "active": [True, None],
            "zzz": [0, 0],
        }
    )
    with pytest.raises(RequestError) as raised:
        encode(rows, SCHEMA)
    text = str(raised.value)
    for part in (
        "missing column 'user_id'",
        "unknown column 'userid' (did you mean 'user_id'?)",
        "unknown column 'zzz'",
        "column 'item'; expected string; received Int64",
        "column 'price'; expected float32; received String",
        "column 'tags'; expected list[string]; received String",
        "column 'active' holds null",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (pl.Series([1.0]), "int64"),
        (pl.Series([True]), "int64"),
        (pl.Series([True]), "float32"),
        (pl.Series([[1]]), "int64"),
        (pl.Series([1]), "bool"),
        (pl.Series([datetime(2020, 1, 1)]), "float64"),
        (pl.Series([{"a": 1}]), "string"),
        (pl.Series([b"a"]), "string"),
    ],
)
def test_a_type_that_would_need_guessing_is_refused(values, dtype):
    with pytest.raises(RequestError, match=f"column 'x'; expected {dtype}; received"):
        one(values, dtype)


def test_many_bad_rows_are_counted():
    with pytest.raises(RequestError, match=r"\(row 0, 1, 2, 3, 4 and 95 more\)"):
        one(pl.Series([None] * 100, dtype=pl.Boolean), "bool")


def test_no_rows_have_tensors_of_no_rows(parts):
    tensors = encode(parts.rows(0), parts.schema)
    assert {name: len(values) for name, values in tensors.items()} == dict.fromkeys(tensors, 0)
    assert set(tensors) == {spec.name for spec in parts.schema.tensors}


def test_json_is_a_kserve_body(parts):
    tensors = encode(parts.rows(3), parts.schema)
    body = json.loads(json.dumps(to_json(tensors, parts.schema, "score")))
    by_name = {each["name"]: each for each in body["inputs"]}
    assert by_name["tags"]["shape"] == list(tensors["tags"].shape)
    assert by_name["item"]["data"] == [value.decode() for value in tensors["item"][:, 0]]


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-(2**63) + 1, 2**63 - 1)),
            st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))),
            st.one_of(st.none(), st.floats(width=32)),
            st.one_of(st.none(), st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=6)),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_any_row_arrives_as_it_was(rows):
    types = {
        "user_id": pl.Int64,
        "item": pl.String,
        "price": pl.Float32,
        "tags": pl.List(pl.String),
        "active": pl.Boolean,
    }
    tensors = encode(pl.DataFrame(rows, schema=types, orient="row"), SCHEMA)
    for number, (user, item, price, tags, active) in enumerate(rows):
        assert tensors["user_id"][number, 0] == (-(2**63) if user is None else user)
        assert tensors["item"][number, 0] == (item or "").encode()
        got = tensors["price"][number, 0]
        assert np.isnan(got) if price is None or math.isnan(price) else got == price
        length = tensors["tags__length"][number, 0]
        assert [value.decode() for value in tensors["tags"][number, :length]] == (tags or [])
        assert tensors["active"][number, 0] == active

"""Whatever the form in which a request brings the raw columns, the ONNX graph makes the features that batch makes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest

from ensemble.requests.encode import encode
from ensemble.requests.rows import from_arrays
from ensemble.spec import RequestSchema
from etl.compiler import feature_tensors, to_onnx, to_polars
from etl.errors import CompileError, ConfigError, RequestError
from etl.graph import INPUT, Column, FeatureGraph, Ref
from etl.requests import RequestForm
from tests.conformance.compare import assert_same
from tests.conformance.raw import FLOATS, INTEGERS, VALUES, frame_of, graph_of, node_of


class Served:
    """The ONNX graph of `graph` with the request's `forms`, fed as our client feeds a server."""

    def __init__(self, graph: FeatureGraph, forms: Mapping[str, RequestForm]) -> None:
        self.graph, self.schema = graph, RequestSchema.from_columns(graph.inputs, forms)
        self.model = to_onnx(graph, None, forms)
        onnx.checker.check_model(self.model, full_check=True)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(
            self.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def features(self, rows: pl.DataFrame) -> dict[str, list[Any]]:
        """Return the features of raw rows."""
        return self.run(encode(rows, self.schema))

    def run(self, tensors: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Return the features of request tensors."""
        fed = {
            name: np.array([v.decode() for v in t.ravel()], object).reshape(t.shape) if t.dtype == object else t
            for name, t in tensors.items()
        }
        names = feature_tensors(self.model)
        found = self.session.run(list(names.values()), fed)
        return {name: tensor.tolist() for name, tensor in zip(names, found, strict=True)}


def check(column: Column, form: RequestForm, values: list[Any]) -> Served:
    """Features of the request are those of batch: all rows together, one alone, and none."""
    graph, frame = graph_of(column), frame_of(column, values)
    served = Served(graph, {column.name: form})
    for rows in (frame, *(frame.slice(n, 1) for n in range(frame.height)), frame.clear()):
        batch = to_polars(graph).apply(rows.lazy()).collect()
        for name, found in served.features(rows).items():
            expected = batch.get_column(name).to_list()
            assert_same(name, expected, found if column.is_list and name != "key" else [row[0] for row in found])
    return served


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("optional", [False, True])
def test_a_mask_says_null_of_every_type(dtype: str, optional: bool) -> None:
    values = [*VALUES[dtype], None, VALUES[dtype][1], None]
    check(Column("x", dtype), RequestForm(mask=True, optional=optional), values)


@pytest.mark.parametrize("dtype", VALUES)
def test_a_mask_says_null_in_lists(dtype: str) -> None:
    first, second, *_ = VALUES[dtype]
    rows = [[first, None, second], [], [None], [second, first, first, None, second]]
    for form in (RequestForm(mask=True), RequestForm(mask=True, offsets=True)):
        check(Column("x", dtype, is_list=True), form, rows)
    fixed = [[first, None], [None, second]]
    check(Column("x", dtype, is_list=True, length=2), RequestForm(mask=True), fixed)


@pytest.mark.parametrize(
    ("dtype", "null"),
    [("int64", -1), ("int8", 99), ("uint8", 255), ("uint64", 9), ("float32", -2.0), ("string", "n/a")],
)
def test_a_declared_value_says_null(dtype: str, null: Any) -> None:
    served = check(Column("x", dtype), RequestForm(null=null), [*VALUES[dtype], None])
    sent = frame_of(Column("x", dtype), [null, None])
    first, second = served.features(sent)["x"]
    assert first == second == ([7.5] if dtype == "float32" else [1])


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_optional_column_that_is_left_out_is_null_in_every_row(dtype: str, count: int) -> None:
    served = Served(graph_of(Column("x", dtype)), {"x": RequestForm(optional=True)})
    rows = frame_of(Column("x", dtype), VALUES[dtype][:1] * count)
    null = 7.5 if dtype in FLOATS else 1
    assert served.features(rows.drop("x"))["x"] == [[null]] * count
    assert served.features(rows)["x"] == [[VALUES[dtype][0] if dtype in FLOATS else 3]] * count


@pytest.mark.parametrize("offsets", [False, True])
def test_an_optional_list_that_is_left_out_is_empty(offsets: bool) -> None:
    column = Column("x", "string", is_list=True)
    served = Served(graph_of(column), {"x": RequestForm(optional=True, offsets=offsets)})
    rows = frame_of(column, [["a", "é"], [], ["a"]])
    assert served.features(rows)["x"] == [[3, 4, 0, 0, 0], [0] * 5, [3, 0, 0, 0, 0]]
    assert served.features(rows.drop("x"))["x"] == [[0] * 5] * 3


@pytest.mark.parametrize("dtype", VALUES)
def test_values_and_offsets_are_a_list(dtype: str) -> None:
    first, second, third, *_ = VALUES[dtype]
    column = Column("x", dtype, is_list=True)
    check(column, RequestForm(offsets=True), [[], [first, second], [third], [], [first] * 7, []])
    check(column, RequestForm(offsets=True), [[], []])


def test_rows_may_be_given_as_values_and_offsets() -> None:
    served = Served(graph_of(Column("x", "int64", is_list=True)), {"x": RequestForm(offsets=True)})
    arrays = {"key": np.array([7, 7, 0]), "x__values": np.array([7, 0, 100]), "x__offsets": np.array([0, 2, 2, 3])}
    rows = from_arrays(arrays, served.schema)
    assert rows.get_column("x").to_list() == [[7, 0], [], [100]]
    tensors = encode(rows, served.schema)
    assert tensors["x__values"].tolist() == [7, 0, 100]
    assert tensors["x__offsets"].tolist() == [0, 2, 2, 3]
    for ends in ([0, 2, 1, 3], [1, 3], [0, 2], [], [0.0, 3.0]):
        with pytest.raises(RequestError, match="x__offsets"):
            from_arrays({**arrays, "x__offsets": np.array(ends)}, served.schema)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("arrives", INTEGERS)
def test_integers_of_any_width(dtype: str, arrives: str) -> None:
    served = check(Column("x", dtype), RequestForm(dtype=arrives), VALUES[dtype])
    wide, narrow = np.iinfo(arrives), np.iinfo(dtype)
    for value in (wide.max, wide.min + (wide.min < 0)):
        tensors = encode(frame_of(Column("x", dtype), [7]), served.schema)
        tensors["x"] = np.array([[value]], arrives)
        if narrow.min <= value <= narrow.max:
            assert served.run(tensors)["x"] == [[2 if value else 4]]
        else:
            with pytest.raises(Exception, match=f"x: a value out of the range of {dtype}"):
                served.run(tensors)
    if arrives.startswith("int") and dtype.startswith("int"):
        check(Column("x", dtype), RequestForm(dtype=arrives), [*VALUES[dtype], None])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("arrives", ["float16", *FLOATS])
def test_floats_of_any_width(dtype: str, arrives: str) -> None:
    check(Column("x", dtype), RequestForm(dtype=arrives), [*VALUES[dtype], None])
    check(Column("x", dtype, is_list=True), RequestForm(dtype=arrives), [VALUES[dtype], [], [None, 0.5]])
    check(Column("x", dtype), RequestForm(dtype=arrives, null=-2.0), [*VALUES[dtype], None])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "iso"])
@pytest.mark.parametrize("mask", [False, True])
def test_datetimes_in_every_unit(unit: Any, mask: bool) -> None:
    values = VALUES["datetime"]
    if unit == "ns":  # 64 bits hold the years 1678 to 2262
        values = [value.replace(year=2024 - 4 * number) for number, value in enumerate(values)]
    check(Column("x", "datetime"), RequestForm(datetime=unit, mask=mask), [*values, None])


def _instants(values: list[Any], form: RequestForm) -> list[int]:
    column = Column("x", "datetime")
    graph = FeatureGraph((column,), (), (Ref(INPUT, "x"),))
    tensor = np.array(values, object if form.datetime == "iso" else np.int64).reshape(-1, 1)
    tensor = np.array([[v[0].encode()] for v in tensor], object) if form.datetime == "iso" else tensor
    return [row[0] for row in Served(graph, {"x": form}).run({"x": tensor})["x"]]


def test_numbers_become_microseconds() -> None:
    null = -(2**63)
    assert _instants([-1, 1_500, -1_500, null], RequestForm(datetime="ns")) == [-1, 1, -2, null]
    assert _instants([-1, 2, null], RequestForm(datetime="ms")) == [-1_000, 2_000, null]
    assert _instants([-1, 0, null], RequestForm(datetime="s", null=0)) == [-1_000_000, null, null]
    with pytest.raises(Exception, match="x: a datetime that microseconds cannot hold"):
        _instants([2**62], RequestForm(datetime="s"))


def test_iso_text_is_exact_in_the_graph() -> None:
    random = np.random.default_rng(0)
    ends = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)]
    low, high = (int((end - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) for end in ends)
    seconds = [low, high, 0, -1, *random.integers(low, high, 500).tolist()]
    texts, expected = [], []
    for number, second in enumerate(seconds):
        day, micro = np.datetime64(second, "s"), int(random.integers(0, 10**6))
        spelled = (
            (str(day.astype("datetime64[D]")), int(day.astype("datetime64[D]").astype(np.int64)) * 86_400 * 10**6),
            (str(day), second * 10**6),
            (f"{day}Z", second * 10**6),
            (f"{str(day).replace('T', ' ')}.{micro:06d}", second * 10**6 + micro),
            (f"{day}.{micro // 1000:03d}Z", second * 10**6 + micro // 1000 * 1000),
            (f"{day}.{micro:06d}999Z", second * 10**6 + micro),
        )
        texts.append(spelled[number % 6][0])
        expected.append(spelled[number % 6][1])
    assert _instants([*texts, ""], RequestForm(datetime="iso")) == [*expected, -(2**63)]


@pytest.mark.parametrize(
    "text",
    [
        *("x", "2024", "2024-02-30", "2023-02-29", "1900-02-29", "2024-13-01", "2024-00-01", "2024-01-00"),
        *("0000-01-01", "2024-01-02Z", "2024-01-02T", "2024-01-02T03:04", "2024-01-02T24:00:00", " 2024-01-02"),
        *("2024-01-02T03:60:00", "2024-01-02T03:04:60", "2024-01-02T03:04:05.", "2024-01-02T03:04:05.1234567890"),
        *("2024-01-02T03:04:05ZZ", "2024-01-02T03:04:05+01:00", "２０２４-01-02", "2024-01-02T03:04:05Z.5"),
        *("2024-01-02T03:04:05.123456789Z" + " " * 40, "2024-01-02T03:04:05Zé", "2024-01-02T03:04:05.1.2"),
    ],
)
def test_text_that_is_no_datetime_fails_the_request(text: str) -> None:
    with pytest.raises(Exception, match="x: not an ISO 8601 datetime"):
        _instants(["2024-01-02", text], RequestForm(datetime="iso"))


def test_the_client_takes_text_for_a_datetime() -> None:
    text = ["2024-01-02", "2024-01-02T03:04:05.123456Z", "2024-01-02T05:04:05+02:00", None]
    rows = pl.DataFrame({"x": text})
    for unit, expected in (
        ("us", [1704153600000000, 1704164645123456, 1704164645000000, -(2**63)]),
        ("ns", [1704153600000000000, 1704164645123456000, 1704164645000000000, -(2**63)]),
        ("iso", [b"2024-01-02T00:00:00", b"2024-01-02T03:04:05.123456", b"2024-01-02T03:04:05", b""]),
    ):
        form: Any = {"x": RequestForm(datetime=unit)}  # type: ignore[arg-type]
        tensors = encode(rows, RequestSchema.from_columns((Column("x", "datetime"),), form))
        assert tensors["x"].ravel().tolist() == expected
    schema = RequestSchema.from_columns((Column("x", "datetime"),), {"x": RequestForm(datetime="s")})
    with pytest.raises(RequestError, match=r"'x' is not a whole number of s \(row 1\)"):
        encode(rows, schema)
    with pytest.raises(RequestError, match=r"'x' is not an ISO 8601 datetime \(row 0\)"):
        encode(pl.DataFrame({"x": ["yesterday"]}), schema)


@pytest.mark.parametrize(
    ("column", "form", "words"),
    [
        (Column("x", "bool"), RequestForm(null=1), "use null: mask"),
        (Column("x", "uint8"), RequestForm(null=-1), "out of the range of uint8"),
        (Column("x", "uint8"), RequestForm(null="none"), "expected a value of type uint8"),
        (Column("x", "float32"), RequestForm(null=0.1), "cannot hold 0.1 exactly"),
        (Column("x", "int64"), RequestForm(null=1, mask=True), "choose one"),
        (Column("x", "int64"), RequestForm(dtype="float32"), "expected int8 or"),
        (Column("x", "string"), RequestForm(dtype="int8"), "expected string"),
        (Column("x", "int64"), RequestForm(offsets=True), "for lists of any length"),
        (Column("x", "int64"), RequestForm(datetime="iso"), "is for datetimes"),
        (Column("x", "datetime", is_list=True), RequestForm(datetime="iso"), "one datetime a row"),
    ],
)
def test_a_form_that_its_column_cannot_have_is_refused(column: Column, form: RequestForm, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        to_onnx(graph_of(column), None, {"x": form})


def test_columns_that_are_not_there_and_requests_of_nothing_are_refused() -> None:
    graph = graph_of(Column("x", "int64"))
    with pytest.raises(ConfigError, match="y: no such raw column; known are key, x"):
        to_onnx(graph, None, {"y": RequestForm(mask=True)})
    with pytest.raises(ConfigError, match="every column is optional"):
        to_onnx(graph, None, {"x": RequestForm(optional=True), "key": RequestForm(optional=True)})
    taken = graph_of(Column("x", "int64"), Column("x__null", "int64"))
    with pytest.raises(ConfigError, match="x__null: two inputs have this name"):
        to_onnx(taken, None, {"x": RequestForm(mask=True)})


def test_a_null_that_an_output_cannot_hold_is_refused() -> None:
    graph = FeatureGraph((Column("x", "uint8"),), (), (Ref(INPUT, "x"),))
    assert to_onnx(graph)
    with pytest.raises(CompileError, match=r"a null of uint8 cannot be in an output tensor.*FillMissing"):
        to_onnx(graph, None, {"x": RequestForm(mask=True)})


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8"])
def test_clip_is_exact_at_every_bound(dtype: str) -> None:
    limits = np.iinfo(dtype)
    edges = [0, 5, -7, 2**31 - 1, 2**31, 2**32 - 1, 2**33, -(2**31), -(2**32), 2**62, 2**63 - 1, 3 * 10**9]
    values = [value for value in [*edges, *edges] if limits.min < value <= limits.max]
    column = Column("x", dtype)
    for low in values[::2]:
        for high in (value for value in values[::3] if value >= low):
            params = {"min_value": low, "max_value": high}
            graph = FeatureGraph((column,), (node_of("Clip", column, column, params),), (Ref("Clip_x", "x"),))
            found = Served(graph, {}).features(frame_of(column, values).drop("key"))["x"]
            assert [row[0] for row in found] == np.clip(values, low, high).tolist(), params

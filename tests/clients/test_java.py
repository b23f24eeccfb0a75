"""The Java client, compiled and run against the real server, beside the Python client."""

from __future__ import annotations

import base64
import http.server
import json
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tritonclient.utils import np_to_triton_dtype

from ensemble.client.canary import Canary
from ensemble.client.client import Client
from ensemble.requests.encode import encode
from ensemble.requests.packed import pack
from ensemble.server.triton import TritonServer
from ensemble.spec import RequestColumn, RequestSchema
from etl.requests import RequestForm

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "clients" / "java" / "src" / "main" / "java" / "mews" / "client"
TOOL = Path(__file__).parent / "java" / "mews" / "client" / "Tool.java"
KINDS = {
    pl.Int64: "long",
    pl.Float32: "double",
    pl.Float64: "double",
    pl.String: "string",
    pl.Boolean: "boolean",
    pl.List(pl.String): "strings",
    pl.List(pl.Int64): "longs",
    pl.List(pl.Float64): "doubles",
}

Tool = Callable[[str, list[str]], list[Any]]


@pytest.fixture(scope="session")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """Runs one job of Tool.java on lines; answers in order."""
    if shutil.which("javac") is None or shutil.which("java") is None:
        pytest.skip("no JDK: javac and java are not on PATH")
    classes = tmp_path_factory.mktemp("classes")
    command = ["javac", "--release", "17", "-Xlint:all", "-Werror", "-d", str(classes)]
    compiled = subprocess.run([*command, *map(str, SOURCES.glob("*.java")), str(TOOL)], capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stdout + compiled.stderr

    def run(job: str, lines: list[str]) -> list[Any]:
        done = subprocess.run(
            ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", str(classes), "mews.client.Tool", job],
            input="\n".join(lines) + "\n",
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def columns(rows: pl.DataFrame) -> list[dict[str, Any]]:
    return [{"name": each.name, "kind": KINDS[each.dtype], "values": each.to_list()} for each in rows.get_columns()]


def line(url: str, model: str, rows: pl.DataFrame, **more: Any) -> str:
    return json.dumps({"url": f"http://{url}", "model": model, "columns": columns(rows), **more})


def scores(answer: dict[str, Any]) -> np.ndarray:
    assert "scores" in answer, answer
    return np.array(answer["scores"], dtype=np.int64).astype(np.int32).view(np.float32)


# --- JSON ---


def _strict(text: str) -> Any:
    def refuse(_: str) -> None:
        raise ValueError

    return json.loads(text, parse_constant=refuse)


def _documents(count: int) -> Iterator[str]:
    """JSON of every kind, and the same with a character changed, added or gone."""
    chance = random.Random(0)
    words = ["", "a", "ü", "日本", "😀", '"', "\\", "\n", "\u0000", "\ud800", "0", "true"]
    numbers = [0, -1, 7, 2**63 - 1, -(2**63), 2**64, 0.5, -1e-300, 1e300, 5e-324, 1e21]

    def value(depth: int) -> Any:
        kind = chance.randrange(7 if depth else 5)
        if kind < 5:
            return [None, True, False, chance.choice(numbers), "".join(chance.choices(words, k=3))][kind]
        items = [value(depth - 1) for _ in range(chance.randrange(4))]
        return items if kind == 5 else {"".join(chance.choices(words, k=2)): item for item in items}

    for number in range(count):
        text = json.dumps(value(4), ensure_ascii=number % 2 == 0, indent=None if number % 3 else 1)
        text = text.encode("utf-8", "replace").decode()
        if number % 4:
            at = chance.randrange(len(text) + 1)
            odd = chance.choice([*'{}[]:,"\\0123456789.eE+-tfnu \n\t\x00\x0bNI\u00a0١'])
            before, after = text[:at], text[at:]
            text = chance.choice([before + odd + after, before + after[1:], before, before + odd + after[1:]])
        yield text


def test_the_parser_takes_and_refuses_what_python_s_does(tool):
    texts = ["", "-", "01", "-01", "1.", ".5", "1e", "1e+", "+1", "NaN", "[1,]", "tru", "-0", "1E5", "\ufeff1"]
    texts += [
        '{"a":1,}',
        '{"a" 1}',
        '{"a":1,"a":2}',
        '"\\x"',
        '"\\u00g0"',
        '"\\u٠٠٠٠"',
        *("[" * n + "]" * n for n in (99, 300)),
    ]
    texts += _documents(3000)
    answers = tool("json", [base64.b64encode(text.encode()).decode() for text in texts])
    refused = 0
    for text, answer in zip(texts, answers, strict=True):
        try:
            expected = _strict(text) if text.count("[") < 256 else None
        except ValueError:
            assert isinstance(answer, dict), f"taken: {text!r}"
            assert answer["error"] == "Malformed"
            refused += 1
            continue
        if text.count("[") >= 256:
            assert "levels" in answer["message"]
            continue
        assert isinstance(answer, list), f"refused: {text!r}: {answer}"
        assert _same(json.loads(answer[1]), expected), text
    assert 500 < refused < len(texts) - 500


def _same(found: Any, expected: Any) -> bool:
    """Equal, where a number too large for a long is a double."""
    if isinstance(expected, bool) or not isinstance(expected, int | float):
        if isinstance(expected, list):
            return len(found) == len(expected) and all(map(_same, found, expected))
        if isinstance(expected, dict):
            return list(found) == list(expected) and all(_same(found[key], expected[key]) for key in expected)
        return bool(found == expected)
    return float(found) == float(expected)


def test_halves_are_numpy_s(tool):
    (answer,) = tool("half", [""])
    singles, halves, between, rounded = np.array(answer, dtype=np.int64).astype(np.uint32).T
    every = np.arange(2**16, dtype=np.uint16)
    number = ~np.isnan(every.view(np.float16))
    assert (singles[number] == every.view(np.float16).astype(np.float32).view(np.uint32)[number]).all()
    assert (halves[number] == every[number]).all()
    with np.errstate(over="ignore"):
        expected = between.view(np.float32).astype(np.float16)
    real = ~np.isnan(expected)
    assert (rounded.astype(np.uint16)[real] == expected.view(np.uint16)[real]).all()


# --- tensors ---

MOMENTS = [datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), None, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)]
WHOLE, REAL, TEXT = [7, None, -3], [0.1, None, 65519.9], ["naïve", None, ""]
LISTS = pl.Series([["a", "ü", "c", "d", "e"], [], None], dtype=pl.List(pl.String))
FIXED = pl.Series([[1, 2], [3, 4], [5, 6]], dtype=pl.List(pl.Int64))
FORMS: list[tuple[str, RequestColumn, Any]] = [
    *((f"plain {kind}", RequestColumn("x", kind), WHOLE) for kind in ("int8", "int16", "int32", "int64")),
    *((f"plain {kind}", RequestColumn("x", kind), [1, 200, 0]) for kind in ("uint8", "uint16", "uint32", "uint64")),
    ("float64", RequestColumn("x", "float64"), REAL),
    ("whole numbers as floats", RequestColumn("x", "float32"), [16777217, None, 2**62]),
    ("width", RequestColumn("x", "int64", form=RequestForm(dtype="int16")), WHOLE),
    ("half", RequestColumn("x", "float32", form=RequestForm(dtype="float16")), [0.1, None, 65519.0]),
    ("double for float", RequestColumn("x", "float32", form=RequestForm(dtype="float64")), REAL),
    ("value for null", RequestColumn("x", "int64", form=RequestForm(null=-1)), WHOLE),
    ("real for null", RequestColumn("x", "float32", form=RequestForm(null=-0.5)), REAL),
    ("word for null", RequestColumn("x", "string", form=RequestForm(null="none")), TEXT),
    ("mask", RequestColumn("x", "bool", form=RequestForm(mask=True)), [True, None, False]),
    ("mask of reals", RequestColumn("x", "float32", form=RequestForm(mask=True)), REAL),
    ("mask of words", RequestColumn("x", "string", form=RequestForm(mask=True)), TEXT),
    ("list", RequestColumn("x", "string", is_list=True), LISTS),
    ("list with a mask", RequestColumn("x", "string", is_list=True, form=RequestForm(mask=True)), LISTS),
    ("offsets", RequestColumn("x", "string", is_list=True, form=RequestForm(offsets=True)), LISTS),
    ("offsets, mask", RequestColumn("x", "string", is_list=True, form=RequestForm(offsets=True, mask=True)), LISTS),
    ("list of fixed length", RequestColumn("x", "int32", is_list=True, length=2), FIXED),
    *(
        (f"datetime in {unit}", RequestColumn("x", "datetime", form=RequestForm(datetime=unit)), MOMENTS)
        for unit in ("s", "ms", "us", "ns")
    ),
    ("number for a datetime", RequestColumn("x", "datetime"), WHOLE),
    (
        "text for a datetime",
        RequestColumn("x", "datetime", form=RequestForm(datetime="iso")),
        ["2024-01-02T03:04:05", None, ""],
    ),
]


def _kind(series: pl.Series) -> str:
    return "instant" if isinstance(series.dtype, pl.Datetime) else KINDS[series.dtype]


def _plain(value: Any) -> Any:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def _request(rows: pl.DataFrame, schema: RequestSchema) -> str:
    given = [
        {"name": each.name, "kind": _kind(each), "values": [_plain(value) for value in each.to_list()]}
        for each in rows.get_columns()
    ]
    return json.dumps({"schema": schema.to_json(), "columns": given})


def _bytes(values: np.ndarray) -> bytes:
    if values.dtype != object:
        return values.tobytes()
    return b"".join(len(value).to_bytes(4, "little") + value for value in values.reshape(-1))


def _tensors(rows: pl.DataFrame, schema: RequestSchema) -> list[list[Any]]:
    return [
        [name, np_to_triton_dtype(values.dtype), list(values.shape), base64.b64encode(_bytes(values)).decode()]
        for name, values in encode(rows, schema).items()
    ]


def test_every_form_of_a_column_is_sent_as_python_sends_it(tool):
    asked = [(pl.DataFrame({"x": values}), RequestSchema((column,))) for _, column, values in FORMS]
    answers = tool("encode", [_request(rows, schema) for rows, schema in asked])
    for (name, *_), (rows, schema), answer in zip(FORMS, asked, answers, strict=True):
        assert answer == _tensors(rows, schema), name


def test_packed_and_optional_columns_are_sent_as_python_sends_them(tool):
    columns = [
        RequestColumn("a", "int32"),
        RequestColumn("b", "float32"),
        RequestColumn("c", "bool"),
        RequestColumn("d", "string"),
        RequestColumn("e", "datetime"),
        RequestColumn("f", "int64", form=RequestForm(optional=True)),
        RequestColumn("g", "float32", form=RequestForm(dtype="float16")),
        RequestColumn("h", "string", is_list=True),
    ]
    rows = pl.DataFrame({"a": WHOLE, "b": REAL, "c": [True, False, True], "d": TEXT, "e": MOMENTS, "h": LISTS})
    rows = rows.with_columns(g=pl.Series([0.1, None, 3.0]))
    wide = pack(RequestSchema((*columns, RequestColumn("i", "float64"))))
    asked = [(rows, pack(RequestSchema(tuple(columns)))), (rows.with_columns(i=pl.Series(REAL)), wide)]
    for (given, schema), answer in zip(asked, tool("encode", [_request(*each) for each in asked]), strict=True):
        assert schema.is_packed
        assert sorted(answer) == sorted(_tensors(given, schema))


def test_the_same_keys_are_a_canary_s(tool):
    keys = [f"user {number} ü" for number in range(500)]
    for share in (0.0, 0.2, 1.0):
        (answer,) = tool("canary", [json.dumps({"share": share, "keys": keys})])
        assert answer == [Canary("shop", 2, share).takes(key) for key in keys]


# --- scores ---


def test_scores_are_python_s_bit_for_bit(parts, served, tool):
    frames = [parts.rows(count, seed=count) for count in (1, 7, 8, 9, 61, 3000)]
    texts = ["", "naïve", "日本語", "😀", "a" * 100_000, "überraschung", " pear", "pear\n", "\\\"'"]
    frames.append(
        pl.DataFrame(
            {
                "user": [2**63 - 1, -(2**63) + 1, 0, None, 7, 8, 9, 2**62, 1],
                "item": texts,
                "price": [0.1, None, 3.4e38, 1e-45, 16777217.0, 0.0, 5.5, 1e10, 2.0],
                "tags": [None, [], [""], texts, ["pear"] * 50, ["apple", "pear"], [None, "pear"], ["日本"], ["x"] * 5],
                "active": [True, False] * 4 + [True],
            },
            schema=frames[0].schema,
        )
    )
    frames.append(parts.rows(0))
    models = ["chained", "fused"]
    asked = [(model, frame) for model in models for frame in frames]
    answers = tool("ask", [line(served.http_url, model, frame) for model, frame in asked])
    for (model, frame), answer in zip(asked, answers, strict=True):
        with Client(served.http_url, model) as client:
            np.testing.assert_array_equal(scores(answer), client.predict(frame))
        assert answer["model"] == model
        assert answer["versions"] == ["1"] * -(-frame.height // 8)


def test_a_client_may_be_used_by_many_threads_and_without_waiting(parts, served, tool):
    rows = parts.rows(20)
    with Client(served.http_url, "fused") as client:
        expected = client.predict(rows)
    url = served.http_url
    (threads,), future = tool("ask", [line(url, "fused", rows, how="threads"), line(url, "fused", rows, how="async")])
    assert len(threads) == 120
    for answer in [*({"scores": each} for each in threads), future]:
        np.testing.assert_array_equal(scores(answer), expected)


@pytest.fixture(scope="module")
def packed(parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    repository = tmp_path_factory.mktemp("packed") / "models"
    parts.export(repository, name="packed", signature="packed", shape="fused", max_batch_size=8, warmup_rows=0)
    with TritonServer(repository, models=["packed"]) as server:
        yield server


def test_a_packed_model_gives_the_same_scores(parts, served, packed, tool):
    rows = parts.rows(50, seed=9)
    with Client(served.http_url, "fused") as named, Client(packed.grpc_url, "packed", protocol="grpc") as client:
        assert "packed__int64" in {spec.name for spec in client.metadata().inputs}
        expected = client.predict(rows)
        np.testing.assert_allclose(expected, named.predict(rows), rtol=0, atol=1e-6)
    (answer,) = tool("ask", [line(packed.http_url, "packed", rows)])
    np.testing.assert_array_equal(scores(answer), expected)


# --- errors ---


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_errors_say_what_went_wrong(parts, served, tool):
    rows, url = parts.rows(3), served.http_url
    wrong = rows.rename({"price": "prise"})
    wrong = wrong.with_columns(active=pl.Series([True, None, True]), user=pl.Series(["a"] * 3))
    nobody = f"127.0.0.1:{free_port()}"
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        quiet = f"127.0.0.1:{silent.getsockname()[1]}"
        answers = tool(
            "ask",
            [
                line(url, "chained", wrong),
                line(url, "chaned", rows),
                line(url, "idle", rows, attempts=1),
                line(nobody, "chained", rows),
                line("no-such-host.invalid:8000", "chained", rows, attempts=1),
                line(quiet, "chained", rows, timeout_ms=300),
                line(served.grpc_url, "chained", rows, timeout_ms=3000, attempts=1),
                line(url, "chained_features_1", rows),
                line(url, "chained", rows, how="async"),
                line(url, "chaned", rows, how="async"),
            ],
        )
    kinds = [answer.get("error") for answer in answers]
    assert kinds[:6] == ["InvalidRows", "UnknownModel", "Busy", "Unreachable", "Unreachable", "TimedOut"]
    assert kinds[6] in ("Unreachable", "TimedOut", "MewsException")
    assert kinds[7:] == ["MewsException", None, "UnknownModel"]
    assert "is not an export of Mews" in answers[7]["message"]
    assert answers[0]["message"].splitlines()[1:] == [
        "  - column 'user': expected int64; received text",
        "  - missing column 'price'",
        "  - column 'active' holds null, which bool cannot say (row 1)",
        "  - unknown column 'prise'",
    ]
    assert "known are chained" in answers[1]["message"]
    assert "mews serve" in answers[3]["message"]
    assert "unknown host" in answers[4]["message"]
    assert "within 300 ms" in answers[5]["message"]
    assert (answers[3]["url"], answers[3]["model"]) == (f"http://{nobody}", "chained")


def test_values_that_do_not_fit_are_refused_with_their_row(parts, served, tool):
    rows = parts.rows(9)
    least = rows.with_columns(user=pl.Series([1] * 8 + [-(2**63)]))
    large = rows.with_columns(price=pl.Series([1.0, 1e39] + [1.0] * 7, dtype=pl.Float64))
    answers = tool("ask", [line(served.http_url, "fused", each) for each in (least, large)])
    assert "column 'user' holds -9223372036854775808, the value that stands for null (row 8)" in answers[0]["message"]
    assert "column 'price' is out of the range of float32 (row 1)" in answers[1]["message"]


def test_a_late_and_busy_server_is_reached_and_what_it_refuses_is_told_in_its_words(tool):
    """It listens after a while, says 503 twice, and takes no request."""
    column = {"name": "user", "dtype": "int64", "is_list": False, "length": None, "nullable": True}
    config = {"max_batch_size": 8, "parameters": {"mews.request": {"string_value": json.dumps([column])}}}
    busy = iter([503, 503])

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, status: int, said: Any) -> None:
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer(next(busy, 200), config)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(400, {"error": "input 'user' is \"wrong\""})

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False) as server:
        server.server_bind()  # the port is taken, and connections are refused
        late = threading.Timer(1.0, lambda: (server.server_activate(), server.serve_forever(0.05)))
        late.start()
        try:
            url = f"127.0.0.1:{server.server_address[1]}"
            (answer,) = tool("ask", [line(url, "m", pl.DataFrame({"user": [1]}), attempts=12)])
        finally:
            server.shutdown()
            late.join()
    assert list(busy) == []
    assert answer["error"] == "Refused"
    assert answer["message"].endswith("refused the request to 'm': input 'user' is \"wrong\"")

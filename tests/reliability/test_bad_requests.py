"""Requests that are wrong in every way we could think of: an error that says where, and a server that lives on.

Each case runs over HTTP and gRPC against the real server, and after each the next good request is answered right.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reliability.conftest import LARGEST, MODELS, Asked, bits
from tests.reliability.wire import LENGTH_HEADER, Request, grpc_bytes, grpc_message, grpc_request, post, tensor, texts

pytestmark = pytest.mark.xdist_group("reliability")  # one server for all
PROTOCOLS = ("http", "grpc")
Change = Callable[[Request], Request]


@dataclass(frozen=True)
class Case:
    """A change that makes a right request of one row wrong, and a word that the error must have (the input's name)."""

    name: str
    change: Change
    says: str
    protocols: tuple[str, ...] = PROTOCOLS


def _with(name: str, **changes: object) -> Change:
    return lambda request: request.change(name, **changes)


def _longer(name: str, count: int) -> Change:
    def change(request: Request) -> Request:
        old = next(each for each in request.tensors if each.name == name)
        return request.change(name, says=len(old.data) + count)

    return change


_GRPC, _HTTP = ("grpc",), ("http",)
CASES = [
    *(
        Case(f"user as {kind or 'nothing'}", _with("user", datatype=kind), "'user'")
        for kind in ("FP32", "UINT64", "BYTES", "INT65", "")
    ),
    *(
        Case(f"{name} of shape {shape}", _with(name, shape=shape), f"'{name}'")
        for name in ("user", "item")
        for shape in ((), (1,), (2, 1), (1, 2), (1, 1, 1), (0, 1), (1, 0), (10**12, 1), (2**63 - 1, 2**63 - 1))
    ),
    *(Case(f"user of shape {shape}", _with("user", shape=shape), "'user'", _GRPC) for shape in ((-1, 1), (1, -1))),
    Case("a negative size in JSON", _with("user", shape=(-1, 1)), "shape", _HTTP),
    *(
        Case(f"no {name}", lambda request, name=name: request.without(name), f"'{name}'")
        for name in ("user", "item", "price", "tags", "tags__length", "active")
    ),
    Case("no inputs", lambda request: replace(request, tensors=()), "'user'"),
    Case("an input more", lambda request: request.adding(tensor("nonsense", "INT64", np.ones((1, 1)))), "'nonsense'"),
    Case("an input twice", lambda request: request.adding(request.tensors[0]), "'user'"),
    Case("an unknown output", lambda request: replace(request, outputs=("nope",)), "'nope'"),
    Case("no rows", lambda r: r.each(lambda t: replace(t, shape=(0, *t.shape[1:]), data=b"")), "input '"),
    *(Case(f"{size} bytes of user", _with("user", data=b"1" * size), "'user'") for size in (0, 4, 9, 16)),
    Case("a string said too long", _with("item", data=bits("I", 100) + b"apple"), "'item'"),
    Case("a string said too short", _with("item", data=bits("I", 2) + b"apple"), "'item'"),
    Case("a string said to have 4 GiB", _with("item", data=bits("I", 2**32 - 1) + b"apple"), "'item'"),
    Case("half a length", _with("item", data=b"\1\0"), "'item'"),
    Case("two strings for one", _with("item", data=texts([b"apple", b"pear"])), "'item'"),
    Case("one string for many", _with("tags", shape=(1, 4), data=texts([b"apple"])), "'tags'"),
    Case("no UTF-8", _with("item", data=texts([b"\xff\xfe"])), "'item'"),
    Case("half a surrogate pair", _with("item", data=texts([b"\xed\xa0\x80"])), "'item'"),
    Case("no UTF-8 in a list", _with("tags", shape=(1, 2), data=texts([b"apple", b"\xc3"])), "'tags'"),
    Case("10 MB without UTF-8", _with("item", data=texts([b"\xff" * 10_000_000])), "'item'"),
    Case("a boolean of 7", _with("active", data=b"\7"), "'active'"),
    *(
        Case(f"a list of {length} values", _with("tags__length", data=bits("i", length)), "'tags__length'")
        for length in (-1, 1000, 2**31 - 1, -(2**31))
    ),
    Case("more bytes said than sent", _longer("active", 5), "'active'", _HTTP),
    Case("far more bytes said than sent", _longer("user", 2**40), "'user'", _HTTP),
    Case("fewer bytes said than sent", _longer("active", -1), "additional input data", _HTTP),
    Case("a size that overflows", _with("active", says=2**63), "'active'", _HTTP),
    Case("a negative size of data", _with("active", says=-1), "binary_data_size", _HTTP),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_wrong_request_gets_an_error_that_names_the_input(asked: Asked, case: Case, protocol: str) -> None:
    if protocol not in case.protocols:
        return
    for model in MODELS:
        request, _ = asked.good(model)
        answer = asked.ask(protocol, case.change(request))
        assert not answer.ok
        assert case.says in answer.text
        asked.answers_right(protocol, model)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_batch_over_the_maximum_is_refused(asked: Asked, protocol: str) -> None:
    answer = asked.ask(protocol, asked.good("fused", rows=LARGEST + 1)[0])
    assert f"must be <= {LARGEST}" in answer.text
    asked.answers_right(protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("price", np.array([[np.nan]], np.float32)),
        ("price", np.array([[np.inf]], np.float32)),
        ("price", np.array([[-np.inf]], np.float32)),
        ("price", np.array([[1e-45]], np.float32)),
        ("user", np.array([[-(2**63)]])),
        ("user", np.array([[2**63 - 1]])),
        ("item", np.array([[b""]], object)),
        ("item", np.array([[b"a\0b"]], object)),
        ("item", np.array([[b"x" * 10_000_000]], object)),
    ],
    ids=["nan", "inf", "-inf", "subnormal", "null", "largest", "empty", "nul", "10 MB"],
)
def test_an_odd_value_is_answered_as_in_process(asked: Asked, protocol: str, name: str, array: np.ndarray) -> None:
    kinds = {"price": "FP32", "user": "INT64", "item": "BYTES"}
    given_ = {
        "user": np.array([[7]]),
        "item": np.array([[b"apple"]], object),
        "price": np.array([[2.5]], np.float32),
        "tags": np.array([[b"pear"] * 4], object),
        "tags__length": np.array([[2]], np.int32),
        "active": np.array([[True]]),
        name: array,
    }
    all_kinds = {**kinds, "tags": "BYTES", "tags__length": "INT32", "active": "BOOL"}
    request = Request("fused", tuple(tensor(each, all_kinds[each], values) for each, values in given_.items()))
    answer = asked.ask(protocol, request)
    assert answer.ok, answer.text
    assert np.array_equal(answer.scores, asked.scores(given_), equal_nan=True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "offsets", [(), (0,), (1, 3), (0, 2), (0, 4), (0, 2, 1, 3), (0, -1, 3), (0, 2**31 - 1), (-(2**31), 3)]
)
def test_offsets_that_lie_are_refused(asked: Asked, protocol: str, offsets: tuple[int, ...]) -> None:
    values = tensor("tags__values", "INT64", np.array([1, 2, 3]))
    wrong = tensor("tags__offsets", "INT32", np.array(offsets))
    answer = asked.ask(protocol, Request("lists", (values, wrong), ("total",)))
    assert not answer.ok
    assert "tags__offsets" in answer.text
    right = tensor("tags__offsets", "INT32", np.array([0, 2, 3]))
    assert asked.ask(protocol, Request("lists", (values, right), ("total",))).values == bits("q", 11)


_DEEP = 1_000_000
BODIES = {
    "no JSON": b"hello",
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "an object for a list": b'{"inputs": {}}',
    "texts for inputs": b'{"inputs": ["a"]}',
    "no name": b'{"inputs": [{"shape": [1, 1]}]}',
    "a text for a shape": b'{"inputs": [{"name": "user", "datatype": "INT64", "shape": "a", "data": [1]}]}',
    "a broken size": b'{"inputs": [{"name": "user", "datatype": "INT64", "shape": [1.5, 1], "data": [1]}]}',
    "no UTF-8": b'{"inputs": "\xff\xfe"}',
    "open brackets": b'{"inputs":' + b"[" * _DEEP,
    "deep brackets": b'{"inputs":' + b"[" * _DEEP + b"]" * _DEEP + b"}",
    "deep data": b'{"inputs":[{"name":"user","datatype":"INT64","shape":[1,1],"data":'
    + b"[" * _DEEP
    + b"]" * _DEEP
    + b"}]}",
    "deep parameters": b'{"parameters":' + b'{"a":' * _DEEP + b"1" + b"}" * _DEEP + b"}",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_request_is_refused(asked: Asked, body: bytes) -> None:
    answer = post(asked.server.http_url, "fused", body)
    assert not answer.ok
    assert "error" in answer.text
    asked.answers_right("http")


@pytest.mark.parametrize("length", ["1000000", "-1", "abc", "1", str(2**64)])
def test_a_wrong_length_of_the_header_is_refused(asked: Asked, length: str) -> None:
    answer = post(asked.server.http_url, "fused", b'{"inputs": []}', {LENGTH_HEADER: length})
    assert not answer.ok
    assert "error" in answer.text
    asked.answers_right("http")


@pytest.mark.parametrize("content_length", ["5", "100000", "-1", "abc", str(2**64)])
def test_a_wrong_content_length_harms_nobody(asked: Asked, content_length: str) -> None:
    host, _, port = asked.server.http_url.rpartition(":")
    head = f"POST /v2/models/fused/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {content_length}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(head.encode() + b'{"inputs": []}')
        asked.answers_right("http")  # while the wrong one still waits for its body
        connection.shutdown(socket.SHUT_WR)
    asked.answers_right("http")


def test_a_message_whose_data_do_not_belong_to_its_inputs_is_refused(asked: Asked) -> None:
    request, expected = asked.good("fused")
    fewer, more, both = (grpc_message(request) for _ in range(3))
    del fewer.raw_input_contents[-1]
    more.raw_input_contents.append(b"1")
    both.inputs[0].contents.int64_contents.append(7)
    for message, says in ((fewer, "'active'"), (both, "contents")):
        answer = grpc_request(asked.channel, message)
        assert not answer.ok
        assert says in answer.text
        asked.answers_right("grpc")
    assert np.array_equal(grpc_request(asked.channel, more).scores, expected)  # what belongs to no input is not read


@pytest.mark.parametrize("body", [b"", b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x2a\x05hello"])
def test_a_message_that_is_none_is_refused(asked: Asked, body: bytes) -> None:
    assert not grpc_bytes(asked.channel, body).ok
    asked.answers_right("grpc")


@st.composite
def _mutations(draw: st.DrawFn) -> Change:
    """One to three changes at random to inputs at random."""
    names = st.sampled_from(["user", "item", "price", "tags", "tags__length", "active"])
    fields = {
        "datatype": st.sampled_from(["BOOL", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES", "x"]),
        "shape": st.lists(st.sampled_from([-1, 0, 1, 2, 3, 9, 2**31, 2**62]), max_size=3).map(tuple),
        "data": st.binary(max_size=64),
        "name": st.sampled_from(["user", "item", "", "\0", "ü" * 300]),
    }
    changes = []
    for _ in range(draw(st.integers(1, 3))):
        field = draw(st.sampled_from(sorted(fields)))
        changes.append((draw(names), {field: draw(fields[field])}))

    def change(request: Request) -> Request:
        for name, values in changes:
            request = request.change(name, **values)
        return request

    return change


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=150)
@given(change=_mutations(), seed=st.integers(0, 50))
def test_random_changes_harm_nobody(asked: Asked, protocol: str, change: Change, seed: int) -> None:
    request, _ = asked.good("chained", seed=seed)
    changed = change(request)
    answer = asked.ask(protocol, changed)
    if answer.ok:
        assert answer.scores.shape == (changed.tensors[0].shape[0],)
    else:
        assert answer.text
    asked.answers_right(protocol, "chained")

"""What a call can say and be told: whose it is, how long it may take, which version answered, and what went wrong."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from ensemble import labels
from ensemble.client.async_client import AsyncClient
from ensemble.client.canary import Canary
from ensemble.client.client import Client
from ensemble.requests.encode import encode
from ensemble.server.triton import TritonServer
from etl.errors import (
    BusyError,
    RefusedError,
    RequestError,
    ServerError,
    TimedOutError,
    UnknownModelError,
    UnreachableError,
)

PROTOCOLS = ["http", "grpc"]
WAITING = {
    "preferred_batch_sizes": [8],
    "max_queue_delay_microseconds": 100_000,
    "scheduling": {"queue": {"max_requests": 1, "own_timeouts": True, "timeout_microseconds": 10_000_000}},
}
"""A lone request waits for others, and one more may wait with it."""


def address(server: TritonServer, protocol: str) -> str:
    return server.http_url if protocol == "http" else server.grpc_url


def load(server: TritonServer, model: str) -> None:
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        client.load_model(model)


def unload(server: TritonServer, model: str) -> None:
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        client.unload_model(model)


def in_loop(url: str, model: str, ask: Callable[[AsyncClient], Awaitable[object]], **settings: object) -> object:
    async def main() -> object:
        async with AsyncClient(url, model, **settings) as client:
            return await ask(client)

    return asyncio.run(main())


# --- rows ---


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_both_clients_and_all_kinds_of_rows_give_the_same_bits(parts, served, client, protocol):
    rows = parts.rows(30, seed=3)
    expected = client.predict(rows)
    objects = rows.to_dicts()
    frame = pd.DataFrame(objects)
    assert frame["user"].dtype == np.float64, "pandas keeps integers with nulls as floats"
    frame = frame.astype({"user": "Int64"})
    for given in (objects, frame, {name: rows[name] for name in rows.columns}):
        np.testing.assert_array_equal(client.predict(given), expected)
        scores = in_loop(address(served, protocol), "chained", lambda c, r=given: c.predict(r), protocol=protocol)
        np.testing.assert_array_equal(scores, expected)


def test_whole_numbers_that_pandas_made_floats_are_whole_again(parts, client):
    rows = parts.rows(20).with_columns(user=pl.Series([7, None, 8, 9] * 5, dtype=pl.Int64))
    frame = pd.DataFrame(rows.to_dicts())
    assert frame["user"].dtype == np.float64
    np.testing.assert_array_equal(client.predict(frame), client.predict(rows))
    with pytest.raises(RequestError, match="column 'user'; expected int64; received Float64"):
        client.predict(frame.assign(user=frame["user"] + 0.5))
    with pytest.raises(RequestError, match="column 'user'; expected int64; received Float64"):
        client.predict(frame.assign(user=float(2**62)))


def test_numpy_values_in_rows_are_taken(parts, client):
    row = {"user": np.int64(7), "item": "pear", "price": np.float32(2), "tags": ("apple",), "active": np.bool_(True)}
    plain = {"user": 7, "item": "pear", "price": 2.0, "tags": ["apple"], "active": True}
    np.testing.assert_array_equal(
        client.predict([row, {**row, "tags": np.array(["apple"])}]), client.predict([plain] * 2)
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"user": "seven"}], "rows: column 'user', row 0; expected int64; received 'seven'"),
        ([7], "rows: row 0; expected a mapping; received int"),
        ("user", "expected a Polars or pandas DataFrame"),
        (pd.DataFrame({"item": ["a", 1]}), "the pandas frame; expected columns of one type each"),
    ],
)
def test_what_are_no_rows_is_refused(client, rows, message):
    with pytest.raises(RequestError, match=message):
        client.predict(rows)


def test_a_client_does_not_load_pandas():
    code = "import sys, ensemble.client.client, ensemble.client.async_client; print('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# --- answers ---


def test_an_answer_says_its_version_and_carries_the_request_s_name(parts, served, client):
    rows = parts.rows(20)
    answer = client.ask(rows, request_id="order 7", priority=1)
    assert (answer.version, answer.versions, answer.model) == ("1", ("1",) * 3, "chained")
    assert answer.request_id == "order 7"
    np.testing.assert_array_equal(answer.scores, client.predict(rows))
    url = address(served, client.protocol)
    again = in_loop(url, "chained", lambda c: c.ask(rows, request_id="a"), protocol=client.protocol)
    assert (again.version, again.request_id) == ("1", "a")
    assert client.ask(parts.rows(0)).version == ""


def test_several_outputs_come_in_their_own_types(parts, served, client):
    names = ("user__out", "price__out", "tags__out")
    rows = parts.rows(11)
    with Client(address(served, client.protocol), "chained_features_1", protocol=client.protocol) as features:
        answer = features.ask(rows, names)
        empty = features.ask(parts.rows(0), names)
        lists, numbers = features.predict(rows, "tags__out"), features.predict(rows, "price__out")
    assert {name: (values.shape, values.dtype.name) for name, values in answer.outputs.items()} == {
        "user__out": ((11, 1), "int64"),
        "price__out": ((11, 1), "float32"),
        "tags__out": ((11, 4), "int64"),
    }
    assert (lists.shape, numbers.shape) == ((11, 4), (11,))
    for name in names:
        assert empty.outputs[name].shape == (0, *answer.outputs[name].shape[1:])
        assert empty.outputs[name].dtype == answer.outputs[name].dtype


def test_an_asynchronous_client_answers_many_callers_at_once(parts, served):
    rows = [parts.rows(1 + number % 20, seed=number) for number in range(40)]
    with Client(served.http_url, "chained") as client:
        expected = [client.predict(each) for each in rows]
    for protocol in PROTOCOLS:

        async def ask(client: AsyncClient) -> list[np.ndarray]:
            return await asyncio.gather(*(client.predict(each) for each in rows))

        for one, other in zip(
            in_loop(address(served, protocol), "chained", ask, protocol=protocol), expected, strict=True
        ):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_megabyte_goes_through_the_asynchronous_client(served, protocol):
    row = {"user": 7, "item": "x" * 6 * 2**20, "price": 1.0, "tags": ["y"], "active": True}
    url = address(served, protocol)
    assert in_loop(url, "chained", lambda c: c.predict([row]), protocol=protocol).shape == (1,)


# --- errors ---


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_errors_have_types_and_say_whom_was_asked(parts, served, protocol, kind):
    def asked(url: str, model: str, ask: Callable[[object], object], **settings: object) -> object:
        if kind is AsyncClient:
            return in_loop(url, model, ask, **settings)
        with Client(url, model, **settings) as client:
            return ask(client)

    def error_of(url: str, model: str, ask: Callable[[object], object], **settings: object) -> Exception:
        with pytest.raises((ServerError, RequestError)) as raised:
            asked(url, model, ask, protocol=protocol, **settings)
        assert (raised.value.url, raised.value.model) == (url, model)
        return raised.value

    rows, url = parts.rows(2), address(served, protocol)
    wrong = {**encode(rows, parts.schema), "price": np.zeros((2, 3), dtype=np.float32)}
    assert type(error_of(url, "chained", lambda c: c.infer(wrong))) is RefusedError
    assert type(error_of(url, "chaned", lambda c: c.predict(rows))) is UnknownModelError
    assert type(error_of(url, "idle", lambda c: c.predict(rows), attempts=1)) is BusyError
    nobody = f"127.0.0.1:{free_port()}"
    assert type(error_of(nobody, "chained", lambda c: c.predict(rows), attempts=1)) is UnreachableError
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        quiet = f"127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        error = error_of(quiet, "chained", lambda c: c.predict(rows, deadline=0.4), attempts=9)
        assert type(error) is TimedOutError
        assert time.monotonic() - started < 3
    assert re.search(r"nothing within 0\.(4|3\d*) s", str(error))  # what was left of the deadline


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_deadline_counts_all_attempts(parts, protocol):
    """Nobody listens; 99 attempts would take minutes."""
    started = time.monotonic()
    with (
        Client(f"127.0.0.1:{free_port()}", protocol=protocol, attempts=99, deadline=0.5) as client,
        pytest.raises(UnreachableError),
    ):
        client.predict(parts.rows(1))
    assert time.monotonic() - started < 5


def test_answers_that_dribble_in_do_not_outlast_the_timeout():
    """Each byte comes in time, the answer does not."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def dribble() -> None:
            with listener.accept()[0] as near:
                near.sendall(b"HTTP/1.1 200 OK\r\n")
                try:
                    while not stop.wait(0.05):
                        near.sendall(b"X: y\r\n")
                except OSError:
                    pass

        thread = threading.Thread(target=dribble)
        thread.start()
        started = time.monotonic()
        try:
            with (
                Client(f"127.0.0.1:{listener.getsockname()[1]}", timeout=0.3, attempts=1) as client,
                pytest.raises(TimedOutError),
            ):
                client.metadata()
            assert time.monotonic() - started < 2
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize(
    ("asking", "message"),
    [
        ({"deadline": 0}, "deadline; expected seconds above 0"),
        ({"queue_timeout": -1}, "queue_timeout; expected seconds above 0"),
        ({"priority": -1}, "priority; expected 0"),
    ],
)
def test_times_and_priorities_that_make_no_sense_are_refused(parts, client, asking, message):
    with pytest.raises(RequestError, match=message):
        client.predict(parts.rows(1), **asking)
    with pytest.raises(RequestError, match="timeout; expected seconds above 0"):
        Client("127.0.0.1:8000", timeout=0)


# --- a server with a short queue, and one with a candidate ---


@pytest.fixture(scope="module")
def crowded(parts, tmp_path_factory) -> Iterator[TritonServer]:
    """`slow` answers after 0.1 s and holds one request in its queue; `shop` gives `shop_v2` three calls in ten."""
    repository = tmp_path_factory.mktemp("crowded") / "models"
    parts.export(repository, name="slow", max_batch_size=8, warmup_rows=0, **WAITING)
    for name in ("shop", "shop_v2"):
        parts.export(repository, name=name, max_batch_size=8, warmup_rows=0)
    with TritonServer(repository, models=["slow", "shop", "shop_v2"]) as server:
        say_canary(repository / "shop", 2, 0.3)
        load(server, "shop")
        yield server


def say_canary(folder: Path, version: int, share: float) -> None:
    config = folder / "config.pbtxt"
    text = config.read_text(encoding="utf-8").partition(f'parameters {{\n  key: "{labels.CANARY}"')[0]
    canary = labels.Labels(canary=labels.Canary(version, share))
    config.write_text(text + labels.render(canary), encoding="utf-8")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_full_queue_is_busy_and_asked_again_within_the_deadline(parts, crowded, protocol):
    rows, url = parts.rows(1), address(crowded, protocol)

    async def at_once(**settings: object) -> list[object]:
        async with AsyncClient(url, "slow", protocol=protocol, **settings) as client:
            await client.metadata()
            return await asyncio.gather(*(client.predict(rows) for _ in range(4)), return_exceptions=True)

    busy = [error for error in asyncio.run(at_once(attempts=1)) if isinstance(error, Exception)]
    assert busy
    assert {type(error) for error in busy} == {BusyError}
    assert "is busy; received" in str(busy[0])
    assert "queue" in str(busy[0])
    patient = asyncio.run(at_once(attempts=50, deadline=20))
    assert [type(answer) for answer in patient] == [np.ndarray] * 4


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_may_wait_in_the_queue_only_so_long(parts, crowded, protocol):
    with Client(address(crowded, protocol), "slow_features_1", protocol=protocol, attempts=1) as client:
        with pytest.raises(BusyError, match="timeout"):
            client.ask(parts.rows(1), ("price__out",), queue_timeout=0.02)
        assert client.ask(parts.rows(1), ("price__out",)).version == "1"


def test_a_candidate_gets_its_share_by_key(parts, crowded):
    keys = [f"user {number}" for number in range(300)]
    with Client(crowded.http_url, "shop") as client:
        models = [client.ask(parts.rows(1), key=key).model for key in keys[:60]]
        again = [client.ask(parts.rows(1), key=key).model for key in keys[:60]]
    assert models == again
    assert set(models) == {"shop", "shop_v2"}
    taken = [Canary("shop", 2, 0.3).takes(key) for key in keys]
    assert 0.2 < np.mean(taken) < 0.4
    assert models == ["shop_v2" if take else "shop" for take in taken[:60]]
    more = [Canary("shop", 2, 0.6).takes(key) for key in keys]
    assert all(after for before, after in zip(taken, more, strict=True) if before)
    assert not any(Canary("shop", 2, 0.0).takes(key) for key in keys)
    assert all(Canary("shop", 2, 1.0).takes(key) for key in [*keys, None])


def test_a_candidate_that_is_gone_leaves_its_calls_to_the_stable_version(parts, crowded):
    with Client(crowded.http_url, "shop", refresh=600, attempts=1) as client:
        key = next(str(n) for n in range(99) if client.ask(parts.rows(1), key=str(n)).model == "shop_v2")
        unload(crowded, "shop_v2")
        try:
            assert client.ask(parts.rows(1), key=key).model == "shop"
        finally:
            load(crowded, "shop_v2")


def test_a_changed_share_is_seen_after_the_refresh(parts, crowded):
    with Client(crowded.http_url, "shop", refresh=0.05) as client:
        client.predict(parts.rows(1))
        say_canary(crowded.repository / "shop", 2, 1.0)
        try:
            load(crowded, "shop")
            time.sleep(0.06)
            assert {client.ask(parts.rows(1)).model for _ in range(5)} == {"shop_v2"}
        finally:
            say_canary(crowded.repository / "shop", 2, 0.3)
            load(crowded, "shop")


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 0, "share": 0.1}', '{"version": 2, "share": 1.5}'])
def test_a_canary_that_makes_no_sense_is_told(text):
    with pytest.raises(RequestError, match=r"parameter mews\.canary of model 'shop'"):
        Canary.of("shop", {labels.CANARY: text})


# --- shared memory, and what is left behind ---


def regions(server: TritonServer) -> list[str]:
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        return sorted(client.get_system_shared_memory_status().regions)


def forget_regions(server: TritonServer) -> None:
    with tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        for name in regions(server):
            while name in regions(server):
                with suppress(InferenceServerException):  # in use for a moment after an answer
                    client.unregister_system_shared_memory(name)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_memory_gives_the_same_bits_and_is_given_back(parts, served, client, protocol):
    before = regions(served)
    url = address(served, protocol)
    with Client(url, "chained", protocol=protocol, shared_memory=True) as shared:
        for count in (1, 50, 3, 8):
            rows = parts.rows(count, seed=count)
            np.testing.assert_array_equal(shared.predict(rows), client.predict(rows))
        long = pl.DataFrame([{"user": 7, "item": "x" * 200_000, "price": 1.0, "tags": ["y"] * 300, "active": True}])
        np.testing.assert_array_equal(shared.predict(long), client.predict(long))
        held = set(regions(served)) - set(before)
        assert 1 <= len(held) <= 3, "one for each request that runs at a time, and one that was outgrown"
        assert not [path for path in Path("/dev/shm").iterdir() if path.name in held], "no name is left for a crash"
        with pytest.raises(RefusedError):
            shared.infer({**encode(rows, parts.schema), "price": np.zeros((8, 3), dtype=np.float32)})
        forget_regions(served)
        np.testing.assert_array_equal(shared.predict(rows), client.predict(rows))
    assert regions(served) == []


@pytest.fixture
def silent() -> Iterator[str]:
    """Where somebody listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def sockets() -> int:
    kinds = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(kind.startswith("socket:") for kind in kinds)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("settings", [{}, {"shared_memory": True}])
def test_no_client_leaves_threads_sockets_or_memory_behind(parts, served, silent, protocol, settings):
    rows, url = parts.rows(40), address(served, protocol)

    def use() -> None:
        # gRPC itself gives a connection that never answered up after 20 s, so it is not counted here.
        with Client(silent, timeout=0.05, attempts=1) as client, pytest.raises(TimedOutError):
            client.predict(rows)
        with Client(url, "chained", protocol=protocol, concurrency=3, **settings) as client:
            client.predict(rows)
            with pytest.raises(RefusedError):
                client.predict(rows, "no such output")
        if "shared_memory" not in settings:
            assert in_loop(url, "chained", lambda c: c.predict(rows), protocol=protocol, **settings).shape == (40,)

    use()
    gc.collect()
    threads, open_sockets = set(threading.enumerate()), sockets()
    for _ in range(3):
        use()
    gc.collect()

    def left() -> tuple[int, set[threading.Thread]]:
        # A server of another test in this process answers in threads of its own.
        ours = {thread for thread in threading.enumerate() if "process_request_thread" not in thread.name}
        return max(0, sockets() - open_sockets), ours - threads

    ends = time.monotonic() + 10  # gRPC closes its sockets a little later
    while left() != (0, set()) and time.monotonic() < ends:
        time.sleep(0.05)
    assert left() == (0, set())
    assert regions(served) == []

import http.client
import json
import shutil
import socket
import threading
import time

import numpy as np
import polars as pl
import pytest
import tritonclient.grpc
import tritonclient.utils

from ensemble.client.client import Client
from ensemble.repository import current
from ensemble.requests.encode import encode, to_json
from ensemble.server.triton import TritonServer
from ensemble.spec import RequestColumn, TensorSpec
from etl.errors import RequestError, ServerError

PROTOCOLS = ["http", "grpc"]


def address(served: TritonServer, protocol: str) -> str:
    return served.http_url if protocol == "http" else served.grpc_url


@pytest.mark.parametrize("seed", range(3))
def test_chained_fused_and_onnx_runtime_agree(parts, served, client, seed):
    rows = parts.rows(50, seed)
    expected = parts.scores(encode(rows, parts.schema))
    chained = client.predict(rows)
    with Client(address(served, client.protocol), "fused", protocol=client.protocol) as other:
        fused = other.predict(rows)
    assert chained.dtype == fused.dtype == np.float32
    assert chained.shape == (50,)
    np.testing.assert_allclose(chained, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(fused, chained, rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 61])
def test_more_rows_than_fit_a_request_come_back_in_order(parts, client, count):
    """The server takes at most 8."""
    rows = parts.rows(count, seed=count)
    np.testing.assert_allclose(client.predict(rows), parts.scores(encode(rows, parts.schema)), rtol=0, atol=1e-6)


def test_one_row_scores_as_it_does_among_others(parts, client):
    rows = parts.rows(8)
    together = client.predict(rows)
    alone = np.concatenate([client.predict(rows[number]) for number in range(8)])
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-6)


def test_no_rows_have_no_scores(parts, client):
    scores = client.predict(parts.rows(0))
    assert (scores.shape, scores.dtype) == ((0,), np.float32)
    with pytest.raises(RequestError, match="missing column 'price'"):
        client.predict(parts.rows(0).drop("price"))


def test_the_server_says_what_the_model_takes(parts, client):
    metadata = client.metadata()
    assert (metadata.name, metadata.versions, metadata.platform) == ("chained", ("1",), "ensemble")
    assert metadata.max_batch_size == 8
    assert metadata.inputs == parts.schema.tensors
    assert metadata.outputs == (TensorSpec("score", "FP32", (1,)),)
    assert metadata.request == parts.schema


def test_a_list_of_fixed_length_is_seen_in_the_metadata(client):
    metadata = client.metadata()
    fixed = TensorSpec("vector", "FP32", (8,))
    columns = type(metadata)("m", ("1",), "ensemble", (fixed,), metadata.outputs, 8).request.columns
    assert columns == (RequestColumn("vector", "float32", is_list=True, length=8),)


def test_rows_that_do_not_fit_are_refused_before_anything_is_sent(parts, client):
    rows = parts.rows(3).rename({"price": "prise"}).with_columns(active=pl.lit(None, dtype=pl.Boolean))
    with pytest.raises(RequestError) as raised:
        client.predict(rows)
    text = str(raised.value)
    assert "missing column 'price'" in text
    assert "unknown column 'prise' (did you mean 'price'?)" in text
    assert "column 'active' holds null" in text


def test_an_unknown_category_and_a_null_are_answered(client):
    rows = pl.DataFrame(
        {
            "user": [999, None],
            "item": ["never seen", None],
            "price": [None, 1.0],
            "tags": [["?"], None],
            "active": [True] * 2,
        }
    )
    assert np.isfinite(client.predict(rows)).all()


def _wrong(tensors: dict[str, np.ndarray], change: str) -> dict[str, np.ndarray]:
    rows = len(tensors["user"])
    changes = {
        "dtype": {"price": tensors["price"].astype(np.float64)},
        "width": {"price": np.zeros((rows, 2), dtype=np.float32)},
        "rank": {"price": np.zeros(rows, dtype=np.float32)},
        "rows differ": {"price": np.zeros((rows + 1, 1), dtype=np.float32)},
        "extra": {"age": np.zeros((rows, 1), dtype=np.int64)},
        "too many": {name: np.repeat(values, 5, axis=0) for name, values in tensors.items()},
        "no rows": {name: values[:0] for name, values in tensors.items()},
        "utf-8": {"item": np.array([[b"\xff\xfe"]] * rows, dtype=object)},
    }
    if change == "missing":
        return {name: values for name, values in tensors.items() if name != "price"}
    return {**tensors, **changes[change]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("dtype", r"'price' data-type is 'FP64'.*expects 'FP32'"),
        ("width", r"price.*\[-1,1\].*\[2,2\]"),
        ("rank", r"price.*\[-1,1\].*\[2\]"),
        ("rows differ", "'price' batch size does not match"),
        ("extra", "expected 6 inputs but got 7.*'age'"),
        ("missing", "expected 6 inputs but got 5.*missing required.*'price'"),
        ("too many", r"batch.size.*8"),
        ("no rows", "byte size mismatch"),
        ("utf-8", "input 'item'.*not UTF-8"),
    ],
)
def test_what_the_server_refuses_is_told_in_its_words_and_it_lives(parts, client, change, message):
    tensors = encode(parts.rows(2), parts.schema)
    with pytest.raises(RequestError, match=f"refused the request to 'chained'; received .*{message}"):
        client.infer(_wrong(tensors, change))
    np.testing.assert_allclose(client.infer(tensors).reshape(-1), parts.scores(tensors), rtol=0, atol=1e-6)


def test_an_output_that_does_not_exist_is_refused(parts, client):
    with pytest.raises(RequestError, match="click"):
        client.predict(parts.rows(1), output="click")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_unknown_model_is_refused_with_the_known_ones(served, parts, protocol):
    with Client(address(served, protocol), "chaned", protocol=protocol) as client:
        assert not client.is_ready()
        with pytest.raises(
            RequestError, match=r"unknown model 'chaned'.*did you mean 'chained'.*expected one of: .*fused"
        ):
            client.predict(parts.rows(1))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_that_is_not_loaded_is_not_ready(served, parts, protocol):
    with Client(address(served, protocol), "idle", protocol=protocol) as client:
        assert not client.is_ready()
        with pytest.raises(ServerError, match=r"model 'idle' at .* is not ready"):
            client.predict(parts.rows(1))


def test_a_loaded_model_is_ready(client):
    assert client.is_ready()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nobody_there_names_the_url_and_what_to_do(parts, protocol):
    url = f"127.0.0.1:{free_port()}"
    with Client(url, protocol=protocol, attempts=2, timeout=2) as client:
        assert not client.is_ready()
        with pytest.raises(ServerError, match=rf"no answer from Triton at {url} over {protocol}.*mews serve"):
            client.predict(parts.rows(1))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_says_nothing_is_given_up_after_the_timeout(protocol):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with (
            Client(f"127.0.0.1:{silent.getsockname()[1]}", protocol=protocol, timeout=0.3, attempts=1) as client,
            pytest.raises(ServerError, match=r"nothing within 0\.3 s"),
        ):
            client.metadata()
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_other_protocol_s_port_is_an_error_with_a_hint(served, protocol):
    other = served.grpc_url if protocol == "http" else served.http_url
    with (
        Client(other, "chained", protocol=protocol, attempts=1, timeout=3) as client,
        pytest.raises(ServerError, match="the port is the one for"),
    ):
        client.metadata()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_comes_up_late_is_reached(parts, served, protocol):
    """Connections are refused at first, then the port leads to the real server."""
    port, (host, target) = free_port(), address(served, protocol).split(":")
    stop = threading.Event()

    def forward() -> None:
        time.sleep(0.25)
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(0.1)
            threads = []
            while not stop.is_set():
                try:
                    near = listener.accept()[0]
                except TimeoutError:
                    continue
                far = socket.create_connection((host, int(target)))
                for source, sink in ((near, far), (far, near)):
                    threads.append(threading.Thread(target=pump, args=(source, sink)))
                    threads[-1].start()
            for thread in threads:
                thread.join()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with sink:
            try:
                while data := source.recv(65536):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    thread = threading.Thread(target=forward)
    thread.start()
    try:
        with Client(f"127.0.0.1:{port}", "chained", protocol=protocol, attempts=8) as client:
            assert client.predict(parts.rows(3)).shape == (3,)
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("url", "protocol", "message"),
    [
        ("localhost", "http", "such as 127"),
        ("localhost:", "http", "such as 127"),
        ("localhost:http", "http", "such as 127"),
        ("localhost:99999", "grpc", "such as 127"),
        ("https://localhost:8000", "http", "expected host:port"),
        ("grpc://localhost:8001", "http", "Or ask for protocol 'grpc'"),
        ("localhost:8000", "rest", "expected http or grpc; received 'rest'"),
    ],
)
def test_an_address_that_makes_no_sense_is_refused(url, protocol, message):
    with pytest.raises(RequestError, match=message):
        Client(url, protocol=protocol)


def test_a_scheme_in_the_url_is_fine(parts, served):
    with Client(f"http://{served.http_url}/", "chained") as client:
        assert client.predict(parts.rows(1)).shape == (1,)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_of_many_megabytes_is_answered(served, protocol):
    """gRPC's own limit is 4 MiB."""
    rows = pl.DataFrame(
        {"user": [7], "item": ["x" * 6 * 2**20], "price": [1.0], "tags": [["y" * 1000] * 100], "active": [True]}
    )
    with Client(address(served, protocol), "chained", protocol=protocol) as client:
        assert client.predict(rows).shape == (1,)


def test_the_example_request_works_as_it_is(served):
    """What `curl -d @request.example.json` would send."""
    folder = served.repository / "chained" / str(current(served.repository, "chained"))
    connection = http.client.HTTPConnection(served.http_url)
    connection.request("POST", "/v2/models/chained/infer", (folder / "request.example.json").read_bytes())
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    assert response.status == 200, answer
    assert answer["outputs"][0]["name"] == "score"
    assert len(answer["outputs"][0]["data"]) == 2


def test_nan_in_a_json_request_is_a_null(served, parts):
    rows = parts.rows(1).with_columns(price=pl.lit(None, dtype=pl.Float32))
    tensors = encode(rows, parts.schema)
    connection = http.client.HTTPConnection(served.http_url)
    connection.request("POST", "/v2/models/fused/infer", json.dumps(to_json(tensors, parts.schema, "score")))
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    assert response.status == 200, answer
    assert answer["outputs"][0]["data"][0] == pytest.approx(float(parts.scores(tensors)[0]), abs=1e-6)


def test_warm_up_runs_the_rows_before_the_model_is_ready(served, tmp_path):
    """Triton tells of a warm-up only when it fails."""
    repository = shutil.copytree(served.repository, tmp_path / "models")
    with (
        TritonServer(repository, models=["chained"]) as server,
        tritonclient.grpc.InferenceServerClient(server.grpc_url) as control,
    ):
        (repository / "fused_fused_1" / "warmup" / "row0.0.raw").write_bytes(b"")
        with pytest.raises(tritonclient.utils.InferenceServerException, match="warm"):
            control.load_model("fused_fused_1")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_error_in_one_of_several_requests_is_the_answer(parts, served, protocol, capfd):
    rows = parts.rows(40).with_columns(active=pl.Series([*([True] * 30), None, *([True] * 9)]))
    with Client(address(served, protocol), "chained", protocol=protocol, concurrency=3) as client:
        with pytest.raises(RequestError, match=r"column 'active' holds null.*\(row 30\)"):
            client.predict(rows)
        assert client.predict(parts.rows(40)).shape == (40,)
    assert capfd.readouterr() == ("", "")

"""Everything that is compared, each behind a server of its own: what is sent to it, and how its server is started."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt
import polars as pl

from benchmarks import identity, stock
from benchmarks.perf_analyzer import BenchmarkError, write_data
from benchmarks.processes import PeerServer
from benchmarks.servers import PEERS, by_hand
from benchmarks.servers.kserve import Settings
from ensemble import manifest, pbtxt
from ensemble.config import ServeConfig
from ensemble.requests.encode import encode
from ensemble.server.triton import TritonServer
from ensemble.spec import RequestSchema
from etl.graph import FeatureGraph

Tensors = Mapping[str, npt.NDArray[Any]]
Encode = Callable[[pl.DataFrame], Tensors]
SINGLE_ROW_STEPS = 256
BATCH_STEPS = 4
STOCK = ("stock", "stock_preprocessing")
IN_PROCESS = "tensorflow"
ALL_PEERS = (*STOCK, *PEERS, IN_PROCESS)
"""What `--peers all` measures beside the ensembles and the floor."""
_START_SECONDS = 180.0


class Server(Protocol):
    """A server that can be started and stopped; `pid` is the process that serves, or its parent."""

    pid: int

    @property
    def http_url(self) -> str:
        """`host:port`."""

    @property
    def grpc_url(self) -> str:
        """`host:port`."""

    def start(self) -> Any:
        """Return when the model is ready."""

    def stop(self) -> None:
        """Leave nothing behind."""


@dataclass(frozen=True)
class Target:
    """One model that is measured: `server` names what answers for it, `encode` makes tensors of rows.

    `batched` is false where a request's rows are not Triton's batch. `as_json` sends tensors as JSON. `disk` are its
    files. `scored` is false for what has no score to compare.
    """

    name: str
    server: str
    model: str
    encode: Encode
    batched: bool = True
    as_json: bool = False
    protocols: tuple[str, ...] = ("http", "grpc")
    largest_batch: int = 2**31
    disk: tuple[Path, ...] = ()
    scored: bool = True
    note: str = ""


@dataclass
class Field:
    """What is compared: targets, how each server is made (several ways: the fastest is taken), and who is missing."""

    targets: list[Target] = field(default_factory=list)
    servers: dict[str, list[Callable[[], Server]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, target: Target, *make: Callable[[], Server]) -> None:
        """Add a target, with its server unless another target's server answers for it."""
        self.targets.append(target)
        if make:
            self.servers[target.server] = list(make)


@dataclass(frozen=True)
class Served:
    """What is served: version folders of Mews' exports, and what peers are made of; None where a peer cannot be made.

    `graph` is the fitted graph without the label, `model` the folder of training.json and the SavedModel, `onnx` that
    of workflow.onnx and model.onnx.
    """

    exports: Sequence[Path]
    rows: Path
    graph: FeatureGraph | None = None
    model: Path | None = None
    onnx: Path | None = None


def prepare(served: Served, work: Path, peers: Collection[str]) -> Field:
    """Write what every server needs below `work`, and return what is compared, in the order of the report."""
    found = Field()
    manifests = [manifest.load(folder) for folder in served.exports]
    request = next((each.request for each in manifests if not each.request.is_packed), manifests[0].request)
    if any(other.request.names != request.names for other in manifests):
        raise BenchmarkError("the exports read different columns", hint="Compare exports of one feature graph.")
    for folder, each in zip(served.exports, manifests, strict=True):
        _add_export(found, folder, each, work)
    first = found.targets[0]
    if any(target.name == "fused" for target in found.targets) and peers:
        note = "fused, asked in JSON as the peers are"
        found.add(Target("fused_json", "fused", "fused", _encoded(request), as_json=True, protocols=("http",),
                         largest_batch=1, disk=first.disk, note=note))  # fmt: skip
    repository = _repository(work, "identity")
    config = repository.parent.parent / first.name / "models" / first.model / "config.pbtxt"
    limit = pbtxt.parse(config.read_text(encoding="utf-8")).max_batch_size
    identity.write(repository, "identity", request.tensors, limit)
    floor = Target("identity", "identity", "identity", _encoded(request), disk=(repository,), scored=False,
                   note="computes nothing: the floor")  # fmt: skip
    found.add(floor, partial(_triton, repository, "identity"))
    _add_stock(found, served, request, work, peers)
    _add_peers(found, served, request, work, peers, limit)
    return found


def _encoded(request: RequestSchema) -> Encode:
    return lambda rows: encode(rows, request)


def _repository(work: Path, name: str) -> Path:
    folder = work / "servers" / name / "models"
    folder.mkdir(parents=True)
    return folder


def _triton(repository: Path, *models: str) -> TritonServer:
    config = ServeConfig(start_timeout_seconds=_START_SECONDS)
    return TritonServer(repository, config, models, environment=stock.ENVIRONMENT)


def _add_export(found: Field, version: Path, each: manifest.Manifest, work: Path) -> None:
    """Link the composing models of a version and add its ensemble under the name of its shape."""
    source = version.parent.parent.resolve()
    archived = source / each.name / "configs" / f"{each.version}.pbtxt"
    spec = pbtxt.parse(archived.read_text(encoding="utf-8"))
    name = "packed" if each.request.is_packed else each.shape
    repository = _repository(work, name)
    for model in each.models:
        (repository / model).symlink_to(source / model)
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(pbtxt.render(replace(spec, name=name, versions=())), "utf-8")
    note = f"{each.shape}, columns of a kind of type in one tensor" if each.request.is_packed else ""
    target = Target(
        name, name, name, _encoded(each.request), disk=tuple(repository / model for model in each.models), note=note
    )
    found.add(target, partial(_triton, repository, name))


def _add_stock(found: Field, served: Served, request: RequestSchema, work: Path, peers: Collection[str]) -> None:
    wanted = [name for name in STOCK if name in peers]
    if not wanted:
        return
    if served.graph is None or ("stock" in wanted and served.model is None):
        found.failed |= dict.fromkeys(wanted, "there is no fitted graph or no SavedModel to export")
        return
    unused = [column.name for column in served.graph.inputs if column.name not in request.names]
    graph = served.graph.remove_inputs(unused) if unused else served.graph
    whole = "stock" in wanted
    repository = _repository(work, "stock")
    try:
        stock.write(graph, work, repository, served.model if whole else None)
    except BenchmarkError as error:
        found.failed |= dict.fromkeys(wanted, str(error))
        return
    notes = {
        "stock": "Merlin Systems' export; its TensorFlow step runs in a Python-backend stand-in",
        "stock_preprocessing": "Merlin Systems' workflow model alone, no model behind it",
    }
    for name in wanted:
        model = stock.EXECUTOR if name == "stock" else stock.PREPROCESSING
        models = [path.name for path in repository.iterdir() if (path / "config.pbtxt").exists()]
        loaded = models if name == "stock" else [model]
        target = Target(name, name, model, partial(stock.encode, inputs=stock.inputs(repository, model)),
                        batched=False, disk=tuple(repository / each for each in (*loaded, "tables")),
                        scored=name == "stock", note=notes[name])  # fmt: skip
        found.add(target, partial(_triton, repository, *loaded))


def _add_peers(
    found: Field, served: Served, request: RequestSchema, work: Path, peers: Collection[str], limit: int
) -> None:
    wanted = [name for name in PEERS if name in peers]
    if not wanted:
        return
    folder = work / "peers"
    absent = _peer_folder(served, folder)
    inputs = [(spec.name, spec.dtype, list(spec.dims)) for spec in request.tensors]
    Settings("mews", inputs, limit, folder).save(folder / "settings.json")
    for name in wanted:
        peer = PEERS[name]
        reason = peer.missing or next((absent[part] for part in peer.parts if part in absent), "")
        if reason:
            found.failed[name] = reason
            continue
        target = Target(name, name, "mews", _encoded(request), as_json=True, protocols=("http",),
                        disk=tuple(folder / part for part in peer.parts), note=peer.title)  # fmt: skip
        makers = [
            partial(
                PeerServer,
                f"benchmarks.servers.{name}",
                folder / "settings.json",
                "mews",
                workers,
                folder / f"{name}-{workers}.log",
                _START_SECONDS,
            )
            for workers in peer.tried()
        ]
        found.add(target, *makers)


def _peer_folder(served: Served, folder: Path) -> dict[str, str]:
    """Fill `folder` with what peers read; return why a part of it is absent, by part."""
    folder.mkdir()
    absent = {}
    for part, source in (("model", served.model), ("model.onnx", served.onnx and served.onnx / "model.onnx")):
        if source is None:
            absent[part] = f"there is no {part}"
        else:
            (folder / part).symlink_to(source.resolve())
    if served.graph is None:
        return absent | dict.fromkeys(("graph", "by_hand"), "there is no fitted graph")
    served.graph.save(folder / "graph")
    try:
        by_hand.write(served.graph, folder / "by_hand")
    except by_hand.UnknownOperatorError as error:
        absent["by_hand"] = str(error)
    return absent


def sample(rows: Path, request: RequestSchema, count: int, *, plain: bool) -> pl.DataFrame:
    """Return `count` rows evenly from the file, repeated if it has fewer.

    `plain` leaves out, for every target, what only some can be told: rows with nulls (Merlin Systems has no way to say
    them, and JSON none for NaN) and with text that is not ASCII (Merlin Systems fails on it).
    """
    frame = pl.read_parquet(rows, columns=list(request.names), hive_partitioning=False)
    if plain:
        frame = frame.filter(_is_plain(column.name, column.dtype, column.is_list) for column in request.columns)
    if frame.is_empty():
        expected = "raw rows; without nulls and in ASCII if peers are measured too"
        raise BenchmarkError(f"{rows} has no rows to send", expected=expected)
    places = pl.Series([number * (frame.height - 1) // max(1, count - 1) for number in range(min(count, frame.height))])
    chosen = frame[places.unique(maintain_order=True)]
    return pl.concat([chosen] * -(-count // chosen.height)).head(count)


def _is_plain(name: str, dtype: str, is_list: bool) -> pl.Expr:
    column = pl.col(name)
    known = column.is_not_null()
    if dtype == "string":
        text = column.list.join("", ignore_nulls=False) if is_list else column
        return known & (text.str.len_bytes() == text.str.len_chars()).fill_null(False)
    if dtype.startswith("float") and not is_list:
        return known & column.is_not_nan()
    return known


def write_requests(target: Target, frame: pl.DataFrame, work: Path, batches: Sequence[int]) -> dict[int, Path]:
    """Write perf_analyzer's data of a target, by batch size; a batch that is Triton's own is made of single rows."""
    work.mkdir(parents=True, exist_ok=True)
    if not target.batched:
        return {batch: _write_whole(target, frame, work / f"{batch}.json", batch) for batch in batches}
    single, together = work / "rows.json", work / "batches.json"
    singles = [target.encode(frame[place : place + 1]) for place in range(min(SINGLE_ROW_STEPS, frame.height))]
    write_data(single, singles, batched=True)
    if set(batches) - {1}:
        tensors = target.encode(frame)
        rows = [{name: tensor[place : place + 1] for name, tensor in tensors.items()} for place in range(frame.height)]
        write_data(together, rows, batched=True)
    return {batch: single if batch == 1 else together for batch in batches}


def _write_whole(target: Target, frame: pl.DataFrame, path: Path, batch: int) -> Path:
    starts = list(range(0, frame.height - batch + 1, batch))[:SINGLE_ROW_STEPS]
    write_data(path, [target.encode(frame[start : start + batch]) for start in starts], batched=False)
    return path


def steps(batches: Sequence[int]) -> int:
    """Return how many rows the data of these batch sizes need."""
    return max(SINGLE_ROW_STEPS, BATCH_STEPS * max(batches))


def to_body(tensors: Tensors) -> bytes:
    """Return a KServe request in JSON."""
    kinds = {"object": "BYTES", "bool": "BOOL", "float32": "FP32", "float64": "FP64", "float16": "FP16"}
    inputs = []
    for name, values in tensors.items():
        kind = kinds.get(values.dtype.name) or values.dtype.name.upper()
        flat = [value.decode() if isinstance(value, bytes) else value for value in values.reshape(-1).tolist()]
        inputs.append({"name": name, "shape": list(values.shape), "datatype": kind, "data": flat})
    return json.dumps({"inputs": inputs}).encode()

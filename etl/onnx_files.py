"""ONNX graphs on disk: `model.onnx` alone, or with its large tensors beside it in `model.onnx.data`.

A protobuf message holds less than 2 GiB, and a reader has to read all of it. A tensor in a file beside the graph has
neither limit: ONNX Runtime maps it into memory, so that it is read when it is used, and once for all who use it.

On disk such a tensor names its file relative to the graph; in memory, after `open_graph`, by an absolute path. Only
initializers of the outer graph may lie outside. ONNX's own functions are not used for this: `onnx.load` reads every
tensor, and `onnx.save` appends to a file that is there already and empties the tensors of the graph it was given.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError, EncodeError

from etl.atomic import atomic_file
from etl.errors import ArtifactError

SUFFIX = ".data"
THRESHOLD = 1 << 28
"""Bytes of a graph's tensors above which the large ones lie beside it."""
SMALLEST = 1 << 16
"""Bytes from which a tensor of such a graph lies beside it."""

_LARGEST_MESSAGE = (1 << 31) - 1
_ALIGNMENT = 1 << 16  # mappings start at a multiple of this on every system that ONNX Runtime runs on
_PIECE = 64 << 20
_WIDTHS = {
    **dict.fromkeys(("BOOL", "UINT8", "INT8"), 1),
    **dict.fromkeys(("UINT16", "INT16", "FLOAT16", "BFLOAT16"), 2),
    **dict.fromkeys(("UINT32", "INT32", "FLOAT"), 4),
    **dict.fromkeys(("UINT64", "INT64", "DOUBLE"), 8),
}


@dataclass(frozen=True)
class Place:
    """Where the bytes of a tensor are: `length` bytes of `file` from `offset`."""

    file: Path
    offset: int
    length: int


def is_outside(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's bytes are in another file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def outside(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Return the tensors of `model` whose bytes are in another file."""
    return [tensor for tensor in model.graph.initializer if is_outside(tensor)]


def place(tensor: onnx.TensorProto) -> Place:
    """Return where the bytes of an outside tensor are; its file is as the tensor says."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    try:
        offset = int(said.get("offset", 0))
        return Place(Path(said["location"]), offset, int(said.get("length", size(tensor))))
    except (KeyError, ValueError) as error:
        raise ArtifactError(f"tensor {tensor.name!r}", expected="a location", received=str(error)) from error


def size(tensor: onnx.TensorProto) -> int:
    """Return the bytes of a tensor of fixed width, by its type and dims; ArtifactError for one of strings."""
    kind = onnx.TensorProto.DataType.Name(tensor.data_type)
    if kind not in _WIDTHS or any(dim < 0 for dim in tensor.dims):
        raise ArtifactError(f"tensor {tensor.name!r}", expected="numbers in the file beside", received=kind)
    return int(np.prod([int(dim) for dim in tensor.dims], dtype=object)) * _WIDTHS[kind]


def open_graph(path: Path) -> onnx.ModelProto:
    """Read a graph without the tensors that lie beside it; those then say an absolute path.

    ArtifactError when the file is missing or not ONNX, or when a tensor lies outside the folder, behind a symbolic
    link, beyond the end of its file, or is not an initializer of the outer graph. The graph itself is not checked.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is missing") from error
    except (DecodeError, ValueError, OSError) as error:
        raise ArtifactError(f"{path} is not a valid ONNX graph", received=str(error)) from error
    if inner := [tensor.name for tensor in _inner_tensors(model) if is_outside(tensor)]:
        raise ArtifactError(
            f"{path} keeps {', '.join(map(repr, inner[:3]))} in another file",
            expected="only initializers of the outer graph there",
        )
    overridable = {value.name for value in model.graph.input}
    for tensor in outside(model):
        if tensor.name in overridable:
            raise ArtifactError(f"{path}: input {tensor.name!r}", expected="its default in the graph itself")
        _point(tensor, _checked(path, tensor))
    return model


def read(tensor: onnx.TensorProto) -> npt.NDArray[Any]:
    """Return a tensor's values; those of an outside one are mapped, not read."""
    if not is_outside(tensor):
        values: npt.NDArray[Any] = onnx.numpy_helper.to_array(tensor)
        return values
    where, dtype = place(tensor), onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if not where.length:
        return np.empty(tuple(tensor.dims), dtype)
    return np.memmap(where.file, dtype, "r", where.offset, tuple(tensor.dims))


def save_graph(model: onnx.ModelProto, target: Path, threshold_bytes: int = THRESHOLD) -> tuple[Path, ...]:
    """Write `model` to `target`; return the files written, the graph first.

    When its tensors have more than `threshold_bytes`, or some lie outside already, the large ones go to
    `<target>.data`, one at a time, so that memory does not hold them twice. `model` is left as it is. A killed write
    leaves no graph. ArtifactError when the rest does not fit into a protobuf message.
    """
    beside = target.with_name(target.name + SUFFIX)
    tensors = list(model.graph.initializer)
    held = sum(tensor.ByteSize() for tensor in tensors)
    if not outside(model) and held <= threshold_bytes:
        with atomic_file(target) as temporary:
            temporary.write_bytes(_serialised(model, target))
        beside.unlink(missing_ok=True)
        return (target,)
    light = _without_tensors(model)
    target.unlink(missing_ok=True)  # a graph never stands beside the tensors of another
    with atomic_file(beside) as temporary, temporary.open("wb") as file:
        light.graph.initializer.extend(_moved(tensors, file, beside.name))
    with atomic_file(target) as temporary:
        temporary.write_bytes(_serialised(light, target))
    return target, beside


def copy_graph(source: Path, target: Path) -> tuple[Path, ...]:
    """Copy a graph and the tensors beside it; return the files written, the graph first.

    A file with the usual name is copied by the kernel, without passing through this process; any other layout is
    written anew. ArtifactError as in `open_graph`.
    """
    model = open_graph(source)
    files = {place(tensor).file for tensor in outside(model)}
    beside = source.with_name(source.name + SUFFIX).absolute()
    if files - {beside} or (files and source.name != target.name):
        return save_graph(model, target)
    pairs = [(source, target), *((file, target.with_name(target.name + SUFFIX)) for file in files)]
    target.unlink(missing_ok=True)
    for old, new in reversed(pairs):
        with atomic_file(new) as temporary, old.open("rb") as reader, temporary.open("wb") as writer:
            _pour(reader, 0, os.fstat(reader.fileno()).st_size, writer)
    return tuple(new for _, new in pairs)


def move_graph(source: Path, target: Path) -> None:
    """Give a graph that `save_graph` wrote another path on the same disk; tensors beside it are moved, not copied."""
    model = onnx.load(source, load_external_data=False)
    beside = target.with_name(target.name + SUFFIX)
    target.unlink(missing_ok=True)
    if outside(model):
        for tensor in outside(model):
            where = place(tensor)
            _point(tensor, Place(Path(beside.name), where.offset, where.length))
        source.with_name(source.name + SUFFIX).replace(beside)
    else:
        beside.unlink(missing_ok=True)
    with atomic_file(target) as temporary:
        temporary.write_bytes(_serialised(model, target))
    source.unlink()


def keep_in(tensor: onnx.TensorProto, content: bytes, file: Path) -> None:
    """Write a tensor's little-endian `content` to a `file` of its own, and make the tensor, in place, say so."""
    file.write_bytes(content)
    tensor.ClearField("raw_data")
    _point(tensor, Place(file.absolute(), 0, len(content)))


def _point(tensor: onnx.TensorProto, where: Place) -> None:
    """Make an outside tensor say `where`."""
    tensor.ClearField("external_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    said = {"location": str(where.file), "offset": str(where.offset), "length": str(where.length)}
    for key, value in said.items():
        tensor.external_data.add(key=key, value=value)


def _checked(path: Path, tensor: onnx.TensorProto) -> Place:
    """Return where a tensor of the graph at `path` is, with an absolute file; ArtifactError if it may not be read."""
    said = place(tensor)
    subject = f"{path}: tensor {tensor.name!r}"
    location = PurePosixPath(said.file)
    if location.is_absolute() or ".." in location.parts or not location.parts or set("\\\0") & set(str(said.file)):
        raise ArtifactError(subject, expected="a file in the graph's folder", received=str(said.file))
    steps = [Path(*location.parts[: count + 1]) for count in range(len(location.parts))]
    if links := [step for step in steps if (path.parent / step).is_symlink()]:
        raise ArtifactError(subject, expected="a file in the graph's folder", received=f"{links[0]}, a symbolic link")
    file = (path.parent / said.file).absolute()
    try:
        status = file.stat()
    except OSError as error:
        raise ArtifactError(f"{file} is missing", hint=f"{path.name} needs it beside it.") from error
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError(subject, expected="a regular file", received=str(said.file))
    wanted = size(tensor)
    if said.offset < 0 or said.length != wanted or said.offset + wanted > status.st_size:
        raise ArtifactError(
            subject,
            expected=f"{wanted} bytes in {said.file}, which has {status.st_size}",
            received=f"{said.length} from {said.offset}",
        )
    return Place(file, said.offset, said.length)


def _inner_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors in attributes, subgraphs and functions, and sparse ones."""
    yield from _sparse(model.graph)
    yield from _of_nodes(model.graph.node)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from graph.initializer
                yield from _sparse(graph)
                yield from _of_nodes(graph.node)


def _sparse(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def _serialised(model: onnx.ModelProto, target: Path) -> bytes:
    try:
        if (held := model.ByteSize()) <= _LARGEST_MESSAGE:
            return bytes(model.SerializeToString())
        received = f"{held:,}"
    except (EncodeError, ValueError) as error:
        received = str(error)
    raise ArtifactError(
        f"{target} is too large",
        expected=f"at most {_LARGEST_MESSAGE:,} bytes without the tensors beside it",
        received=received,
        hint="Vocabularies lie in the graph itself; give large columns fewer values (max_size, freq_threshold).",
    )


def _without_tensors(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with no initializers, which are not copied in between."""
    light = onnx.ModelProto()
    for source, copied in ((model, light), (model.graph, light.graph)):
        for about, value in source.ListFields():
            if about.name not in ("graph", "initializer"):
                _set(copied, about, value)
    return light


def _set(message: Any, about: Any, value: Any) -> None:
    if about.label == about.LABEL_REPEATED:
        getattr(message, about.name).extend(value)
    elif about.type == about.TYPE_MESSAGE:
        getattr(message, about.name).CopyFrom(value)
    else:
        setattr(message, about.name, value)


def _moved(tensors: Iterable[onnx.TensorProto], file: IO[bytes], name: str) -> Iterator[onnx.TensorProto]:
    """Write the large tensors to `file`; yield all, those with their place in the file called `name`."""
    for tensor in tensors:
        fixed = onnx.TensorProto.DataType.Name(tensor.data_type) in _WIDTHS
        if not is_outside(tensor) and (not fixed or size(tensor) < SMALLEST):
            yield tensor
            continue
        file.seek(-file.tell() % _ALIGNMENT, os.SEEK_CUR)
        offset = file.tell()
        if is_outside(tensor):
            where = place(tensor)
            with where.file.open("rb") as source:
                _pour(source, where.offset, where.length, file)
        else:
            file.write(np.ascontiguousarray(onnx.numpy_helper.to_array(tensor)).data)
        moved = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        _point(moved, Place(Path(name), offset, size(tensor)))
        yield moved


def _pour(source: IO[bytes], start: int, length: int, target: IO[bytes]) -> None:
    """Copy `length` bytes of one open file to the end of another, in the kernel where it can."""
    target.flush()
    done = 0
    while done < length:
        piece = min(_PIECE, length - done)
        try:
            copied = os.copy_file_range(source.fileno(), target.fileno(), piece, start + done)
        except OSError:  # not between these file systems
            copied = os.sendfile(target.fileno(), source.fileno(), start + done, piece)
        if not copied:
            raise ArtifactError(f"{source.name} ended early", expected=f"{length} bytes", received=str(done))
        done += copied
    target.seek(0, os.SEEK_END)

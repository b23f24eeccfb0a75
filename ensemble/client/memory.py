"""Inputs in shared memory, for a server on the same machine.

A region is registered once and used again; a request that needs more room gets a larger one, and the smaller one is
given back at the end. A region's name is removed as soon as the server has mapped it, so nothing is left behind by a
client that is killed. (tritonclient's own module for this needs pkg_resources, which is gone from setuptools.)
"""

from __future__ import annotations

import mmap
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, serialize_byte_tensor

from ensemble.client.transport import Refused, Unreachable, words
from ensemble.requests.encode import Array

_FOLDER = Path("/dev/shm")
_LEAST = 64 * 1024
_LETTING_GO = 2.0
_STEP = 64  # every tensor begins on a cache line


@dataclass(frozen=True)
class _Region:
    name: str
    memory: mmap.mmap


class SharedInputs:
    """The regions of one client; each holds the inputs of one request at a time."""

    def __init__(self, module: Any, register: Callable[[str, str, int], Any], unregister: Callable[[str], Any]) -> None:
        self._module, self._register_at, self._unregister_at = module, register, unregister
        self._free: list[_Region] = []
        self._outgrown: list[str] = []

    @contextmanager
    def holding(self, tensors: Mapping[str, Array]) -> Iterator[list[Any]]:
        """Yield the inputs of a request that lie in shared memory; Unreachable if the server has lost the region."""
        raw = {name: _raw(values) for name, values in tensors.items()}
        region = self._region(sum(-(-len(data) // _STEP) * _STEP for data in raw.values()))
        inputs, offset = [], 0
        for name, data in raw.items():
            region.memory[offset : offset + len(data)] = data
            tensor = self._module.InferInput(name, list(tensors[name].shape), np_to_triton_dtype(tensors[name].dtype))
            tensor.set_shared_memory(region.name, len(data), offset)
            inputs.append(tensor)
            offset += -(-len(data) // _STEP) * _STEP
        lost = False
        try:
            yield inputs
        except Exception as error:
            lost = "shared memory region" in str(error)
            if lost:
                raise Unreachable(f"the server no longer has the shared memory: {error}") from error
            raise
        finally:
            if lost:
                region.memory.close()
            else:
                self._free.append(region)

    def close(self) -> None:
        """Give every region back."""
        while self._free:
            self._outgrow(self._free.pop())
        while self._outgrown:
            self._give_back(self._outgrown.pop())

    def _region(self, size: int) -> _Region:
        region = self._free.pop() if self._free else None
        if region is not None and len(region.memory) >= size:
            return region
        if region is not None:
            self._outgrow(region)
        return self._register(max(_LEAST, 1 << (size - 1).bit_length()))

    def _register(self, size: int) -> _Region:
        name = f"mews-{os.getpid()}-{secrets.token_hex(8)}"
        try:
            memory = _created(name, size)
        except OSError as error:
            raise Refused(f"no shared memory of {size} bytes: {error}") from error
        try:
            self._register_at(name, f"/{name}", size)
        except InferenceServerException as error:
            memory.close()
            raise Refused(f"{words(error)} (shared memory is for a server on this machine)") from error
        finally:
            (_FOLDER / name).unlink(missing_ok=True)
        return _Region(name, memory)

    def _outgrow(self, region: _Region) -> None:
        region.memory.close()
        self._outgrown.append(region.name)

    def _give_back(self, name: str) -> None:
        """A server lets go of a region a little after it has answered, and says so until then."""
        ends = time.monotonic() + _LETTING_GO
        while True:
            try:
                self._unregister_at(name)
            except InferenceServerException as error:
                if "in use" in str(error) and time.monotonic() < ends:
                    time.sleep(0.005)
                    continue
            except OSError:
                pass  # the server is gone, and the region with it
            return


def _created(name: str, size: int) -> mmap.mmap:
    file = os.open(_FOLDER / name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        os.posix_fallocate(file, 0, size)
        return mmap.mmap(file, size)
    except OSError:
        (_FOLDER / name).unlink()
        raise
    finally:
        os.close(file)


def _raw(values: Array) -> bytes | memoryview:
    if values.dtype == object:
        serialized = serialize_byte_tensor(values)
        return bytes(serialized.item()) if serialized.size else b""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data

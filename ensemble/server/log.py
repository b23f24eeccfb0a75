"""What Triton's log says about why a server did not start or ended."""

from __future__ import annotations

import re

from etl.errors import ServerError

_TAIL_LINES = 12
_REPORTED = re.compile(r"^(?:[EF]\d{4} .*?\] ?\"?|error: )(?P<text>.+?)\"?$", re.MULTILINE)
_NOISE = re.compile(r"CudaDriverHelper|pinned|CUDA memory pool")
_PORT = re.compile(r"Socket '[^']*:(?P<port>\d+)' already in use")
_LIBRARY = re.compile(r"error while loading shared libraries: (?P<library>[^:]+):")
_SHARED_MEMORY = re.compile(
    r"(?:shared memory|/dev/shm)[^\n]*(?:No space left|size|Permission denied)[^\n]*", re.IGNORECASE
)
_BACKEND = re.compile(
    r"unable to find backend library|backend_stub is not found|unexpected 'platform' and 'backend' pair"
)
# The first of these that matches names the model that is the cause, not the ensemble that waits for it.
_MODELS = (
    re.compile(r"failed to load '(?P<model>[^']+)' version -?\d+: (?P<reason>(?:\\.|[^\"\\\n])+)"),
    re.compile(r"Poll failed for model directory '(?P<model>[^']+)': (?P<reason>(?:\\.|[^\"\\\n])+)"),
    re.compile(r"failed to poll model '(?P<model>[^']+)': (?P<reason>(?:\\.|[^\"\\\n])+)"),
    re.compile(r"load failed for model '(?P<model>[^']+)': (?P<reason>(?:\\.|[^\"\\\n])+)"),
)
_NO_BACKEND = (
    "This server lacks the backend. Exports need onnxruntime: NVIDIA's images have it; the embedded server makes it "
    "from triton_models and Triton's python backend, which `make setup` installs. A backend_directory of your own must "
    "hold both."
)


def ports_taken(log: str) -> tuple[int, ...]:
    """Return the ports that Triton could not bind."""
    return tuple(int(match["port"]) for match in _PORT.finditer(log))


def models_failed(log: str) -> dict[str, str]:
    """Return the models that did not load, with Triton's reason without its Python traceback."""
    for pattern in _MODELS:
        if found := {match["model"]: match["reason"].split("\\n\\nAt:")[0].strip() for match in pattern.finditer(log)}:
            return found
    return {}


def reported(log: str) -> str:
    """Return the last lines that Triton logged as errors; the last lines of any kind if there are none."""
    errors = [match["text"] for match in _REPORTED.finditer(log) if not _NOISE.search(match["text"])]
    return "\n".join((errors or log.splitlines())[-_TAIL_LINES:])


def explain(subject: str, log: str) -> ServerError:
    """Return the error for what the log shows: a port, a model, a library, shared memory, or its last lines."""
    if taken := ports_taken(log):
        ports = ", ".join(map(str, taken))
        return ServerError(
            subject,
            received=f"port {ports} already in use",
            hint=f"Find its user with `ss -ltnp 'sport = :{taken[0]}'`, choose another port, or 0 for any free one.",
        )
    if failed := models_failed(log):
        reasons = "; ".join(f"model {model!r}: {reason}" for model, reason in failed.items())
        hint = _NO_BACKEND if _BACKEND.search(reasons) else "The repository cannot be served as it is; export again."
        return ServerError(subject, received=reasons, hint=hint)
    if library := _LIBRARY.search(log):
        return ServerError(
            subject,
            received=f"shared library {library['library']} not found",
            hint="Run `make setup`; for libpython, `apt-get install libpython3.11` or `uv python install 3.11`.",
        )
    if shared := _SHARED_MEMORY.search(log):
        return ServerError(
            subject,
            received=shared[0],
            hint="Each model instance needs at least 1 MB of /dev/shm; in a container raise --shm-size.",
        )
    return ServerError(subject, received=f"this at the end of its log:\n{reported(log)}\n")

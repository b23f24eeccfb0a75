"""Runs one tritonserver and leaves nothing of it behind, whatever ends first: the server, us, or the supervisor itself.

A process of its own, standard library only, started by `ensemble.server.triton` as a script. It ends the server when
its standard input closes, which the kernel does also when the process that started it is killed. It adopts what the
server leaves (the backend's stubs), so a crashed server leaves no process; if the supervisor is killed, the kernel
kills the server.

What a server holds outside its processes: `/dev/shm/<token>*` and a folder. Both are named by `/dev/shm/<token>.lock`,
a file that is locked as long as the supervisor lives; `sweep` removes what belongs to lock files that nobody holds.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "mews-"
_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36  # prctl, linux/prctl.h
_LAST_WAIT_SECONDS = 5
_STACK = 256 * 2**20
"""Bytes of a thread's stack: this Triton reads JSON by recursion, and 200 thousand brackets fill the usual 8 MiB."""


def take_lock(token: str, folder: Path) -> int:
    """Create and lock `/dev/shm/<token>.lock`, which names `folder`; returns its inheritable descriptor."""
    unlocked = SHARED_MEMORY / f"{token}.new"
    descriptor = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, os.fsencode(folder))
    unlocked.rename(SHARED_MEMORY / f"{token}.lock")  # appears locked, so that `sweep` never takes a server that starts
    os.set_inheritable(descriptor, True)
    return descriptor


def remove(token: str, folder: Path) -> None:
    """Remove shared memory and folder of a server that ended, its lock file last."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in sorted(SHARED_MEMORY.glob(f"{token}*"), key=lambda path: path.suffix == ".lock"):
        path.unlink(missing_ok=True)


def sweep() -> list[str]:
    """Remove what killed supervisors of this user left; returns their tokens."""
    swept = []
    for path in SHARED_MEMORY.glob(f"{PREFIX}*.lock"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue  # another user's, or gone meanwhile
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = Path(os.fsdecode(os.read(descriptor, 4096)))
            # The folder to delete is read from a place where everybody may write: believe only our own lock files.
            if os.fstat(descriptor).st_uid == os.getuid() and folder.name.startswith(PREFIX):
                remove(path.stem, folder)
                swept.append(path.stem)
        except BlockingIOError:
            pass  # its server is alive
        finally:
            os.close(descriptor)
    return swept


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def die_with_parent() -> None:
    """As a child before it runs its program: have the kernel kill it when the thread that started it ends."""
    _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def prepare() -> None:
    """As a child before it runs the server: die with the supervisor, and have room for deep JSON on every stack."""
    die_with_parent()
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = _STACK if hard == resource.RLIM_INFINITY else min(_STACK, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))


def _reap(server: int) -> int | None:
    """Collect every ended child; returns the exit status of `server` if it was among them."""
    status = None
    while True:
        try:
            pid, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == server:
            status = os.waitstatus_to_exitcode(ended)


def _wait(server: int, wakeup: int, stop: int | None, seconds: float | None) -> int | None:
    """Wait for the end of `server`, for `stop` to close, or for `seconds`; returns the exit status if it ended."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        status = _reap(server)
        left = None if deadline is None else deadline - time.monotonic()
        if status is not None or (left is not None and left <= 0):
            return status
        ready, _, _ = select.select([wakeup] if stop is None else [wakeup, stop], [], [], left)
        if wakeup in ready:
            for number in os.read(wakeup, 64):
                if number in (signal.SIGTERM, signal.SIGINT):
                    return None
        if stop in ready and not os.read(stop, 1):
            return None


def _end(server: int, wakeup: int, grace: float) -> int:
    """Ask `server` to end, then insist; returns its exit status."""
    os.kill(server, signal.SIGTERM)
    status = _wait(server, wakeup, None, grace)
    if status is not None:
        return status
    os.killpg(server, signal.SIGKILL)
    status = _wait(server, wakeup, None, _LAST_WAIT_SECONDS)
    return -signal.SIGKILL if status is None else status


def _end_orphans() -> None:
    """Kill what the server left, which the kernel has made our children, and collect it."""
    deadline = time.monotonic() + _LAST_WAIT_SECONDS
    while time.monotonic() < deadline:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def _children() -> list[int]:
    threads = Path("/proc/self/task").glob("*/children")
    return [int(pid) for thread in threads for pid in thread.read_text(encoding="ascii").split()]


def supervise(command: list[str], log: str, token: str, folder: str, grace: float) -> int:
    """Run `command` until it ends or stdin closes, clean up, and return its exit status (negative: a signal)."""
    wakeup, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _prctl(_SET_CHILD_SUBREAPER, 1)
    try:
        if not Path(log).parent.is_dir():  # whoever asked for a server was interrupted, and has removed the folder
            return 0
        with Path(log).open("ab") as output:
            server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=prepare,
            ).pid
        print(server, flush=True)
        status = _wait(server, wakeup, sys.stdin.fileno(), None)
        if status is None:
            status = _end(server, wakeup, grace)
        _end_orphans()
        return status
    finally:
        remove(token, Path(folder))


if __name__ == "__main__":
    result = supervise(**json.loads(sys.argv[1]))
    sys.exit(result if result >= 0 else 128 - result)

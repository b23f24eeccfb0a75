#!/usr/bin/env python3
"""Set up Mews: uv, Python 3.11, and everything pinned in requirements/, in .venv beside this file.

Needs Python 3.8 and its standard library, nothing else; runs as root or not. A second run finds the stamp of the first
and does nothing. Settings from the environment: UV (a uv to use), PYTHON (a Python 3.11 to use), MEWS_UV_URL (where
releases of uv are, for machines without access to GitHub).
"""

import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
TOOLS = ROOT / ".uv"
LOCKS = [ROOT / "requirements" / name for name in ("dev.lock", "triton.lock")]
STAMP = VENV / "installed.sha256"
UV_RELEASES = os.environ.get("MEWS_UV_URL", "https://github.com/astral-sh/uv/releases/download")
OLDEST_UV = (0, 5, 0)


def say(text):
    print("setup: " + text, flush=True)


def run(*command, **kwargs):
    """Run a command; return True if it succeeded, its output shown only if it failed and `quiet` is not set."""
    quiet = kwargs.pop("quiet", False)
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kwargs)
    if done.returncode and not quiet:
        sys.stderr.write(done.stdout.decode(errors="replace"))
    return done.returncode == 0


def output(*command):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout.decode().strip() if done.returncode == 0 else ""


def is_root():
    return os.geteuid() == 0


def apt_install(*packages):
    """As root on Debian or Ubuntu, install system packages; False elsewhere or on failure."""
    if not (is_root() and shutil.which("apt-get")):
        return False
    say("installing " + " ".join(packages) + " with apt-get")
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    install = ["apt-get", "install", "-y", "--no-install-recommends"] + list(packages)
    return run(*install, env=env, quiet=True) or (run("apt-get", "update", env=env) and run(*install, env=env))


def fingerprint():
    digest = hashlib.sha256()
    for path in LOCKS + [ROOT / "pyproject.toml"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


# -- uv ----------------------------------------------------------------------------------------------------------------


def usable_uv(path):
    if not path or not os.access(str(path), os.X_OK):
        return None
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", output(path, "--version"))
    return str(path) if found and tuple(map(int, found.groups())) >= OLDEST_UV else None


def uv_from_venv():
    """The pinned uv through pip in a virtual environment; needs Python's venv and ensurepip."""
    shutil.rmtree(str(TOOLS), ignore_errors=True)
    if not run(sys.executable, "-m", "venv", TOOLS, quiet=True):
        return None
    lock = ROOT / "requirements" / "uv.lock"
    run(TOOLS / "bin" / "python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", lock)
    return usable_uv(TOOLS / "bin" / "uv")


def uv_from_pip():
    """The pinned uv through a pip that is there, into a folder of ours."""
    lock = ROOT / "requirements" / "uv.lock"
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--target", TOOLS, "-r", lock, quiet=True
    )
    return usable_uv(TOOLS / "bin" / "uv")


def uv_from_release():
    """The pinned uv from its own releases, checked against the sha256 published beside it; needs no pip."""
    version = (ROOT / "requirements" / "uv.in").read_text().strip().split("==")[1]
    name = "uv-%s-unknown-linux-gnu" % platform.machine()
    url = "%s/%s/%s.tar.gz" % (UV_RELEASES, version, name)
    try:
        archive = urllib.request.urlopen(url, timeout=60).read()
        expected = urllib.request.urlopen(url + ".sha256", timeout=60).read().split()[0].decode()
    except (OSError, ValueError) as error:
        say("no uv from %s (%s)" % (url, error))
        return None
    if hashlib.sha256(archive).hexdigest() != expected:
        say("the sha256 of %s is not the published one; not used" % url)
        return None
    (TOOLS / "bin").mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        binary = tar.extractfile(name + "/uv").read()
    target = TOOLS / "bin" / "uv"
    target.write_bytes(binary)
    target.chmod(0o755)
    return usable_uv(target)


def uv_from_apt():
    """pip in a virtual environment again, once apt-get has brought venv."""
    return uv_from_venv() if apt_install("python3-venv") else None


def find_uv():
    present = usable_uv(os.environ.get("UV")) or usable_uv(shutil.which("uv")) or usable_uv(TOOLS / "bin" / "uv")
    if present:
        return present
    say("installing uv into .uv")
    for way in (uv_from_venv, uv_from_pip, uv_from_release, uv_from_apt):
        uv = way()
        if uv:
            return uv
    sys.exit(
        "setup: uv could not be installed. Do one of: apt-get install python3-venv; install uv "
        "(https://docs.astral.sh/uv) and put it on PATH; set UV=/path/to/uv. Then run make again."
    )


# -- Python 3.11 -------------------------------------------------------------------------------------------------------

_SHARED = """
import ctypes, sysconfig
name = "libpython3.11.so.1.0"
for candidate in (sysconfig.get_config_var("LIBDIR") + "/" + name, name):
    try:
        ctypes.CDLL(candidate)
        print("shared")
        break
    except OSError:
        pass
"""


def has_libpython(python):
    """Triton's Python backend loads libpython3.11.so; Debian keeps it in a package of its own."""
    return output(python, "-c", _SHARED) == "shared"


def find_python(uv):
    given = os.environ.get("PYTHON", "")
    found = given or output(uv, "python", "find", "--no-project", "3.11")
    if found and has_libpython(found):
        return found
    if found:
        say("%s has no libpython3.11.so, which Triton needs" % found)
    say("installing Python 3.11 with uv")
    if run(uv, "python", "install", "3.11", quiet=True):
        return output(uv, "python", "find", "--no-project", "--managed-python", "3.11")
    if found and apt_install("libpython3.11"):
        return found
    if not found and apt_install("python3.11", "libpython3.11"):
        return shutil.which("python3.11")
    if found:
        say("going on without it: everything but `mews serve` will work (apt-get install libpython3.11 mends it)")
        return found
    sys.exit("setup: no Python 3.11. Install python3.11 and libpython3.11, or set PYTHON=/path/to/python3.11.")


def main():
    wanted = fingerprint()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    uv = find_uv()
    env = dict(os.environ, VIRTUAL_ENV=str(VENV))
    if not (VENV / "bin" / "python").exists():
        python = find_python(uv)
        say("making .venv with " + python)
        if not run(uv, "venv", "--quiet", "--allow-existing", "--python", python, VENV):
            sys.exit("setup: the virtual environment could not be made")
    say("installing the pinned packages (3 GB on disk; the first time also downloads)")
    if not run(uv, "pip", "sync", "--quiet", "--require-hashes", *LOCKS, env=env):
        sys.exit("setup: the packages could not be installed; the reason is above")
    if not run(uv, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT, env=env):
        sys.exit("setup: mews itself could not be installed; the reason is above")
    STAMP.write_text(wanted)
    say("ready: .venv/bin/mews")


if __name__ == "__main__":
    main()

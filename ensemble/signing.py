"""Who exported a version: an Ed25519 signature over its manifest, which names every file by its SHA-256.

`signature.json` lies beside `manifest.json`. Signed are the canonical bytes of the manifest: a prefix of our own, then
the JSON with sorted keys and no spaces, so that neither indentation nor the order of keys matters. A private key comes
from the environment or from a file that only its owner can read; a configuration never holds one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.atomic import write_text
from etl.errors import ArtifactError, ConfigError
from etl.untrusted import read_json, typed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE = "signature.json"
KEY = "MEWS_SIGNING_KEY"
KEY_FILE = "MEWS_SIGNING_KEY_FILE"
_DOMAIN = b"mews manifest 1\n"
_ALGORITHM = "ed25519"
_LONGEST_KEY = 16 * 1024
"""Bytes of a key file; a PEM of an Ed25519 key has about 120."""
_HINT = "`mews keys create FILE` makes a pair of keys."


@dataclass(frozen=True)
class PublicKey:
    """A public key and its `id`, the first 16 hex digits of the SHA-256 of its 32 bytes."""

    raw: bytes

    @property
    def id(self) -> str:
        """What messages and signature.json call this key."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """Read a PEM; ConfigError for anything that is no public Ed25519 key."""
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            return cls(_raw(load_pem_public_key(_text(path))))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"public key {path}", expected="a public Ed25519 key as PEM", received=str(error), hint=_HINT
            ) from error


def canonical(manifest: Mapping[str, Any]) -> bytes:
    """Return the bytes of a manifest's JSON values that are signed."""
    return _DOMAIN + json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode("ascii")


def create(path: Path) -> PublicKey:
    """Write a new private key to `path` (mode 0600) and the public one to `<path>.pub`; returns the public key.

    ConfigError where one of the files is there already: a key is never overwritten.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    public = path.with_name(path.name + ".pub")
    for file in (path, public):
        if os.path.lexists(file):
            raise ConfigError(f"{file} exists already", hint="A key is never overwritten; choose another name.")
    key = Ed25519PrivateKey.generate()
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_text(public, pem.decode("ascii"))
    return PublicKey(_raw(key.public_key()))


def private_key(environment: Mapping[str, str] = os.environ) -> Ed25519PrivateKey:
    """Return the key in MEWS_SIGNING_KEY (the PEM itself) or in the file MEWS_SIGNING_KEY_FILE names.

    ConfigError where there is neither, both, no key in it, or a file that others can read.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem, file = environment.get(KEY, ""), environment.get(KEY_FILE, "")
    if bool(pem) == bool(file):
        raise ConfigError(
            "a key to sign with",
            expected=f"{KEY} (the PEM itself) or {KEY_FILE} (a file's path) in the environment",
            received="both" if pem else "neither",
            hint=_HINT,
        )
    subject = f"private key {file or 'in ' + KEY}"
    try:
        key = load_pem_private_key(pem.encode() if pem else _private_text(Path(file)), password=None)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(subject, expected="an Ed25519 key as PEM", received=reason, hint=_HINT) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(subject, expected="an Ed25519 key", received=type(key).__name__, hint=_HINT)
    return key


def sign(manifest: Mapping[str, Any], folder: Path, key: Ed25519PrivateKey) -> PublicKey:
    """Write `folder`/signature.json for the JSON values of a manifest, atomically; returns the key that verifies it."""
    public = PublicKey(_raw(key.public_key()))
    document = {
        "format": 1,
        "algorithm": _ALGORITHM,
        "key": public.id,
        "public_key": base64.b64encode(public.raw).decode("ascii"),
        "signature": base64.b64encode(key.sign(canonical(manifest))).decode("ascii"),
    }
    write_text(folder / SIGNATURE, json.dumps(document, indent=1) + "\n")
    return public


def check(manifest: Mapping[str, Any], folder: Path, trusted: Sequence[PublicKey] | None) -> tuple[str, list[str]]:
    """Return (the id of the key that signed, or nothing; the problems as sentences).

    With `trusted` keys the signature must be there and be of one of them. Without, a signature may be absent; one that
    is there must still be right for the key that it names, which shows a changed manifest but trusts nobody.
    """
    path = folder / SIGNATURE
    if not os.path.lexists(path):
        return "", [f"{SIGNATURE}: missing, and a trusted key is demanded"] if trusted is not None else []
    try:
        if path.is_symlink():
            raise ValueError("a symbolic link")
        public, signature = _read(path)
    except (ArtifactError, ValueError, KeyError, TypeError) as error:
        return "", [f"{SIGNATURE}: cannot be read: {error}"]
    if not _verifies(public, signature, canonical(manifest)):
        return "", [f"{SIGNATURE}: not a signature of this manifest"]
    if trusted is not None and public not in trusted:
        known = ", ".join(key.id for key in trusted) or "none"
        return "", [f"{SIGNATURE}: signed with the key {public.id}, which is not trusted (trusted: {known})"]
    return public.id, []


def _read(path: Path) -> tuple[PublicKey, bytes]:
    document = read_json(path, "Sign the version again.", longest=_LONGEST_KEY)
    if (document["format"], document["algorithm"]) != (1, _ALGORITHM):
        raise ValueError(f"format {document['format']!r}, algorithm {document['algorithm']!r}")
    public, signature = (
        base64.b64decode(typed(document[name], str, name), validate=True) for name in ("public_key", "signature")
    )
    if len(public) != 32 or len(signature) != 64:
        raise ValueError("the key must have 32 bytes and the signature 64")
    return PublicKey(public), signature


def _verifies(public: PublicKey, signature: bytes, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public.raw).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _raw(key: Any) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"it is a {type(key).__name__}")
    return key.public_bytes_raw()


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        text = file.read(_LONGEST_KEY + 1)
    if len(text) > _LONGEST_KEY:
        raise ValueError(f"longer than {_LONGEST_KEY} bytes")
    return text


def _private_text(path: Path) -> bytes:
    """Return the PEM of a file that only its owner can read."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise ValueError("it is no file")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ValueError(f"others may use it (mode {stat.S_IMODE(mode):04o}); run `chmod 600 {path}`")
    return _text(path)

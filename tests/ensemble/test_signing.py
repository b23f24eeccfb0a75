"""Signed versions: who may read a key, what a signature covers, and what a server that trusts keys refuses."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from ensemble import signing
from ensemble.config import ServeConfig
from ensemble.loading import check_models
from ensemble.manifest import document
from ensemble.server.triton import TritonServer
from ensemble.signing import SIGNATURE, PublicKey
from ensemble.verification import check_version
from etl.errors import ArtifactError, ConfigError


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        signing.create(folder / name)
    return folder / "ours", folder / "theirs"


@pytest.fixture(scope="module")
def exported(parts, tmp_path_factory) -> Path:
    repository = tmp_path_factory.mktemp("signed") / "models"
    parts.export(repository, warmup_rows=0)
    return repository


@pytest.fixture
def version(exported, keys, tmp_path) -> Path:
    """A version signed with the first key."""
    folder = Path(shutil.copytree(exported, tmp_path / "models")) / "shop" / "1"
    sign(folder, keys[0])
    return folder


def sign(folder: Path, key: Path) -> PublicKey:
    return signing.sign(document(folder), folder, signing.private_key({signing.KEY_FILE: str(key)}))


def public(key: Path) -> PublicKey:
    return PublicKey.read(key.with_name(key.name + ".pub"))


def rewrite(path: Path, change) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_a_signed_version_is_trusted_with_its_key_only(version, keys):
    ours, theirs = map(public, keys)
    assert check_version(version, [theirs, ours]).signed_by == ours.id
    assert check_version(version).signed_by == ours.id
    problems = check_version(version, [theirs]).problems
    assert problems == (f"{SIGNATURE}: signed with the key {ours.id}, which is not trusted (trusted: {theirs.id})",)
    assert not check_version(version, []).ok


def test_an_unsigned_version_passes_until_a_key_is_demanded(exported, keys):
    assert check_version(exported / "shop" / "1").ok
    assert check_version(exported / "shop" / "1").signed_by == ""
    problems = check_version(exported / "shop" / "1", [public(keys[0])]).problems
    assert problems == (f"{SIGNATURE}: missing, and a trusted key is demanded",)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values["metrics"].update(auc=0.99),
        lambda values: values.update(fingerprint="0" * 64),
        lambda values: values["files"].popitem(),
        lambda values: values.update(extra=1),
    ],
)
def test_any_change_of_the_manifest_breaks_the_signature(version, keys, change):
    rewrite(version / "manifest.json", change)
    for trusted in ([public(keys[0])], None):
        try:
            problems = check_version(version, trusted).problems
        except ArtifactError:  # no manifest any more
            continue
        assert f"{SIGNATURE}: not a signature of this manifest" in problems


def test_the_layout_of_the_manifest_is_not_signed(version, keys):
    values = json.loads((version / "manifest.json").read_text())
    (version / "manifest.json").write_text(json.dumps(dict(reversed(values.items())), indent=7))
    assert check_version(version, [public(keys[0])]).ok


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda values: values.update(signature=base64.b64encode(b"1" * 64).decode()), "not a signature"),
        (lambda values: values.update(signature="AAAA"), "64"),
        (lambda values: values.update(signature=7), "cannot be read"),
        (lambda values: values.update(public_key="?"), "cannot be read"),
        (lambda values: values.update(public_key=base64.b64encode(b"\xff" * 32).decode()), "not a signature"),
        (lambda values: values.update(algorithm="none"), "'none'"),
        (lambda values: values.pop("format"), "cannot be read"),
    ],
)
def test_a_damaged_signature_is_refused(version, keys, change, says):
    rewrite(version / SIGNATURE, change)
    for trusted in ([public(keys[0])], None):
        (problem,) = check_version(version, trusted).problems
        assert says in problem


def test_a_signature_of_another_version_does_not_pass(parts, version, keys):
    parts.export(version.parents[1], warmup_rows=0)
    shutil.copy(version / SIGNATURE, version.parent / "2")
    assert f"{SIGNATURE}: not a signature of this manifest" in check_version(version.parent / "2").problems


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "x" * 20_000, "[]", '{"format": 1}'])
def test_a_signature_that_is_none_is_refused(version, text):
    (version / SIGNATURE).write_text(text)
    assert "cannot be read" in check_version(version).problems[0]


def test_a_signature_that_is_a_link_is_refused(version, tmp_path):
    shutil.move(version / SIGNATURE, tmp_path / "elsewhere")
    (version / SIGNATURE).symlink_to(tmp_path / "elsewhere")
    assert any("symbolic link" in problem for problem in check_version(version).problems)


def test_a_private_key_is_its_owners_alone(keys, tmp_path):
    assert stat.S_IMODE(keys[0].stat().st_mode) == 0o600
    loose = tmp_path / "loose"
    shutil.copy(keys[0], loose)
    loose.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        signing.private_key({signing.KEY_FILE: str(loose)})
    with pytest.raises(ConfigError, match="never overwritten"):
        signing.create(keys[0])


def test_a_key_comes_from_the_environment(keys):
    pem = keys[0].read_text()
    key = signing.private_key({signing.KEY: pem})
    assert key.public_key().public_bytes_raw() == public(keys[0]).raw
    for environment in ({}, {signing.KEY: pem, signing.KEY_FILE: str(keys[0])}):
        with pytest.raises(ConfigError, match="mews keys create"):
            signing.private_key(environment)


@pytest.mark.parametrize("text", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused_without_being_shown(text, tmp_path):
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="Ed25519 key as PEM") as caught:
        signing.private_key({signing.KEY_FILE: str(file)})
    assert "AAAA" not in str(caught.value)
    with pytest.raises(ConfigError, match="public Ed25519 key"):
        PublicKey.read(file)


def test_another_kind_of_key_is_refused(tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ConfigError, match="Ed25519"):
        signing.private_key({signing.KEY: pem.decode()})


def test_a_server_that_trusts_keys_takes_only_signed_versions(parts, version, keys):
    repository = version.parents[1]
    config = ServeConfig(trusted_keys=[keys[0].with_name("ours.pub")])
    with TritonServer(repository, config, ["shop"]) as server:
        assert server.running
    parts.export(repository, warmup_rows=0)  # version 2, which serves now, has no signature
    with pytest.raises(ArtifactError, match="shop/2 is not what was exported"):
        TritonServer(repository, config, ["shop"]).start()
    sign(version.parent / "2", keys[1])
    with pytest.raises(ArtifactError, match="not trusted"):
        TritonServer(repository, config, ["shop"]).start()


def test_a_server_refuses_a_changed_version_also_without_keys(version):
    model = version.parents[1] / "shop_model_1" / "1" / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(ArtifactError, match=r"shop_model_1/1/model.onnx: changed"):
        TritonServer(version.parents[1], models=["shop"]).start()


def test_a_model_that_nobody_signed_is_refused(version, keys):
    repository, trusted = version.parents[1], [public(keys[0])]
    assert len(check_models(repository, None, trusted)) == 1
    shutil.copytree(repository / "shop_model_1", repository / "stranger")
    assert check_models(repository, ["shop"], trusted)[0].ok
    for models in (None, ["shop", "stranger"]):
        with pytest.raises(ArtifactError, match=r"'stranger'.*is of no exported version"):
            check_models(repository, models, trusted)
    assert check_models(repository, ["stranger"]) == []


def test_a_file_that_is_swapped_after_the_check_is_seen(version):
    checked = check_version(version)
    assert checked.changed() == []
    model = version.parents[1] / "shop_model_1" / "1" / "model.onnx"
    found = model.stat()
    text = model.read_bytes()
    model.write_bytes(text)  # the same bytes, and the old time
    os.utime(model, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert checked.changed() == [f"{model}: changed after it was checked"]


def test_an_export_signs_what_it_writes(parts, keys, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="a key to sign with"):
        parts.export(tmp_path / "models", sign=True)
    assert not (tmp_path / "models").exists()
    monkeypatch.setenv(signing.KEY_FILE, str(keys[0]))
    done = parts.export(tmp_path / "models", sign=True)
    assert check_version(done.folder, [public(keys[0])]).signed_by == public(keys[0]).id

import json
import shutil
from pathlib import Path

import pytest

from ensemble.manifest import load, verify
from etl.errors import ArtifactError


@pytest.fixture(scope="module")
def exported(parts, tmp_path_factory) -> Path:
    repository = tmp_path_factory.mktemp("exported")
    parts.export(repository, warmup_rows=2)
    return repository


@pytest.fixture
def repository(exported, tmp_path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def edit(repository: Path, change) -> None:
    path = repository / "shop" / "1" / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_the_manifest_says_what_the_version_is(exported, parts):
    manifest = load(exported / "shop" / "1")
    assert (manifest.name, manifest.version, manifest.fused) == ("shop", 1, False)
    assert manifest.models == ("shop_features_1", "shop_model_1")
    assert manifest.fingerprint == "f" * 64
    assert manifest.request == parts.schema
    assert manifest.metrics == {"auc": 0.75}
    assert manifest.response == {"name": "score", "dtype": "float32", "dims": [1]}
    assert {"onnx", "onnxruntime", "polars"} <= set(manifest.packages)
    assert manifest.created.endswith("+00:00")


def test_every_file_is_in_it_and_it_verifies(exported):
    found = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    listed = set(load(exported / "shop" / "1").files)
    assert found - listed == {".lock", "shop/config.pbtxt", "shop/1/manifest.json"}
    checked = verify(exported / "shop" / "1")
    assert checked.ok
    assert checked.files == len(listed) >= 10
    checked.raise_if_failed()


def test_json_keys_are_stable(exported):
    values = json.loads((exported / "shop" / "1" / "manifest.json").read_text())
    assert list(values) == (
        "format name version created models fingerprint fused request response metrics packages files".split()  # noqa: SIM905
    )
    assert values["format"] == 1
    assert values["request"][3] == {
        "name": "tags",
        "dtype": "string",
        "is_list": True,
        "length": None,
        "nullable": True,
    }
    assert set(values["files"]["shop_model_1/1/model.onnx"]) == {"sha256", "size"}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def link(path: Path) -> None:
    target = path.with_name("elsewhere")
    shutil.copy(path, target.parent.parent / "elsewhere")
    path.unlink()
    path.symlink_to(target.parent.parent / "elsewhere")


@pytest.mark.parametrize(
    ("file", "damage", "problem"),
    [
        ("shop_model_1/1/model.onnx", flip, "shop_model_1/1/model.onnx: changed"),
        ("shop_model_1/1/model.onnx", Path.unlink, "shop_model_1/1/model.onnx: missing"),
        ("shop_features_1/warmup/row0.0.raw", lambda path: path.write_bytes(b""), "row0.0.raw: changed"),
        ("shop_model_1/1/model.onnx", link, "shop_model_1/1/model.onnx is a symbolic link"),
        (
            "shop_model_1/2/model.onnx",
            lambda path: (path.parent.mkdir(), path.touch()),
            "model.onnx: not in the manifest",
        ),
        ("shop/1/extra", Path.touch, "shop/1/extra: not in the manifest"),
        ("shop/configs/1.pbtxt", flip, "shop/configs/1.pbtxt: changed"),
        ("shop/config.pbtxt", flip, "shop/config.pbtxt: not the configuration of any exported version"),
        ("shop/config.pbtxt", Path.unlink, "shop/config.pbtxt: missing"),
        ("shop_model_1/x", lambda path: path.symlink_to("/etc"), "shop_model_1/x: not in the manifest"),
    ],
)
def test_a_damaged_version_is_refused(repository, file, damage, problem):
    damage(repository / file)
    checked = verify(repository / "shop" / "1")
    assert not checked.ok
    assert any(problem in each for each in checked.problems), checked.problems
    with pytest.raises(ArtifactError, match="is not what was exported"):
        checked.raise_if_failed()


def test_a_composing_folder_that_is_a_link_is_refused(repository, tmp_path):
    shutil.move(repository / "shop_model_1", tmp_path / "moved")
    (repository / "shop_model_1").symlink_to(tmp_path / "moved")
    assert "shop_model_1: a symbolic link" in verify(repository / "shop" / "1").problems


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "shop/../../outside", "a\\..\\b"])
def test_paths_that_leave_the_repository_are_refused(repository, path):
    edit(repository, lambda values: values["files"].update({path: {"sha256": "0", "size": 0}}))
    assert f"{path}: leaves the repository" in verify(repository / "shop" / "1").problems
    edit(repository, lambda values: values["models"].append(path))
    assert f"{path}: leaves the repository" in verify(repository / "shop" / "1").problems


def test_the_manifest_of_another_version_is_refused(repository):
    edit(repository, lambda values: values.update(version=2))
    assert "the manifest is of shop version 2" in verify(repository / "shop" / "1").problems


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 1, "name"', "cannot be read"),
        ('{"format": 2}', "format 2, this version reads 1"),
        ('{"format": 1}', "cannot be read"),
        ("[]", "cannot be read"),
    ],
)
def test_a_manifest_that_is_none_is_refused(repository, text, message):
    (repository / "shop" / "1" / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        verify(repository / "shop" / "1")


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="not a version that Mews exported"):
        verify(tmp_path)

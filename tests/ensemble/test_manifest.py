import contextlib
import json
import os
import shutil
import socket
from pathlib import Path

import onnx
import pytest

from ensemble.graphs.outline import outline
from ensemble.hashing import hash_files
from ensemble.manifest import load
from ensemble.verification import check_version as verify
from etl.errors import ArtifactError
from tests.pickles import pickles_below


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
    assert (manifest.name, manifest.version, manifest.shape) == ("shop", 1, "chained")
    assert manifest.models == ("shop_features_1", "shop_model_1")
    assert manifest.fingerprint == "f" * 64
    assert manifest.request == parts.schema
    assert manifest.metrics == {"auc": 0.75}
    assert manifest.response == {"outputs": [{"name": "score", "dtype": "float32", "dims": [1]}]}
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


def test_no_file_is_a_pickle(exported):
    assert list(pickles_below(exported)) == []


def test_json_keys_are_stable(exported):
    values = json.loads((exported / "shop" / "1" / "manifest.json").read_text())
    assert list(values) == (
        "format name version created models fingerprint shape request response about metrics packages files".split()  # noqa: SIM905
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


def second_name(path: Path) -> None:
    os.link(path, path.parents[2] / "second")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def listening(path: Path) -> None:
    path.unlink()
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (second_name, "has a second name (hard link)"),
        (pipe, "not a regular file"),
        (listening, "not a regular file"),
        (lambda path: (path.unlink(), path.mkdir()), "not a regular file"),
    ],
    ids=["hard link", "pipe", "socket", "folder"],
)
def test_a_file_that_is_not_simply_a_file_is_refused(repository, damage, problem):
    damage(repository / "shop_model_1" / "1" / "model.onnx")
    problems = verify(repository / "shop" / "1").problems
    assert any(problem in each for each in problems), problems


@pytest.mark.parametrize("file", ["shop/1/manifest.json", "shop/config.pbtxt"])
def test_a_second_name_of_what_no_manifest_names_is_refused(repository, file):
    os.link(repository / file, repository / "second")
    (problem,) = verify(repository / "shop" / "1").problems
    assert problem.startswith(f"{file}: has a second name")


def test_a_folder_that_triton_would_take_for_a_version_is_refused(repository):
    (repository / "shop_model_1" / "2").mkdir()
    assert verify(repository / "shop" / "1").problems == ("shop_model_1/2: not in the manifest",)


def again(repository: Path, path: str) -> None:
    """Put a changed file into the manifest, as somebody would who may write everything."""
    record = hash_files([repository / path])[0]
    edit(repository, lambda values: values["files"].update({path: vars(record)}))


def test_a_config_of_another_fingerprint_name_or_model_is_refused(repository):
    path = "shop/configs/1.pbtxt"
    text = (repository / path).read_text()
    (repository / path).write_text(text.replace("f" * 64, "e" * 64).replace("shop_model_1", "another_model_1"))
    again(repository, path)
    problems = verify(repository / "shop" / "1").problems
    assert f"{path}: fingerprint {'e' * 64}, the manifest has {'f' * 64}" in problems
    assert f"{path}: runs 'another_model_1', which is not of this version" in problems
    path = "shop_model_1/config.pbtxt"
    (repository / path).write_text((repository / path).read_text().replace('"shop_model_1"', '"other"'))
    again(repository, path)
    assert f"{path}: it is the configuration of 'other'" in verify(repository / "shop" / "1").problems


def test_a_graph_of_another_fingerprint_is_refused(repository, parts):
    path = "shop_model_1/1/model.onnx"
    onnx.save(parts.model_graph(fingerprint="d" * 64), repository / path)
    again(repository, path)
    assert verify(repository / "shop" / "1").problems == (
        f"{path}: fingerprint {'d' * 64}, the manifest has {'f' * 64}",
    )


@pytest.mark.parametrize("location", ["../../../secret", "/etc/passwd", "weights.bin"])
@pytest.mark.parametrize("inside", [False, True], ids=["weights", "a branch"])
def test_a_graph_that_reads_another_file_is_refused(repository, parts, location, inside):
    path = "shop_model_1/1/model.onnx"
    graph = parts.model_graph()
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    if inside:
        branch = onnx.helper.make_graph([], "branch", [], [], [tensor])
        graph.graph.node.append(onnx.helper.make_node("If", ["c"], [], then_branch=branch, else_branch=branch))
    else:
        graph.graph.initializer.append(tensor)
    (repository / path).write_bytes(graph.SerializeToString())
    again(repository, path)
    assert verify(repository / "shop" / "1").problems == (
        f"{path}: reads {location!r}, which is no file of this version",
    )


@pytest.mark.parametrize("text", [b"", b"\xff" * 50, b"\x3a\xff\xff\xff\xff\x0f", b"\x3a\x05hello location"])
def test_a_graph_that_is_none_is_refused(repository, text):
    path = "shop_model_1/1/model.onnx"
    (repository / path).write_bytes(text)
    again(repository, path)
    problems = verify(repository / "shop" / "1").problems
    assert not text or any("is not a valid ONNX graph" in problem for problem in problems), problems


def test_the_outline_of_a_graph_is_what_onnx_reads(parts):
    found, model = outline(parts.workflow), onnx.load(parts.workflow)
    assert found.metadata == {prop.key: prop.value for prop in model.metadata_props}
    assert found.opsets == {opset.domain: opset.version for opset in model.opset_import}
    assert found.files == frozenset()


def test_a_file_of_another_model_is_not_of_this_version(repository):
    (repository / "other").mkdir()
    (repository / "other" / "file").write_text("x")
    again(repository, "other/file")
    assert verify(repository / "shop" / "1").problems == ("other/file: is in no folder of this version",)


@pytest.mark.timeout(20)
def test_a_pipe_among_the_configs_holds_nobody_up(repository):
    os.mkfifo(repository / "shop" / "configs" / "9.pbtxt")
    assert verify(repository / "shop" / "1").ok
    (repository / "shop" / "config.pbtxt").unlink()
    os.mkfifo(repository / "shop" / "config.pbtxt")
    assert any("shop/config.pbtxt: missing, or no file" in each for each in verify(repository / "shop" / "1").problems)


def test_labels_are_no_change_and_anything_else_beside_them_is(repository):
    config = repository / "shop" / "config.pbtxt"
    text = config.read_text()
    label = 'parameters { key: "mews.canary" value { string_value: "{}" } }\n'
    config.write_text(text + label)
    assert verify(repository / "shop" / "1").ok
    for more in (
        "max_batch_size: 7\n",
        label.replace("mews.canary", "other"),
        label.replace("mews.canary", "mews.request"),
    ):
        config.write_text(text + label + more)
        assert not verify(repository / "shop" / "1").ok


def test_a_composing_folder_that_is_a_link_is_refused(repository, tmp_path):
    shutil.move(repository / "shop_model_1", tmp_path / "moved")
    (repository / "shop_model_1").symlink_to(tmp_path / "moved")
    assert "shop_model_1: a symbolic link" in verify(repository / "shop" / "1").problems


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "shop/../../outside", "a\\..\\b"])
def test_paths_that_leave_the_repository_are_refused(repository, path):
    edit(repository, lambda values: values["files"].update({path: {"sha256": "0" * 64, "size": 0}}))
    assert f"{path}: leaves the repository" in verify(repository / "shop" / "1").problems
    edit(repository, lambda values: values["models"].append(path))
    with pytest.raises(ArtifactError, match="is no name of a model"):
        verify(repository / "shop" / "1")


def test_the_manifest_of_another_version_is_refused(repository):
    edit(repository, lambda values: values.update(version=2))
    assert "the manifest is of shop version 2" in verify(repository / "shop" / "1").problems


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 1, "name"', "cannot be read"),
        ('{"format": 2}', "format 2, this version reads 1"),
        ('{"format": 1}', "cannot be read"),
        ("[]", "a JSON object"),
        ("[" * 100_000, "cannot be read"),
        ('{"format": 1, "name": "\\ud800"}', "cannot be read"),
        (" " * (16 * 2**20 + 1), "at most"),
    ],
    ids=["half", "format", "no fields", "list", "deep", "surrogate", "huge"],
)
def test_a_manifest_that_is_none_is_refused(repository, text, message):
    (repository / "shop" / "1" / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        verify(repository / "shop" / "1")


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="not a version that Mews exported"):
        verify(tmp_path)

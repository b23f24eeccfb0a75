import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ensemble.repository import activate, current, next_version, publish, versions, writing
from etl.errors import ArtifactError


def stage(staging: Path, version: int, models: tuple[str, ...]) -> None:
    for model in models:
        (staging / model / "1").mkdir(parents=True)
        (staging / model / "1" / "model.onnx").write_text(model)
    (staging / "shop" / str(version)).mkdir(parents=True)
    (staging / "shop" / str(version) / "manifest.json").write_text("{}")
    (staging / "shop" / "configs").mkdir()
    for path in (staging / "shop" / "config.pbtxt", staging / "shop" / "configs" / f"{version}.pbtxt"):
        path.write_text(f"version {version}")


def write(repository: Path) -> int:
    with writing(repository) as staging:
        version = next_version(repository, "shop")
        models = (f"shop_features_{version}", f"shop_model_{version}")
        stage(staging, version, models)
        publish(staging, repository, "shop", version, models)
    return version


def test_versions_count_up_and_the_newest_serves(tmp_path):
    repository = tmp_path / "models"
    assert (versions(tmp_path, "shop"), current(tmp_path, "shop")) == ([], None)
    assert [write(repository) for _ in range(3)] == [1, 2, 3]
    assert versions(repository, "shop") == [1, 2, 3]
    assert current(repository, "shop") == 3
    assert (repository / "shop_model_2" / "1" / "model.onnx").read_text() == "shop_model_2"


def test_only_the_repository_stays(tmp_path):
    write(tmp_path / "models")
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        ".lock",
        "shop",
        "shop_features_1",
        "shop_model_1",
    ]


def test_an_older_version_can_serve_again(tmp_path):
    write(tmp_path)
    write(tmp_path)
    activate(tmp_path, "shop", 1)
    assert current(tmp_path, "shop") == 1
    assert (tmp_path / "shop" / "config.pbtxt").read_text() == "version 1"
    with pytest.raises(ArtifactError, match=r"version 9.*expected one of 1, 2"):
        activate(tmp_path, "shop", 9)


@pytest.mark.parametrize("left", ["shop_features_5/1", "shop_fused_5", "shop/5", "shop/configs/5.pbtxt"])
def test_a_number_that_anything_uses_is_not_used_again(tmp_path, left):
    write(tmp_path)
    (tmp_path / left).mkdir(parents=True)
    (tmp_path / "other_features_9").mkdir()
    (tmp_path / "myshop_features_9").mkdir()
    assert write(tmp_path) == 6


def test_a_taken_name_is_never_overwritten(tmp_path):
    write(tmp_path)
    with writing(tmp_path) as staging:
        stage(staging, 1, ("shop_features_1",))
        with pytest.raises(ArtifactError, match="never overwritten"):
            publish(staging, tmp_path, "shop", 1, ("shop_features_1",))
    assert (tmp_path / "shop_features_1" / "1" / "model.onnx").read_text() == "shop_features_1"


def test_writers_wait_for_each_other_and_take_the_next_number(tmp_path):
    script = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from test_repository import write, Path; print(write(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "models"), str(Path.cwd()), str(Path(__file__).parent)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    numbers = sorted(int(process.communicate(timeout=60)[0]) for process in running)
    assert numbers == [1, 2, 3, 4]
    assert current(tmp_path / "models", "shop") == 4


def test_the_lock_is_held_while_writing(tmp_path):
    done = []
    with writing(tmp_path):
        thread = threading.Thread(target=lambda: done.append(write(tmp_path)))
        thread.start()
        time.sleep(0.2)
        assert not done
    thread.join(timeout=10)
    assert done == [1]


def test_what_a_killed_writer_left_is_removed(tmp_path):
    script = (
        "import sys, os; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "from ensemble.repository import writing\n"
        "with writing(Path(sys.argv[1])) as staging:\n    (staging / 'x').write_text('x'); os._exit(9)"
    )
    repository = tmp_path / "models"
    subprocess.run([sys.executable, "-c", script, str(repository), str(Path.cwd())], check=False, timeout=60)
    assert len(list(tmp_path.iterdir())) == 2
    write(repository)
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_repository_that_cannot_be_written_is_said_so(tmp_path):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(ArtifactError, match=r"cannot write to the model repository .*models.*Nothing that serves"):
        write(tmp_path / "models")


def test_a_repository_on_its_own_mount_is_staged_inside(tmp_path, monkeypatch):
    """What decides is whether a rename from outside can work; access() is how it is told here."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with writing(tmp_path / "models") as staging:
        assert staging.parent == tmp_path / "models"
    assert write(tmp_path / "models") == 1

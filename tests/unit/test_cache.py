"""Records of finished stages: what is kept, and what makes a stage run again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mews import cache


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run folder with a file and a folder of files."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "part_0.parquet").write_bytes(b"rows")
    (tmp_path / "profile.json").write_text("{}")
    return tmp_path


def written(root: Path) -> cache.Record:
    outputs = [root / "data", root / "profile.json", root / "was never made"]
    return cache.write(root / ".stages", "split", "key", outputs, root, {"rows": 3}, 1.5)


def test_a_record_is_read_as_it_was_written(root: Path) -> None:
    record = written(root)
    assert cache.read(root / ".stages", "split", root) == record
    assert (record.key, record.result, record.seconds) == ("key", {"rows": 3}, 1.5)
    assert set(record.outputs) == {"data/part_0.parquet", "profile.json"}


def test_a_run_folder_may_be_moved(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    record = written(root)
    moved = tmp_path_factory.mktemp("elsewhere") / "run"
    root.rename(moved)
    assert cache.read(moved / ".stages", "split", moved) == record


def test_there_is_no_record_before_the_stage_ran(root: Path) -> None:
    assert cache.read(root / ".stages", "split", root) is None


def test_an_output_that_changed_or_went_ends_the_record(root: Path) -> None:
    part = root / "data" / "part_0.parquet"
    for change in (lambda: part.write_bytes(b"more rows"), lambda: os.utime(part, ns=(1, 1)), part.unlink):
        written(root)
        assert cache.read(root / ".stages", "split", root) is not None
        change()
        assert cache.read(root / ".stages", "split", root) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"key": "k", "unknown": 1}'])
def test_a_damaged_record_is_no_record(root: Path, text: str) -> None:
    written(root)
    (root / ".stages" / "split.json").write_text(text)
    assert cache.read(root / ".stages", "split", root) is None


def test_forgetting_removes_the_record_only(root: Path) -> None:
    written(root)
    cache.forget(root / ".stages", "split")
    cache.forget(root / ".stages", "split")
    assert cache.read(root / ".stages", "split", root) is None
    assert (root / "data" / "part_0.parquet").exists()


def test_the_digest_says_content_not_time(root: Path) -> None:
    part = root / "data" / "part_0.parquet"
    before = written(root).digest
    os.utime(part, ns=(1, 1))
    assert written(root).digest == before
    part.write_bytes(b"ROWS")
    assert written(root).digest != before


def test_the_digest_of_files_knows_names_and_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    digests = {cache.digest_files(paths) for paths in ([a, b], [b, a], [a], [])}
    assert len(digests) == 4
    assert cache.digest_files([tmp_path]) == cache.digest_files([a, b])
    b.rename(tmp_path / "c")
    assert cache.digest_files([tmp_path]) not in digests


def test_the_digest_of_values_does_not_hang_on_the_order_of_keys() -> None:
    assert cache.digest_of({"a": 1, "b": [2, Path("x")]}) == cache.digest_of({"b": [2, "x"], "a": 1})
    assert cache.digest_of({"a": 1}) != cache.digest_of({"a": 2})


def test_changed_code_has_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_ROOT", tmp_path)
    for package in ("one", "two"):
        (tmp_path / package / "inner").mkdir(parents=True)
        (tmp_path / package / "inner" / "module.py").write_text("x = 1\n")

    def digest(*packages: str) -> str:
        cache.digest_code.cache_clear()
        return cache.digest_code(*packages)

    try:
        before, both = digest("one"), digest("one", "two")
        (tmp_path / "two" / "inner" / "module.py").write_text("x = 2\n")
        assert digest("one") == before
        assert digest("one", "two") != both
        (tmp_path / "one" / "notes.txt").write_text("no code")
        assert digest("one") == before
        (tmp_path / "one" / "new.py").touch()
        assert digest("one") != before
    finally:
        cache.digest_code.cache_clear()


def test_a_record_is_json_that_people_can_read(root: Path) -> None:
    written(root)
    found = json.loads((root / ".stages" / "split.json").read_text())
    assert set(found) == {"key", "digest", "outputs", "result", "seconds"}
    assert [path.name for path in (root / ".stages").iterdir()] == ["split.json"]

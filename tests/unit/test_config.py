from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from etl.errors import ConfigError
from mews.config import PipelineConfig, dump, json_schema, load


def _write(folder: Path, text: str) -> Path:
    path = folder / "pipeline.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_shown_reads_back_to_the_same_configuration(tmp_path: Path) -> None:
    config = load(None, ["model.name=dcn_v2", "data.rows=10"])
    assert load(_write(tmp_path, dump(config))) == config


def test_every_key_is_shown_and_described() -> None:
    shown = yaml.safe_load(dump(PipelineConfig()))
    schema = json_schema()
    assert list(shown) == list(schema["properties"])
    undescribed = [
        f"{name}.{key}"
        for name, section in schema["$defs"].items()
        for key, value in section["properties"].items()
        if "description" not in value
    ]
    assert undescribed == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("modle: {name: dlrm}", "modle: unknown key; did you mean model?"),
        ("model: {learning_rat: 1}", "model.learning_rat: unknown key; did you mean learning_rate?"),
        ("data: {columns: {a: {rol: user}}}", "did you mean role?"),
        ("features: {chains: [{columns: [a], op: []}]}", "did you mean ops?"),
        ("model: {epochs: 0}", "model.epochs: input should be greater than or equal to 1; received 0"),
        ("bench: {protocols: [ftp]}", "expected http and grpc, received ftp"),
        ("- a\n- b", "expected keys and values; received list"),
        ("a: [", "expected YAML"),
    ],
)
def test_a_mistake_is_named_with_what_to_do(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(_write(tmp_path, text))
    assert says in str(caught.value)


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(_write(tmp_path, "model: {epochs: 0, nme: dlrm}\nsplit: {test: 2}"))
    assert "3 problem(s)" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing there"):
        load(tmp_path / "absent.yaml")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load(_write(tmp_path, "data: {source: table, path: rows.csv}\nfeatures: {workflow: 'w.py:build'}"))
    assert config.data.path == tmp_path / "rows.csv"
    assert config.features.workflow == f"{tmp_path}/w.py:build"


def test_a_path_in_an_override_is_relative_to_the_current_folder(tmp_path: Path) -> None:
    path = _write(tmp_path, "data: {source: table, path: rows.csv}")
    config = load(path, ["data.path=other.csv"])
    assert config.data.path == Path.cwd() / "other.csv"
    assert load(_write(tmp_path, dump(config))) == config


@pytest.mark.parametrize("override", ["model.epochs", "=3", "seed.x=1"])
def test_a_bad_override_is_refused(override: str) -> None:
    with pytest.raises(ConfigError):
        load(None, ["seed=3", override])

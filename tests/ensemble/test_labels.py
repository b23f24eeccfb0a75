from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from ensemble.labels import Canary, Labels, Switch, parse, render
from ensemble.repository import activate, current, labels_of
from etl.errors import ArtifactError
from tests.ensemble.conftest import Parts

FULL = Labels((1, 3), 4, Canary(5, 0.25), Switch(3, 4, "publish", (1,)))


@pytest.mark.parametrize("labels", [Labels(), FULL, Labels(canary=Canary(2, 0.1)), Labels(previous=(1,))])
def test_labels_come_back_as_they_were_written(labels: Labels) -> None:
    assert parse(render(labels)) == labels


def test_clients_find_the_canary_in_the_parameters() -> None:
    config = model_config_pb2.ModelConfig()
    text_format.Parse('name: "shop"\n' + render(FULL), config)
    assert config.parameters["mews.canary"].string_value == '{"version": 5, "share": 0.25}'


@pytest.mark.parametrize("text", ['string_value: "[1"', 'string_value: "{\\"share\\": 1}"'])
def test_labels_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match=r"labels in config\.pbtxt cannot be read"):
        parse(render(Labels(canary=Canary(2, 0.1))).replace(r'string_value: "{\"version\": 2, \"share\": 0.1}"', text))


def test_a_config_with_anything_but_labels_at_its_end_is_of_no_version(parts: Parts, tmp_path: Path) -> None:
    parts.export(tmp_path)
    activate(tmp_path, "shop", 1, FULL)
    assert (current(tmp_path, "shop"), labels_of(tmp_path, "shop")) == (1, FULL)
    with (tmp_path / "shop" / "config.pbtxt").open("a") as config:
        config.write("max_batch_size: 7\n")
    assert current(tmp_path, "shop") is None


def test_the_version_that_was_stable_is_the_previous_one_after_an_export(parts: Parts, tmp_path: Path) -> None:
    for _ in range(3):
        parts.export(tmp_path)
    assert (current(tmp_path, "shop"), labels_of(tmp_path, "shop").previous) == (3, (1, 2))

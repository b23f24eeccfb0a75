"""Learning rates by step."""

from __future__ import annotations

from typing import Any

import pytest

from training.config import TrainConfig
from training.schedules import factor

STEPS, EPOCHS = 10, 4


def rates(losses: tuple[float, ...] = (), **settings: Any) -> list[float]:
    config = TrainConfig(**settings)
    return [factor(config, step, STEPS, EPOCHS, losses) for step in range(STEPS * EPOCHS)]


def test_a_constant_rate_after_a_rise_of_so_many_steps() -> None:
    assert rates() == [1.0] * 40
    assert rates(warmup_steps=4)[:6] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_cosine_falls_from_one_by_the_middle_to_a_half_and_to_zero() -> None:
    found = rates(schedule="cosine")
    assert found[0] == 1.0
    assert found[20] == pytest.approx(0.5)
    assert found == sorted(found, reverse=True)
    assert 0 < found[-1] < 0.01
    assert rates(schedule="cosine", warmup_steps=5)[2] == pytest.approx(found[2] * 0.6)


def test_exponential_is_multiplied_over_each_epoch() -> None:
    found = rates(schedule="exponential", decay=0.5)
    assert [found[at] for at in (0, 10, 20, 30)] == pytest.approx([1, 0.5, 0.25, 0.125])
    assert found[5] == pytest.approx(0.5**0.5)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [((), 1.0), ((0.5, 0.4), 1.0), ((0.5, 0.6), 0.1), ((0.5, 0.6, 0.55), 0.01), ((0.5, 0.6, 0.4), 0.1)],
)
def test_plateau_is_multiplied_after_each_epoch_that_is_no_better(losses: tuple[float, ...], expected: float) -> None:
    assert rates(losses, schedule="plateau", decay=0.1)[0] == pytest.approx(expected)

"""Learning rates over the rounds: their shapes, their edges, and that a resumed run goes on where it was."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_flower.configs import ScheduleConfig, compose
from aegis_flower.configs.schedules import client_rate, factor, server_factor

KINDS = ("constant", "cosine", "linear", "step")


def rates(rounds: int, **options: object) -> list[float]:
    schedule = ScheduleConfig(**options)  # type: ignore[arg-type]
    return [factor(schedule, r, rounds) for r in range(1, rounds + 1)]


def test_a_cosine_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7, eta_min=0.1)
    expected = []
    for _ in range(7):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert rates(7, kind="cosine", floor=0.1) == pytest.approx(expected)


def test_steps_warm_up_and_a_straight_line() -> None:
    assert rates(6, kind="step", every=2, gamma=0.5) == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert rates(5, warmup=4) == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates(4, kind="linear") == pytest.approx([1, 0.75, 0.5, 0.25])
    assert rates(4, kind="linear", floor=0.5, warmup=1) == pytest.approx([1, 1, 5 / 6, 4 / 6])


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(KINDS), rounds=st.integers(1, 10**6), data=st.data(), floor=st.floats(0, 1),
    gamma=st.floats(1e-9, 1), every=st.integers(1, 10**6),
)  # fmt: skip
def test_a_factor_is_always_above_0_and_at_most_1(
    kind: str, rounds: int, data: st.DataObject, floor: float, gamma: float, every: int
) -> None:
    warmup = data.draw(st.integers(0, rounds - 1))
    round_ = data.draw(st.integers(-5, rounds + 5))
    found = factor(ScheduleConfig(kind, warmup, every, gamma, floor), round_, rounds)
    assert 0 < found <= 1


def test_both_sides_go_on_where_the_first_part_of_a_run_ended() -> None:
    moving = ["model.schedule.kind=cosine", "strategy=fedadam", "strategy.server_schedule.kind=linear"]
    whole = compose("quickstart", [*moving, "strategy.rounds=8"])
    rest = compose("quickstart", [*moving, "strategy.rounds=5", "strategy.rounds_before=3"])
    assert [client_rate(whole, r) for r in range(4, 9)] == [client_rate(rest, r) for r in range(1, 6)]
    assert [server_factor(whole, r) for r in range(4, 9)] == [server_factor(rest, r) for r in range(1, 6)]
    assert client_rate(whole, 1) == whole.model.learning_rate

"""Schedules: how a learning rate goes over the rounds of a run. Both sides compute it from the public number of the round."""

from __future__ import annotations

import math

from aegis_flower.configs.schema import Groups, ScheduleConfig


def factor(schedule: ScheduleConfig, round_: int, rounds: int) -> float:
    """The part of the full rate in a round, above 0 and at most 1.

    After the warm-up, ``cosine`` is that of `torch.optim.lr_scheduler.CosineAnnealingLR` with ``T_max`` = the rounds left
    (Loshchilov, Hutter 2017, eq. 5 without restarts): the first round has the full rate, the last is still above the floor.

    Args:
        schedule: its shape.
        round_: from 1; a number outside 1 to `rounds` counts as the nearest inside.
        rounds: of the whole run.
    """
    at = min(max(round_, 1), rounds)
    if at <= schedule.warmup:
        return at / schedule.warmup
    done, length = at - schedule.warmup - 1, max(1, rounds - schedule.warmup)
    if schedule.kind == "step":
        return float(schedule.gamma ** (done // schedule.every)) or math.ulp(0.0)
    if schedule.kind == "cosine":
        share = (1 + math.cos(math.pi * done / length)) / 2
    elif schedule.kind == "linear":
        share = 1 - done / length
    else:
        return 1.0
    return schedule.floor + (1 - schedule.floor) * share


def client_rate(cfg: Groups, round_: int) -> float:
    """The client's learning rate in a round."""
    return cfg.model.learning_rate * factor(cfg.model.schedule, *_of_run(cfg, round_))


def server_factor(cfg: Groups, round_: int) -> float:
    """The part of the server's learning rate in a round."""
    return factor(cfg.strategy.server_schedule, *_of_run(cfg, round_))


def _of_run(cfg: Groups, round_: int) -> tuple[int, int]:
    """Number of the round and number of rounds, both with those of the part that a resumed run goes on from."""
    before = cfg.strategy.rounds_before
    return before + round_, before + cfg.strategy.rounds

"""Checks of how a run goes: schedules, early stopping, partial participation, settings for clients, trackers, sweeps."""

from __future__ import annotations

import difflib
import math
import re
from typing import Any, Final

from aegis_flower.configs.rules import ROBUST, RULES
from aegis_flower.configs.schema import Groups, ScheduleConfig
from aegis_flower.errors import ConfigError

PUBLIC: Final = "public/"  # before the name of a number of `evaluation.server`
TRACKERS: Final = ("csv", "tensorboard", "mlflow", "wandb")
# What strategies send of their own accord: `client/round_config.py` has the same names, and a test that they are.
RESERVED: Final = frozenset(
    {"server-round", "round", "noise-multiplier", "proximal-mu", "features-sha256", "base-sha256"}
)
_CODE: Final = re.compile(r".+\.py(:[A-Za-z_]\w*)?|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*[.:][A-Za-z_]\w*")
_SETTINGS_MAX, _SETTING_MAX = 128, 4096


def falls(metric: str) -> bool:
    """Whether less of a metric is better, by its name."""
    return metric.endswith(("loss", "error"))


def check(cfg: Groups) -> None:
    """Refuses what contradicts itself.

    Raises:
        ConfigError: names the key and what to do.
    """
    _check_schedules(cfg)
    _check_early_stop(cfg)
    _check_fraction(cfg)
    _check_train_config(cfg)
    _check_code("evaluation.server", cfg.evaluation.server)
    _check_trackers(cfg)
    _check_objective(cfg)


def _check_schedules(cfg: Groups) -> None:
    rounds = cfg.strategy.rounds_before + cfg.strategy.rounds
    for path, schedule in (
        ("model.schedule", cfg.model.schedule),
        ("strategy.server_schedule", cfg.strategy.server_schedule),
    ):
        if schedule.warmup >= rounds:
            raise ConfigError(
                f"{path}.warmup", f"{schedule.warmup} rounds are no warm-up of a run of {rounds}; take fewer"
            )
    if cfg.strategy.server_schedule != ScheduleConfig() and RULES[cfg.strategy.name].rate is None:
        having = ", ".join(name for name, rule in RULES.items() if rule.rate is not None)
        raise ConfigError(
            "strategy.server_schedule",
            f"strategy={cfg.strategy.name} has no learning rate at the server, so a schedule would change nothing; take one of "
            f"{having}, or model.schedule for the clients",
        )


def _check_early_stop(cfg: Groups) -> None:
    metric = cfg.strategy.early_stop.metric
    if metric is None:
        return
    path = "strategy.early_stop.metric"
    if not metric.strip() or metric == PUBLIC:
        raise ConfigError(path, "must name a metric, such as accuracy or public/accuracy; null for none")
    if metric.startswith(PUBLIC):
        _check_public(cfg, path, metric)
    elif cfg.evaluation_rounds != "every":
        raise ConfigError(
            path,
            f"{metric} over held-out rows is measured in no round before the last (evaluation.rounds={cfg.evaluation.rounds}); "
            "set evaluation.rounds=every, which charges the held-out rows in every round, or stop on public/NAME of "
            "evaluation.server, which costs nothing",
        )


def _check_public(cfg: Groups, path: str, metric: str) -> None:
    if cfg.evaluation.server is None:
        raise ConfigError(path, f"{metric} needs a public test set: set evaluation.server")


def _check_fraction(cfg: Groups) -> None:
    """Refuses draws that would be no draw, and those whose sums would tell of single nodes.

    Sums over ever other subsets of the nodes are as many equations: numbers of a node that stay the same from round to round and
    enter without noise could be solved for.
    """
    part, a = cfg.strategy.fraction_train, cfg.secagg
    if part == 1:
        return
    path, drawn = "strategy.fraction_train", int(cfg.data.clients * part)
    if cfg.strategy.name in ROBUST or a.shard_size is not None:
        raise ConfigError(
            path,
            "groups of clients stay as they are for a run, and a draw would take them apart; leave it at 1 with "
            f"{'strategy=' + cfg.strategy.name if cfg.strategy.name in ROBUST else 'secagg.shard_size'}",
        )
    least = a.min_cohort if a.enabled else 1
    if cfg.runtime.kind != "deployment" and drawn < least:
        raise ConfigError(
            path,
            f"{part:g} of {cfg.data.clients} clients are {drawn}, fewer than the {least} that a sum is over"
            + (" (secagg.min_cohort); draw more, or take more clients" if a.enabled else "; draw more"),
        )
    if a.enabled and a.weighting == "rows":
        raise ConfigError(
            path,
            "with secagg.weighting=rows the sums of ever other nodes would tell each node's number of rows; take "
            "secagg.weighting=uniform",
        )
    if a.enabled and cfg.privacy.mode == "off" and cfg.evaluation_rounds == "every":
        raise ConfigError(
            path,
            "exact counts over the held-out rows of ever other nodes would tell each node's; take evaluation.rounds=last, which "
            "asks all of them, or never",
        )


def _check_train_config(cfg: Groups) -> None:
    path, given = "strategy.train_config", cfg.strategy.train_config
    if len(given) > _SETTINGS_MAX:
        raise ConfigError(path, f"has more than {_SETTINGS_MAX} settings")
    for name, value in given.items():
        if not name.isprintable() or not 0 < len(name) <= 256:  # noqa: PLR2004 - the client's own bound
            raise ConfigError(path, f"{name!r} is no name of a setting")
        if name in RESERVED:
            raise ConfigError(path, f"{name} is set by AEGIS itself; take another name")
        if not _is_setting(value):
            raise ConfigError(
                path, f"{name} must be a number, a text, a truth value, or a list of one of these (got {value!r:.80})"
            )
    if "lr" in given and cfg.model.schedule != ScheduleConfig():
        raise ConfigError(
            path, "lr goes before model.learning_rate, so model.schedule would change nothing; leave one out"
        )


def _is_setting(value: Any) -> bool:
    parts = value if isinstance(value, list) else [value]
    if not parts or len(parts) > _SETTING_MAX or len({type(part) for part in parts}) != 1:
        return False
    first = parts[0]
    if isinstance(first, str):
        return all(len(part) <= _SETTING_MAX and not any("\ud800" <= c <= "\udfff" for c in part) for part in parts)
    if isinstance(first, bool):
        return True
    if isinstance(first, int):
        return all(-(2**63) <= part < 2**63 for part in parts)
    return isinstance(first, float) and all(math.isfinite(part) for part in parts)


def _check_code(path: str, text: str | None) -> None:
    if text is not None and not _CODE.fullmatch(text):
        raise ConfigError(path, f"{text!r} names no code; write FILE.py:NAME or package.module:NAME, null for none")


def _check_trackers(cfg: Groups) -> None:
    path, named = "tracking.to", cfg.tracking.to
    for name in named:
        if name in TRACKERS:
            continue
        if not _CODE.fullmatch(name):
            close = difflib.get_close_matches(name, TRACKERS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(
                path, f"{name!r} is not one of {', '.join(TRACKERS)}, nor package.module:CLASS or FILE.py:CLASS{hint}"
            )
    if len(set(named)) != len(named):
        raise ConfigError(path, f"names a tracker twice (got {named!r})")


def _check_objective(cfg: Groups) -> None:
    metric, path = cfg.sweep.objective, "sweep.objective"
    if not metric.strip() or metric == PUBLIC:
        raise ConfigError(path, "must name a number of the report, such as accuracy, loss or public/accuracy")
    if metric.startswith(PUBLIC):
        _check_public(cfg, path, metric)
    elif metric not in ("accuracy", "loss"):
        raise ConfigError(path, f"{metric!r} is not one of accuracy, loss, public/NAME")
    if metric == "loss" and cfg.sweep.direction == "maximize":
        raise ConfigError("sweep.direction", "a loss is to be small: set sweep.direction=minimize")

"""Checks of a configuration: types, bounds, choices, and what must agree across groups. Each error names its key."""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Collection, Iterable
from typing import Any, Final

from aegis_flower import data
from aegis_flower.configs import training
from aegis_flower.configs.keys import keys, kind_name
from aegis_flower.configs.privacy_group import STEPS_MAX
from aegis_flower.configs.rules import ROBUST, RULES
from aegis_flower.configs.schema import Groups
from aegis_flower.errors import ConfigError
from aegis_flower.steps import Step

_TEXT_MAX, _NAME_MAX, _LAYERS_MAX, _RING_MAX = 4096, 200, 64, 64
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
KEYS: Final = {each.path: each for each in keys(Groups)}


def check(cfg: Groups) -> None:
    """Refuses a configuration that means nothing.

    Raises:
        ConfigError: names the key and what it must be.
    """
    _check_fields(cfg)
    _check_texts(cfg)
    _one_of(cfg, "strategy.name", RULES)
    for group in (
        _check_data,
        _check_model,
        _check_policy,
        _check_steps,
        _check_evaluation,
        _check_runtime,
        _check_secagg,
        _check_demands,
        training.check,
    ):
        group(cfg)


def parse_loss(text: str) -> tuple[int, int, str]:
    """Node number, round and step of a ``NODE@ROUND:STEP`` entry of ``runtime.lose``."""
    match = re.fullmatch(r"(\d+)@(\d+):(\w+)", text)
    if match is None or Step.named(match[3]) is None:
        raise ConfigError("runtime.lose", f"{text!r} is not NODE@ROUND:STEP with STEP one of {', '.join(Step)}")
    return int(match[1]), int(match[2]), match[3]


@functools.cache
def _checker() -> Any:
    """Pydantic's check of all fields. Loaded with the first configuration: not every process has one."""
    from pydantic import ConfigDict, TypeAdapter, with_config

    rules = ConfigDict(strict=True, revalidate_instances="always", allow_inf_nan=False)
    return TypeAdapter(with_config(rules)(Groups))


def _check_fields(cfg: Groups) -> None:
    """Each value is of its key's type, in its range, one of its names."""
    from pydantic_core import ValidationError

    try:
        _checker().validate_python(cfg)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        parts = [str(part) for part in found["loc"] if not isinstance(part, int)]
        path = next((p for n in range(len(parts), 0, -1) if (p := ".".join(parts[:n])) in KEYS), ".".join(parts))
        raise _refusal(cfg, path, found["type"]) from None


def _refusal(cfg: Groups, path: str, kind: str) -> ConfigError:
    """What pydantic found at a key, in our words."""
    value, key = _value(cfg, path), KEYS.get(path)
    if key is None:
        return ConfigError(path, f"{value!r} is no group of keys")
    if kind == "literal_error" and isinstance(value, str):
        return _no_name(path, value, key.names)
    if kind == "string_unicode":
        return ConfigError(path, "is not valid Unicode")
    if kind.startswith(("greater_than", "less_than")):
        return ConfigError(path, f"{key.within} (got {value!r})")
    return ConfigError(path, f"{value!r} is no {'finite ' if key.kind is float else ''}{kind_name(key.kind)}")


def _value(cfg: Groups, path: str) -> Any:
    value: Any = cfg
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _require(cfg: Groups, path: str, ok: bool, problem: str) -> None:
    if not ok:
        raise ConfigError(path, f"{problem} (got {_value(cfg, path)!r})")


def _one_of(cfg: Groups, path: str, names: Iterable[str]) -> None:
    value, known = _value(cfg, path), list(names)
    if value not in known:
        raise _no_name(path, value, known)


def _no_name(path: str, value: Any, known: Collection[str]) -> ConfigError:
    close = difflib.get_close_matches(str(value), known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return ConfigError(path, f"{value!r} is not one of {', '.join(known)}{hint}")


def _check_data(cfg: Groups) -> None:
    plan, table = cfg.data.features, cfg.data.name == data.TABLE
    _require(
        cfg,
        "data.features",
        not table or plan is not None,
        "data=table needs a plan: its name, or the path of its file",
    )
    _require(cfg, "data.features", table or plan is None, "a feature plan goes with data=table")


def _check_model(cfg: Groups) -> None:
    m = cfg.model
    _require(cfg, "model.hidden", len(m.hidden) <= _LAYERS_MAX, f"has more than {_LAYERS_MAX} layers")
    _require(
        cfg,
        "model.hidden",
        m.kind != "mlp" or bool(m.hidden),
        "an mlp needs at least one hidden layer, such as [32]",
    )
    _require(
        cfg,
        "model.device",
        re.fullmatch(r"auto|[a-z]+(:\d{1,3})?", m.device) is not None,
        "must be auto or a device of torch, such as cpu or cuda:0",
    )


def _check_policy(cfg: Groups) -> None:
    p = cfg.policy
    _require(cfg, "policy.purpose", bool(p.purpose.strip()), "must not be empty")
    _require(cfg, "policy.bundle", bool(p.bundle.strip()), "must not be empty")
    _require(
        cfg,
        "policy.granted_purposes",
        bool(p.granted_purposes) and all(x.strip() for x in p.granted_purposes),
        "must name at least one purpose, none of them empty",
    )
    _require(
        cfg,
        "policy.columns",
        p.columns is None or (bool(p.columns) and all(p.columns)),
        "must name at least one column, none of them empty; null for every approved one",
    )


def _check_steps(cfg: Groups) -> None:
    _require(
        cfg,
        "privacy.steps_per_round",
        cfg.total_steps <= STEPS_MAX,
        f"makes {cfg.total_steps} steps over strategy.rounds={cfg.strategy.rounds}, more than a ledger takes",
    )


def _check_evaluation(cfg: Groups) -> None:
    e = cfg.evaluation
    names = e.metrics or []
    _require(cfg, "evaluation.metrics", len(set(names)) == len(names) and all(names), "names one twice, or none")
    _require(
        cfg,
        "evaluation.groups",
        len(set(e.groups)) == len(e.groups) and all(e.groups),
        "are different from each other, and none is empty",
    )
    if e.group is None:
        _require(cfg, "evaluation.groups", not e.groups, "is the vocabulary of evaluation.group, which is null")
        return
    _require(cfg, "evaluation.group", cfg.data.name == data.TABLE, "is a column of a table: it goes with data=table")
    _require(cfg, "evaluation.groups", bool(e.groups), f"must name the values of {e.group!r} that are told apart")


def _check_runtime(cfg: Groups) -> None:
    for text in cfg.runtime.lose:
        parse_loss(text)


def _check_secagg(cfg: Groups) -> None:
    a = cfg.secagg
    _require(
        cfg,
        "secagg.sparse",
        a.sparse is None or len(a.sparse) == len(("colluding", "lost")),
        "must be two percentages below 50, colluding and lost, such as [10,10]; null for a complete graph",
    )
    _require(
        cfg,
        "secagg.shard_size",
        a.shard_size is None or a.shard_size >= a.min_cohort,
        f"must be secagg.min_cohort={a.min_cohort} or more, the fewest clients a sum may be over; null for one sum",
    )
    if a.enabled and cfg.runtime.kind != "deployment" and cfg.data.clients < a.min_cohort:
        raise ConfigError(
            "data.clients", f"{cfg.data.clients} clients cannot form the cohort of secagg.min_cohort={a.min_cohort}"
        )
    if a.enabled:
        _check_sums(cfg)


def _check_demands(cfg: Groups) -> None:
    """What the run does, against what the data's policy demands."""
    g, p = cfg.privacy, cfg.policy
    if g.on and g.noise == "insecure_test" and p.require_dp:
        raise ConfigError("privacy.noise", "insecure_test noise protects nobody; it needs policy.require_dp=false")
    if g.whole and cfg.secagg.weighting == "rows":
        raise ConfigError(
            "secagg.weighting",
            f"rows tells how many rows a node has, which privacy.mode={g.mode} hides; take secagg.weighting=uniform",
        )
    if g.mode == "off" and p.require_dp:
        raise ConfigError("privacy.mode", "the data's policy requires DP; policy.require_dp=false lifts that")
    if not cfg.secagg.enabled and p.require_secure_aggregation:
        raise ConfigError(
            "secagg.enabled",
            "the data's policy requires secure aggregation; policy.require_secure_aggregation=false lifts that",
        )


def _check_texts(cfg: Groups) -> None:
    """Texts hold no control characters and are no books; the run's name becomes a folder's."""
    for path in KEYS:
        value = _value(cfg, path)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and (len(text) > _TEXT_MAX or _CONTROL.search(text)):
                raise ConfigError(path, f"has a control character, or more than {_TEXT_MAX} characters")
            if isinstance(text, str) and _SURROGATE.search(text):
                raise ConfigError(path, "is not valid Unicode")
    if not cfg.name.strip() or "/" in cfg.name or cfg.name in (".", "..") or len(cfg.name.encode()) > _NAME_MAX:
        raise ConfigError("name", f"{cfg.name!r} cannot name a folder: no slash, not empty, at most 200 bytes")
    for path, text in (
        ("data.path", cfg.data.path),
        ("data.features", cfg.data.features),
        ("vault.root", cfg.vault.root),
        ("tracking.folder", cfg.tracking.folder),
    ):
        if text is not None and not text.strip():
            raise ConfigError(path, "must not be empty; null for none")


def _check_sums(cfg: Groups) -> None:
    """Refuses what no ring holds, and groups that cannot be."""
    a, s, clients = cfg.secagg, cfg.strategy, cfg.data.clients
    weight = a.weight_max if a.weighting == "rows" else 1
    bits = math.ceil(math.log2((2 ** (a.value_bits - 1) - 1) * weight * max(clients, 2))) + 1
    if bits > _RING_MAX:
        raise ConfigError(
            "secagg.value_bits",
            f"the sum of {clients} clients needs {bits} bits, and no ring has more than 64; lower secagg.value_bits or "
            "secagg.weight_max",
        )
    if s.name not in ROBUST:
        return
    if a.shard_size is not None:
        raise ConfigError("secagg.shard_size", f"strategy={s.name} has groups of its own: set strategy.group_size")
    if s.group_size < a.min_cohort:
        raise ConfigError(
            "strategy.group_size",
            f"groups of {s.group_size} are below secagg.min_cohort={a.min_cohort}, the fewest clients a sum may be over",
        )
    groups = clients // s.group_size
    rule = RULES[s.name].least_groups
    least = rule(s.malicious) if rule else 1
    if cfg.runtime.kind != "deployment" and groups < max(2, least):
        raise ConfigError(
            "data.clients",
            f"{clients} clients make {groups} groups of {s.group_size}; {s.name} needs {max(2, least)} to bear "
            f"strategy.malicious={s.malicious}",
        )

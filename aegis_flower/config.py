"""Configuration: frozen dataclasses, composed by Hydra, validated once.

`PrivacyConfig` and `StrategyConfig.rounds` change the privacy guarantee; `RuntimeConfig` and `TrackingConfig` never do.
The same composition runs on the command line (`aegis run`) and inside a Flower App (`compose` with the experiment's name
and the overrides that the run config carries).
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import difflib
import hashlib
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from aegis_flower.choices import BOUNDS, LOSS_STEPS, OPTIMISERS, ROBUST, STRATEGIES
from aegis_flower.errors import AegisError, ConfigError

CONFIG_MODULE = "aegis_flower.configs"
# What a run config carries: the resolved configuration, as text that Flower's own forms cannot bend.
CARRIED = "aegis-config"
_TEXT_MAX = 4096
__all__ = ["OPTIMISERS", "ROBUST", "Config", "compose", "from_dict"]


@dataclass(frozen=True)
class DataConfig:
    """Which data, and how a simulation splits it over its nodes."""

    name: str = "breast_cancer"
    clients: int = 5
    partition: str = "dirichlet"  # dirichlet | iid
    alpha: float = 1.0  # Dirichlet concentration over labels; smaller is less alike
    holdout: float = 0.2  # fraction of each node's rows that is only evaluated on
    limit: int | None = None  # rows used of the source, for quick trials
    path: str | None = None  # folder of the IDX files (fashion_mnist)
    withdrawn: float = 0.05  # fraction of subjects who withdrew their consent before the run


@dataclass(frozen=True)
class ModelConfig:
    """The model and its local optimiser."""

    kind: str = "logistic"  # logistic | mlp | cnn
    hidden: list[int] = field(default_factory=list)
    learning_rate: float = 0.5
    momentum: float = 0.0
    device: str = "auto"
    physical_batch: int = 256  # records whose gradients are in memory at once; changes no result


@dataclass(frozen=True)
class VaultConfig:
    """Where a simulation keeps its nodes' vaults. A SuperNode's operator names his own in the node config."""

    root: str | None = None  # None: a folder of the run


@dataclass(frozen=True)
class PolicyConfig:
    """What the run asks for, and what a simulation's data stewards grant at ingest."""

    bundle: str = "core"
    purpose: str = "research"  # asked for by the run
    columns: list[str] | None = None  # asked for by the run; None: every approved column
    granted_purposes: list[str] = field(default_factory=lambda: ["research"])
    basis: str = "consent"
    retention_days: int = 365
    min_rows: int = 16
    min_subjects: int = 10
    budget_epsilon: float = 10.0
    delta: float = 1e-5  # largest δ the steward allows; the ledger accounts at it
    require_dp: bool = True
    require_secure_aggregation: bool = True
    permit_minutes: float = 10.0


@dataclass(frozen=True)
class PrivacyConfig:
    """Example-level differential privacy (DP-SGD). Every field changes the guarantee."""

    mode: str = "example"  # example | off
    epsilon: float = 3.0
    delta: float = 1e-5
    clip: float = 1.0  # L2 bound of one record's gradient
    sample_rate: float = 0.25  # Poisson: each record joins a step with this probability
    steps_per_round: int = 4
    expected_batch: float = 32.0  # public divisor of each step's noised sum; never taken from the rows there are
    noise_multiplier: float | None = None  # None: calibrated from epsilon, delta, sample_rate and the run's steps
    noise: str = "secure"  # secure | insecure_test (stamped NOT PRIVATE)


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation on held-out rows: a mechanism of its own, charged to the holdout's own ledger."""

    rounds: str = "auto"  # last | every | never | auto: every where privacy.mode=off, last otherwise
    epsilon: float = 3.0  # ε of one evaluation
    loss_max: float = 10.0  # a record's loss counts as at most this
    histograms: bool = False  # two histograms of confidence as well, which cost noise


@dataclass(frozen=True)
class SecaggConfig:
    """Secure aggregation: profile S, or D where `sparse` is set."""

    enabled: bool = True
    value_bits: int = 20
    min_cohort: int = 3  # fewest clients a client masks with
    weighting: str = "uniform"  # uniform | rows (row counts then enter the sum, without noise)
    weight_max: int = 65536
    commit: bool = False  # survivors are signed before they are unmasked: one trip more a round
    sparse: list[int] | None = None  # percent colluding, percent lost, for cohorts of hundreds to thousands
    shard_size: int | None = None  # clients of a shard that is summed by itself; null: one sum over all


@dataclass(frozen=True)
class StrategyConfig:
    """The server's optimiser around the securely summed mean."""

    name: str = "fedavg"  # fedavg | fedavgm | fedadam | fedyogi | fedprox; over groups: see ROBUST
    rounds: int = 10
    max_norm: float = 4.0  # L2 bound of one client's update: clipped by the engine, checked by the gate
    server_learning_rate: float | None = None
    proximal_mu: float = 0.0
    group_size: int = 8  # clients of a group, for the robust rules over groups
    malicious: int = 1  # false clients that a robust rule must bear


@dataclass(frozen=True)
class RuntimeConfig:
    """Where the apps run. Nothing here changes a privacy guarantee."""

    kind: str = "inprocess"  # inprocess | ray | deployment
    workers: int = 0  # 0: chosen by the number of cores
    round_deadline: float = 120.0  # seconds a message may take
    join_deadline: float = 60.0  # seconds to wait for the cohort
    lose: list[str] = field(default_factory=list)  # node loss to inject, "NODE@ROUND:STEP"
    superlink: str = ""  # name of a SuperLink connection (deployment)


@dataclass(frozen=True)
class TrackingConfig:
    """What is shown and kept of a run."""

    progress: bool = True
    html: bool = True


@dataclass(frozen=True)
class Config:
    """One experiment, whole."""

    name: str = "custom"
    seed: int = 20261123  # splits, sampling of nodes, initial weights; never noise, masks or Poisson sampling
    compare: bool = False  # also run without DP, on throw-away vaults, for the report
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    vault: VaultConfig = field(default_factory=VaultConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    secagg: SecaggConfig = field(default_factory=SecaggConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        _check_types(self, "")
        _validate(self)

    @property
    def evaluation_rounds(self) -> str:
        """When held-out rows are asked: ``last``, ``every`` or ``never``."""
        if self.evaluation.rounds != "auto":
            return self.evaluation.rounds
        return "every" if self.privacy.mode == "off" else "last"

    @property
    def total_steps(self) -> int:
        """DP-SGD steps of a client that takes part in every round."""
        return self.strategy.rounds * self.privacy.steps_per_round

    def to_dict(self) -> dict[str, Any]:
        """The resolved configuration as plain values."""
        return _plain(self)

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical JSON of the resolved configuration."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def parse_loss(text: str) -> tuple[int, int, str]:
    """Node number, round and step of a ``NODE@ROUND:STEP`` entry of ``runtime.lose``."""
    match = re.fullmatch(r"(\d+)@(\d+):(\w+)", text)
    if match is None or match[3] not in LOSS_STEPS:
        raise ConfigError("runtime.lose", f"{text!r} is not NODE@ROUND:STEP with STEP one of {', '.join(LOSS_STEPS)}")
    return int(match[1]), int(match[2]), match[3]


def _plain(part: Any) -> dict[str, Any]:
    hints = get_type_hints(type(part))
    values = {name: getattr(part, name) for name in hints}
    return {k: _plain(v) if dataclasses.is_dataclass(v) else copy.copy(_number(hints[k], v)) for k, v in values.items()}


def _check_types(part: Any, prefix: str) -> None:
    for name, kind in get_type_hints(type(part)).items():
        value = getattr(part, name)
        if dataclasses.is_dataclass(kind) and isinstance(value, cast("type", kind)):
            _check_types(value, f"{prefix}{name}.")
        elif not _fits(kind, value):
            wanted = kind.__name__ if isinstance(kind, type) else str(kind)
            raise ConfigError(f"{prefix}{name}", f"{value!r} is no {'finite ' if kind is float else ''}{wanted}")


def _fits(kind: Any, value: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_fits(k, value) for k in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(get_args(kind)[0], v) for v in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _finite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False


def _validate(cfg: Config) -> None:
    from aegis_flower import datasets  # which needs this module's types

    def check(path: str, ok: bool, problem: str) -> None:
        if not ok:
            value: Any = cfg
            for part in path.split("."):
                value = getattr(value, part)
            raise ConfigError(path, f"{problem} (got {value!r})")

    def choice(path: str, *names: str) -> None:
        value: Any = cfg
        for part in path.split("."):
            value = getattr(value, part)
        if value not in names:
            close = difflib.get_close_matches(str(value), names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(path, f"{value!r} is not one of {', '.join(names)}{hint}")

    d, m, p, g, s, a, r = cfg.data, cfg.model, cfg.policy, cfg.privacy, cfg.strategy, cfg.secagg, cfg.runtime
    _check_bounds(cfg)
    _check_texts(cfg)
    choice("data.name", *datasets.DATASETS)
    choice("data.partition", "dirichlet", "iid")
    choice("model.kind", "logistic", "mlp", "cnn")
    check("model.hidden", len(m.hidden) <= 64, "has more than 64 layers")
    check("model.hidden", m.kind != "mlp" or bool(m.hidden), "an mlp needs at least one hidden layer, such as [32]")
    check(
        "model.device",
        re.fullmatch(r"auto|[a-z]+(:\d{1,3})?", m.device) is not None,
        "must be auto or a device of torch, such as cpu or cuda:0",
    )
    check("policy.purpose", bool(p.purpose.strip()), "must not be empty")
    check("policy.bundle", bool(p.bundle.strip()), "must not be empty")
    check(
        "policy.granted_purposes",
        bool(p.granted_purposes) and all(x.strip() for x in p.granted_purposes),
        "must name at least one purpose, none of them empty",
    )
    check(
        "policy.columns",
        p.columns is None or (bool(p.columns) and all(p.columns)),
        "must name at least one column, none of them empty; null for every approved one",
    )
    choice(
        "policy.basis",
        "consent",
        "contract",
        "legal_obligation",
        "vital_interests",
        "public_task",
        "legitimate_interests",
    )
    choice("privacy.mode", "example", "off")
    choice("privacy.noise", "secure", "insecure_test")
    choice("evaluation.rounds", "auto", "last", "every", "never")
    check(
        "privacy.steps_per_round",
        cfg.total_steps <= BOUNDS["privacy.steps_per_round"].high,
        f"makes {cfg.total_steps} steps over strategy.rounds={s.rounds}, more than a ledger takes",
    )
    choice("strategy.name", *STRATEGIES)
    choice("secagg.weighting", "uniform", "rows")
    check(
        "secagg.sparse",
        a.sparse is None or len(a.sparse) == 2,
        "must be two percentages below 50, colluding and lost, such as [10,10]; null for a complete graph",
    )
    check(
        "secagg.shard_size",
        a.shard_size is None or a.shard_size >= a.min_cohort,
        f"must be secagg.min_cohort={a.min_cohort} or more, the fewest clients a sum may be over; null for one sum",
    )
    choice("runtime.kind", "inprocess", "ray", "deployment")
    for text in r.lose:
        parse_loss(text)
    if a.enabled and r.kind != "deployment" and d.clients < a.min_cohort:
        raise ConfigError(
            "data.clients", f"{d.clients} clients cannot form the cohort of secagg.min_cohort={a.min_cohort}"
        )
    if a.enabled:
        _check_sums(cfg)
    if g.mode == "example" and g.noise == "insecure_test" and p.require_dp:
        raise ConfigError("privacy.noise", "insecure_test noise protects nobody; it needs policy.require_dp=false")
    if g.mode == "off" and p.require_dp:
        raise ConfigError("privacy.mode", "the data's policy requires DP; policy.require_dp=false lifts that")
    if not a.enabled and p.require_secure_aggregation:
        raise ConfigError(
            "secagg.enabled",
            "the data's policy requires secure aggregation; policy.require_secure_aggregation=false lifts that",
        )


def _check_bounds(cfg: Config) -> None:
    """Every number lies in its range of `BOUNDS`; a number without a range is a mistake of ours and refused, too."""
    for path, value in numbers(cfg):
        for each in value if isinstance(value, list) else [value]:
            if each is not None and not BOUNDS[path].holds(each):
                raise ConfigError(path, f"{BOUNDS[path]} (got {value!r})")


def numbers(part: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Path and value of each number of a configuration; of lists of numbers, the list."""
    found: list[tuple[str, Any]] = []
    for name, kind in get_type_hints(type(part)).items():
        if dataclasses.is_dataclass(kind):
            found += numbers(getattr(part, name), f"{prefix}{name}.")
        else:
            kinds = get_args(kind) or (kind,)
            inner = {k for each in kinds for k in (get_args(each) or (each,))}
            if inner & {int, float}:
                found.append((f"{prefix}{name}", getattr(part, name)))
    return found


def _check_texts(cfg: Config) -> None:
    """Texts hold no control characters and are no books; the run's name becomes a folder's."""

    def look(part: Any, prefix: str) -> None:
        for name, kind in get_type_hints(type(part)).items():
            value, path = getattr(part, name), f"{prefix}{name}"
            if dataclasses.is_dataclass(kind):
                look(value, f"{path}.")
                continue
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and (len(text) > _TEXT_MAX or any(ord(c) < 32 or ord(c) == 127 for c in text)):
                    raise ConfigError(path, f"has a control character, or more than {_TEXT_MAX} characters")
                if isinstance(text, str) and any(0xD800 <= ord(c) <= 0xDFFF for c in text):
                    raise ConfigError(path, "is not valid Unicode")

    look(cfg, "")
    if not cfg.name.strip() or "/" in cfg.name or cfg.name in (".", "..") or len(cfg.name.encode()) > 200:
        raise ConfigError("name", f"{cfg.name!r} cannot name a folder: no slash, not empty, at most 200 bytes")
    for path, text in (("data.path", cfg.data.path), ("vault.root", cfg.vault.root)):
        if text is not None and not text.strip():
            raise ConfigError(path, "must not be empty; null for none")


def _check_sums(cfg: Config) -> None:
    """Refuses what no ring holds, and groups that cannot be."""
    a, s, clients = cfg.secagg, cfg.strategy, cfg.data.clients
    weight = a.weight_max if a.weighting == "rows" else 1
    bits = math.ceil(math.log2((2 ** (a.value_bits - 1) - 1) * weight * max(clients, 2))) + 1
    if bits > 64:
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
    rule = STRATEGIES[s.name].least_groups
    least = rule(s.malicious) if rule else 1
    if cfg.runtime.kind != "deployment" and groups < max(2, least):
        raise ConfigError(
            "data.clients",
            f"{clients} clients make {groups} groups of {s.group_size}; {s.name} needs {max(2, least)} to bear "
            f"strategy.malicious={s.malicious}",
        )


def _schema(cls: type) -> type:
    """A mutable twin of a frozen config class: OmegaConf makes frozen classes read-only before overrides apply."""
    hints = get_type_hints(cls)
    fields: list[Any] = []
    for f in dataclasses.fields(cls):
        kind = hints[f.name]
        if dataclasses.is_dataclass(kind):
            twin = _schema(cast("type", kind))
            fields.append((f.name, twin, field(default_factory=twin)))
        elif f.default_factory is not dataclasses.MISSING:
            fields.append((f.name, kind, field(default_factory=f.default_factory)))
        else:
            fields.append((f.name, kind, field(default=f.default)))
    return dataclasses.make_dataclass(f"{cls.__name__}Schema", fields)


def register_schema() -> None:
    """Registers the structured schema with Hydra's ConfigStore (idempotent)."""
    ConfigStore.instance().store(name="schema", node=_schema(Config), provider="aegis_flower")


def from_dict(values: Mapping[str, Any]) -> Config:
    """Builds and validates a `Config` from nested plain values.

    Raises:
        ConfigError: an unknown key or an impossible value, with the key's path.
    """
    return cast("Config", _build(Config, values, ""))


def _build(cls: type, values: Mapping[str, Any], prefix: str) -> object:
    if not isinstance(values, Mapping):
        raise ConfigError(prefix.rstrip("."), f"{values!r} is no group of keys")
    hints = get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {prefix}{close[0]}?" if close else ""
            raise ConfigError(f"{prefix}{key}", f"no such key{hint}")
    kwargs = {}
    for key, value in values.items():
        kind = hints[key]
        if dataclasses.is_dataclass(kind):
            kwargs[key] = _build(cast("type", kind), value, f"{prefix}{key}.")
        else:
            kwargs[key] = _number(kind, value)
    return cls(**kwargs)


def _number(kind: Any, value: Any) -> Any:
    """JSON does not tell 3 from 3.0; the hash of a config must not depend on which was written."""
    is_float = kind is float or float in get_args(kind)
    return (
        float(value)
        if is_float and isinstance(value, int) and not isinstance(value, bool) and _finite(value)
        else value
    )


def explain_hydra(error: Exception) -> ConfigError:
    """Turns an error of Hydra or OmegaConf into one that names the key."""
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    whole = "\n".join(texts)
    key = re.search(r"full_key: (\S+)", whole)
    path = key[1] if key else ""
    if (path and "not in struct" in whole) or ("Key '" in whole and "not in" in whole):
        return ConfigError(path, f"no such key{_suggest(path)}; `aegis run --help` lists them")
    if path and (bad := re.search(r"Value '(.*?)'.*?(?:could not be converted to|is not a valid|of type)", whole)):
        return ConfigError(path, f"{bad[1]!r} is not a value of the type that is needed there")
    options = r"Could not find '(\w+)/(.*?)'\s+Available options in '\w+':\s+(.*?)\s+Config search"
    if group := re.search(options, whole, re.DOTALL):
        return ConfigError(group[1], f"there is no {group[2]!r}; take one of {', '.join(group[3].split())}")
    first = texts[0].strip().splitlines()
    return ConfigError(path, " ".join(line.strip() for line in first if line.strip()) or "cannot be composed")


def _suggest(path: str) -> str:
    paths = []
    for group in dataclasses.fields(Config):
        kind = get_type_hints(Config)[group.name]
        if dataclasses.is_dataclass(kind):
            paths += [f"{group.name}.{f.name}" for f in dataclasses.fields(kind)]
        else:
            paths.append(group.name)
    close = difflib.get_close_matches(path, paths, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def from_hydra(cfg: Any) -> Config:
    """Validates a composed Hydra config."""
    values = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    return from_dict({k: v for k, v in values.items() if k != "hydra"})


def compose(experiment: str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Composes a configuration as ``aegis run experiment=NAME KEY=VALUE ...`` does.

    Args:
        experiment: name of a file in ``configs/experiment``; None for the defaults.
        overrides: Hydra overrides, such as ``privacy.epsilon=3``.

    Raises:
        ConfigError: unknown experiment or key, or an impossible value.
    """
    register_schema()
    chosen = ([f"experiment={experiment}"] if experiment else []) + list(overrides)
    previous = GlobalHydra.instance().hydra  # a compose inside a running Hydra job must not end that job's Hydra
    try:
        GlobalHydra.instance().clear()
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            return from_hydra(hydra_compose("config", overrides=chosen))
    except AegisError:
        raise
    except (
        Exception
    ) as error:  # Hydra's own, OmegaConf's, and what their parsers let through: a bad value, not a bug of ours
        raise explain_hydra(error) from error
    finally:
        GlobalHydra.instance().hydra = previous


def overrides_from_run_config(run_config: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    """Experiment name and overrides carried by a Flower run config (``aegis-experiment``, ``aegis-overrides``)."""
    name = str(run_config.get("aegis-experiment", "") or "") or None
    try:
        return name, shlex.split(str(run_config.get("aegis-overrides", "") or ""))
    except ValueError as error:
        raise ConfigError("aegis-overrides", f"not words of a command line ({error})") from error


def carry(cfg: Config, overrides: Sequence[str], output: str) -> str:
    """The resolved configuration, the overrides as written and the server's output folder, as one word of ASCII.

    Flower's text forms of a run config cannot hold quotes, and some nothing but ASCII; `from_run_config` reads it.
    """
    text = json.dumps({"config": cfg.to_dict(), "overrides": list(overrides), "output": output})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def from_run_config(run_config: Mapping[str, Any]) -> tuple[Config, list[str], str]:
    """Configuration, overrides and the server's output folder of a Flower run config.

    ``aegis-config`` (what `carry` made) goes before ``aegis-experiment`` and ``aegis-overrides``.

    Raises:
        ConfigError: neither can be read, or a value in it is impossible.
    """
    carried = str(run_config.get(CARRIED, "") or "")
    output = str(run_config.get("aegis-output", "") or "")
    if not carried:
        name, overrides = overrides_from_run_config(run_config)
        return compose(name, overrides), overrides, output
    try:
        found = json.loads(base64.b64decode(carried + "=" * (-len(carried) % 4), altchars=b"-_", validate=True))
        values, overrides = found["config"], [str(o) for o in found["overrides"]]
        output = output or str(found["output"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(CARRIED, "is not what `aegis run` writes; leave it out, or submit again") from error
    return from_dict(values), overrides, output

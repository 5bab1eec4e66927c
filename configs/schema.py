"""The groups of a configuration: frozen dataclasses, one field a key. Nothing is checked here; `check` does.

`PrivacyConfig` and `StrategyConfig.rounds` change the privacy guarantee; `RuntimeConfig` and `TrackingConfig` never do.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any, get_args, get_type_hints


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
    features: str | None = None  # feature plan of data=table: a packaged name, or the path of a file
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
class Groups:
    """All groups of one experiment, unchecked. `Config` is the checked one."""

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

    @property
    def evaluation_rounds(self) -> str:
        """When held-out rows are asked: ``last``, ``every`` or ``never``."""
        if self.evaluation.rounds != "auto":
            return self.evaluation.rounds
        return "every" if self.privacy.mode == "off" else "last"

    @property
    def evaluations(self) -> int:
        """Evaluations that a run asks of each node; a simulation's own nodes give as many."""
        return {"never": 0, "last": 1}.get(self.evaluation_rounds, self.strategy.rounds + 1)

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


def _plain(part: Any) -> dict[str, Any]:
    hints = get_type_hints(type(part))
    values = {name: getattr(part, name) for name in hints}
    return {
        k: _plain(v) if dataclasses.is_dataclass(v) else copy.copy(number_of(hints[k], v)) for k, v in values.items()
    }


def number_of(kind: Any, value: Any) -> Any:
    """JSON does not tell 3 from 3.0; the hash of a config must not depend on which was written."""
    is_float = kind is float or float in get_args(kind)
    return (
        float(value) if is_float and isinstance(value, int) and not isinstance(value, bool) and finite(value) else value
    )


def finite(value: float) -> bool:
    """Whether a number is one that a float can be."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False

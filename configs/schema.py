"""The groups of a configuration: frozen dataclasses, one field per key. Nothing is checked here; `check` does.

A key says here, and only here, its type, its range or its names, its default, what it means and what it does to the guarantee.
The tables of ``docs/CONFIG.md`` are made from it (`make generated`). Hydra's twin of a group leaves ranges and names out.

`PrivacyConfig` and `StrategyConfig.rounds` change the privacy guarantee; `RuntimeConfig` and `TrackingConfig` never do.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, get_type_hints

from aegis_flower import data
from aegis_flower.configs.keys import ASKED, DP, MASKS, TERMS, OneOf, Within, key, number_of
from aegis_flower.configs.privacy_group import PrivacyConfig
from aegis_flower.steps import Step
from aegis_flower.terms import BASES


@dataclass(frozen=True)
class DataConfig:
    """Which data, and how a simulation splits it over its nodes."""

    name: Annotated[str, OneOf((*data.DATASETS, data.TABLE))] = key("breast_cancer", "which data set")
    clients: Annotated[int, Within(1, 100_000)] = key(5, "nodes of a simulation; in a deployment, nodes to wait for")
    partition: Annotated[str, OneOf(("dirichlet", "iid"))] = key("dirichlet", "`dirichlet` splits by label")
    alpha: Annotated[float, Within(1e-6, 1e6)] = key(1.0, "Dirichlet concentration over labels; smaller is less alike")
    holdout: Annotated[float, Within(0.0, 1.0, True, True)] = key(
        0.2,
        "part of each node's rows that is only evaluated on; each node must keep at least one row of either kind",
        DP,
    )
    limit: Annotated[int, Within(1, 10**9)] | None = key(None, "rows used of the source, for quick trials")
    path: str | None = key(
        None,
        "folder of the IDX files (`fashion_mnist`); with `data=table`, the file that a simulation makes its vaults of",
    )
    schema: str | None = key(None, "schema of that file; `aegis data schema FILE` drafts it")
    features: str | None = key(
        None, "feature plan of `data=table`: a packaged name, or the path of a file; each node reads its own copy"
    )
    withdrawn: Annotated[float, Within(0.0, 1.0, open_high=True)] = key(
        0.05, "part of the subjects who withdrew their consent before the run"
    )


@dataclass(frozen=True)
class ScheduleConfig:
    """A learning rate over the rounds, by their public numbers (`schedules`)."""

    kind: Annotated[str, OneOf(("constant", "cosine", "linear", "step"))] = key(
        "constant", "`cosine` and `linear` fall to `floor`, `step` is multiplied by `gamma` after each `every` rounds"
    )
    warmup: Annotated[int, Within(0, 10**6)] = key(0, "rounds in which the rate rises to its full value first")
    every: Annotated[int, Within(1, 10**6)] = key(10, "rounds of one step (`step`)")
    gamma: Annotated[float, Within(0.0, 1.0, True)] = key(0.5, "factor of a step (`step`)")
    floor: Annotated[float, Within(0.0, 1.0)] = key(
        0.0, "part of the rate towards which it falls (`cosine`, `linear`); the last round is still above it"
    )


@dataclass(frozen=True)
class EarlyStopConfig:
    """When a run ends before its last round: a metric no longer gets better."""

    metric: str | None = key(
        None,
        "`accuracy`, `loss` or another mean over held-out rows, which needs `evaluation.rounds=every` and is noised where there "
        "is DP; or `public/NAME` of `evaluation.server`, which costs no ε. null: never",
        DP,
    )
    patience: Annotated[int, Within(1, 10**6)] = key(3, "measured rounds without a gain before the run ends")
    min_delta: Annotated[float, Within(0.0, 1e6)] = key(
        0.0, "least gain that counts; below the metric's noise (`accuracy_sd` of the report) it counts noise"
    )
    direction: Annotated[str, OneOf(("auto", "maximize", "minimize"))] = key(
        "auto", "`auto`: names that end in `loss` or `error` fall, all others rise"
    )


@dataclass(frozen=True)
class ModelConfig:
    """The model and its local optimiser."""

    kind: Annotated[str, OneOf(("logistic", "mlp", "cnn", "tokens"))] = key(
        "logistic", "`cnn` takes 28x28 images and larger, `tokens` lists or texts as ids"
    )
    hidden: list[Annotated[int, Within(1, 65_536)]] = key(
        [], "layer sizes of an `mlp`; the first one is the width of `tokens`"
    )
    learning_rate: Annotated[float, Within(0.0, 1e3, True)] = key(0.5, "of the client's SGD")
    momentum: Annotated[float, Within(0.0, 1.0, open_high=True)] = key(0.0, "of the client's SGD")
    device: str = key("auto", "torch device; `auto` takes CUDA, MPS, CPU, in this order")
    physical_batch: Annotated[int, Within(1, 10**6)] = key(
        256, "records whose gradients are in memory at once; changes no result"
    )
    init: str | None = key(
        None,
        "start from these arrays in place of drawn ones: a `.safetensors` or `.npz` file, by names, or the folder of a run",
    )
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)


@dataclass(frozen=True)
class VaultConfig:
    """Where a simulation keeps its nodes' vaults. A SuperNode's operator names his own in the node config."""

    root: str | None = key(
        None,
        "folder of a simulation's vaults; null makes new ones in the run's folder. A named folder keeps consents and the "
        "spent budget from run to run",
        DP,
    )


@dataclass(frozen=True)
class PolicyConfig:
    """What the run asks for, and what a simulation's data stewards grant at ingest."""

    bundle: str = key("core", "bundle that governs a simulation's vaults: `core` or a folder", TERMS)
    purpose: str = key("research", "what the run asks for", ASKED)
    columns: list[str] | None = key(
        None, "columns the run asks for, the label among them; null: every approved one", ASKED
    )
    granted_purposes: list[str] = key(["research"], "purposes the steward allows", TERMS)
    basis: Annotated[str, OneOf(BASES)] = key("consent", "lawful basis", TERMS)
    retention_days: Annotated[int, Within(0, 36_500)] = key(365, "last day of use, from ingest", TERMS)
    min_rows: Annotated[int, Within(1, 10**9)] = key(16, "fewest rows an update may rest on", TERMS)
    min_subjects: Annotated[int, Within(1, 10**9)] = key(10, "fewest people an update may rest on", TERMS)
    budget_epsilon: Annotated[float, Within(0.0, 1e6, True)] = key(
        10.0, "ε that all runs together may spend on a data set", f"{TERMS}, {DP}"
    )
    delta: Annotated[float, Within(1e-12, 0.01)] = key(
        1e-5,
        "largest δ that the steward allows; ledgers account at it, and `privacy.delta` may not be above it",
        f"{TERMS}, {DP}",
    )
    require_dp: bool = key(True, "no update leaves without secure noise", f"{TERMS}, {DP}")
    require_secure_aggregation: bool = key(True, "no update leaves unmasked", f"{TERMS}, {MASKS}")
    permit_minutes: Annotated[float, Within(1 / 60, 24 * 60.0)] = key(10.0, "how long a permit lasts")


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation on held-out rows: a mechanism of its own, charged to the holdout's own ledger."""

    rounds: Annotated[str, OneOf(("auto", "last", "every", "never"))] = key(
        "auto", "`auto`: `every` with `privacy.mode=off`, else `last`", DP
    )
    epsilon: Annotated[float, Within(0.0, 1e3, True, True)] = key(
        3.0, "ε of one evaluation; with less, the accuracy has more noise (the report says how much)", DP
    )
    loss_max: Annotated[float, Within(1e-3, 1e3)] = key(10.0, "a record's loss counts as at most this", DP)
    metrics: list[str] | None = key(
        None,
        "what is told of held-out rows: names of [metrics](how-to/add-a-metric.md), or the dotted path of an app's own `Metric`. "
        "Each costs noise. null: accuracy and loss of classes, mean absolute error and loss of numbers",
        DP,
    )
    histograms: bool = key(False, "the metric `calibration` as well; the old name of it", DP)
    group: str | None = key(
        None, "column of role `group` by which each metric is told, to see bias; it needs `evaluation.groups`", DP
    )
    groups: list[str] = key(
        [], "the vocabulary of that column, public; rows with another value are told together, as `other`", DP
    )
    server: str | None = key(
        None,
        "a public test set at the server: `FILE.py`, `FILE.py:FUNCTION` or `package.module:FUNCTION`, a function of (arrays by "
        "name, round) that gives numbers by name. It costs no ε: give it public rows only",
    )


@dataclass(frozen=True)
class SecaggConfig:
    """Secure aggregation: profile S, or D where `sparse` is set."""

    enabled: bool = key(True, "masks on; `clear` needs `policy.require_secure_aggregation=false`", MASKS)
    value_bits: Annotated[int, Within(8, 30)] = key(20, "bits of one quantised value")
    min_cohort: Annotated[int, Within(2, 2**16)] = key(
        3, "fewest clients a sum is over. In a deployment each node's own `aegis-min-cohort` holds, too", MASKS
    )
    weighting: Annotated[str, OneOf(("uniform", "rows"))] = key(
        "uniform", "with `rows`, row counts enter the sum, without noise", DP
    )
    weight_max: Annotated[int, Within(1, 2**24)] = key(65536, "largest weight of a client")
    commit: bool = key(
        False,
        "the clients sign who survived before they unmask: one more trip per round, for cohorts in which more than a tenth "
        "may work with the server ([SECURE_AGGREGATION](SECURE_AGGREGATION.md))",
        MASKS,
    )
    sparse: list[Annotated[int, Within(0, 49)]] | None = key(
        None,
        "two numbers, percent colluding and percent lost: a sparse graph that bears as many, with the commit step, for "
        "cohorts of hundreds to thousands",
        MASKS,
    )
    shard_size: Annotated[int, Within(2, 2**16)] | None = key(
        None,
        "clients of a shard; each shard is summed separately in the same trips, and the server sees shard sums. null: one "
        "sum over all",
        MASKS,
    )


@dataclass(frozen=True)
class StrategyConfig:
    """The server's optimiser around the securely summed mean."""

    # `check` holds the name against `rules.RULES`, which need these groups.
    name: str = key(
        "fedavg",
        "the server's optimiser around the secure mean, or a robust rule over the secure means of groups "
        "([SECURE_AGGREGATION](SECURE_AGGREGATION.md#robust-rules))",
        f"{MASKS}, for rules over groups",
    )
    rounds: Annotated[int, Within(1, 10**6)] = key(
        10, "rounds; with `privacy.steps_per_round` (`example`), the steps that are charged", DP
    )
    max_norm: Annotated[float, Within(1e-9, 1e9)] = key(
        4.0,
        "L2 bound of a client's update: clipped by the engine, checked by the gate. A node's `aegis-max-norm` may narrow it",
    )
    server_learning_rate: Annotated[float, Within(0.0, 1e3, True)] | None = key(
        None, "null: 1.0 for `fedavgm`, 0.1 for `fedadam` and `fedyogi`; the others have none"
    )
    proximal_mu: Annotated[float, Within(0.0, 1e3)] = key(0.0, "FedProx's μ (0.01 in `fedprox.yaml`)")
    group_size: Annotated[int, Within(2, 2**16)] = key(8, "clients of a group, for the robust rules", MASKS)
    server_schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    fraction_train: Annotated[float, Within(0.0, 1.0, True)] = key(
        1.0,
        "part of the nodes that is drawn anew to train in each round, at least `secagg.min_cohort` of them. A node is charged "
        "for the rounds in which it trains; no amplification by the draw is claimed",
        MASKS,
    )
    early_stop: EarlyStopConfig = field(default_factory=EarlyStopConfig)
    train_config: dict[str, Any] = key(
        {},
        "settings for the clients' code, read-only there as `self.round_config`; one that no client reads is refused",
    )
    rounds_before: Annotated[int, Within(0, 10**6)] = key(
        0, "rounds that an earlier part of this run did; `aegis run --resume` sets it, and schedules go on from there"
    )
    malicious: Annotated[int, Within(0, 2**16)] = key(
        1,
        "false clients that a robust rule must bear; at worst each is in another group. For f of them Krum and MultiKrum "
        "need 2f + 3 groups, the others 2f + 1",
    )


@dataclass(frozen=True)
class RuntimeConfig:
    """Where the apps run. Nothing here changes a privacy guarantee."""

    kind: Annotated[str, OneOf(("inprocess", "jailed", "ray", "deployment"))] = key(
        "inprocess",
        "where the apps run. `inprocess`, `jailed` and `ray` separate no parties from each other; `jailed` runs the code of "
        "the clients in a jail",
    )
    workers: Annotated[int, Within(0, 1024)] = key(0, "threads of `inprocess` and `jailed`; 0: one per core")
    round_deadline: Annotated[float, Within(1e-3, 1e6)] = key(120.0, "seconds a trip may take (300 in `ray.yaml`)")
    join_deadline: Annotated[float, Within(1e-3, 1e6)] = key(60.0, "seconds to wait for the cohort")
    lose: list[str] = key(
        [], f"node loss to inject (`inprocess`, `jailed`), `NODE@ROUND:STEP`, nodes from 0; steps: {', '.join(Step)}"
    )
    app: str | None = key(
        None,
        "folder of a Flower app whose ClientApp trains in the jails (`jailed`); null: AEGIS's own loop with the configured model",
    )
    block_seconds: Annotated[float, Within(0.01, 3600.0)] = key(
        2.0,
        "seconds that each block's training may take (`jailed` with `privacy=blocks`); all blocks start at fixed times",
    )
    superlink: str = key("", "SuperLink's name in Flower's config.toml (`deployment`)")


@dataclass(frozen=True)
class TrackingConfig:
    """What is shown and kept of a run."""

    progress: bool = key(True, "live progress in the terminal")
    html: bool = key(True, "write `report.html`")
    to: list[str] = key(
        [],
        "trackers: `csv`, `tensorboard`, `mlflow`, `wandb`, or one of your own as `package.module:CLASS` or `FILE.py:CLASS`. "
        "They get what the report says, and nothing else",
    )
    folder: str | None = key(
        None, "where TensorBoard, MLflow and W&B keep their files, for all runs together; null: the run's folder"
    )


@dataclass(frozen=True)
class SweepConfig:
    """What the trials of a sweep are compared by."""

    objective: str = key(
        "accuracy", "`accuracy`, `loss`, or `public/NAME` of `evaluation.server`: the value of a trial for a sweeper"
    )
    direction: Annotated[str, OneOf(("maximize", "minimize"))] = key(
        "maximize", "which values are better; `loss` needs `minimize`. Optuna gets it as its own"
    )


@dataclass(frozen=True)
class Groups:
    """All groups of one experiment, unchecked. `Config` is the checked one."""

    name: str = key("custom", "name of the run and of its folder under `outputs/`")
    seed: Annotated[int, Within(0, 2**63 - 1)] = key(
        20261123,
        "splits, withdrawals in a simulation, initial weights; seeds noise only with `privacy.noise=insecure_test`",
    )
    compare: bool = key(
        False,
        "also run without DP on throw-away vaults, for the report (`inprocess`). That run spends no ε and so is not "
        "protected: for trials on data that is public",
        DP,
    )
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
    sweep: SweepConfig = field(default_factory=SweepConfig)

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
        """Steps that a client is charged which takes part in every round: those of DP-SGD; of whole updates and of blocks, one a
        round.
        """
        return self.strategy.rounds * (1 if self.privacy.whole else self.privacy.steps_per_round)

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

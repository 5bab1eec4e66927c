"""Server: builds the strategy and the `ServerApp` of an experiment; the same app under every runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp import strategy as flower

from aegis_flower import datasets, models
from aegis_flower.config import ROBUST, Config, compose, overrides_from_run_config
from aegis_flower.errors import RunFailed
from aegis_flower.ledger import calibrate
from aegis_flower.strategies import Bucketed, ClearAggregation, RoundRecord, SecureAggregation

OnRound = Callable[[RoundRecord], None]
AnyStrategy = SecureAggregation | ClearAggregation


@dataclass
class Outcome:
    """What the server side of a run came to.

    Attributes:
        names: parameter names, in order.
        arrays: the final model.
        rounds: what happened, round by round.
        strategy: the strategy that ran, for its settings.
    """

    config: Config
    noise_multiplier: float
    arrays: ArrayRecord = field(default_factory=ArrayRecord)
    rounds: list[RoundRecord] = field(default_factory=list)
    strategy: AnyStrategy | None = None
    run_id: int = 0

    @property
    def trained(self) -> list[RoundRecord]:
        """Training rounds that gave a model."""
        return [r for r in self.rounds if r.task == "train" and not r.failed and r.participants]


def noise_multiplier(cfg: Config) -> float:
    """σ of the experiment: as configured, or calibrated from ε; 0 without DP."""
    p = cfg.privacy
    if p.mode == "off":
        return 0.0
    return p.noise_multiplier or calibrate(p.epsilon, p.delta, p.sample_rate, cfg.total_steps)


def initial_arrays(cfg: Config) -> ArrayRecord:
    """The start model, drawn from the config's seed; public."""
    model = models.build(cfg.model, datasets.spec(cfg.data.name), cfg.seed)
    return ArrayRecord({n: Array(p.detach().numpy().copy()) for n, p in model.named_parameters()})


def inner_strategy(cfg: Config) -> flower.Strategy:
    """Flower's own strategy, as configured."""
    s = cfg.strategy
    least = cfg.secagg.min_cohort if cfg.secagg.enabled else 1
    common: dict[str, Any] = {
        "min_train_nodes": least,
        "min_evaluate_nodes": least,
        "min_available_nodes": least,
    }
    rate = s.server_learning_rate
    if s.name == "fedavgm":
        return flower.FedAvgM(server_learning_rate=rate or 1.0, server_momentum=0.9, **common)
    if s.name == "fedadam":
        return flower.FedAdam(eta=rate or 0.1, **common)
    if s.name == "fedyogi":
        return flower.FedYogi(eta=rate or 0.1, **common)
    if s.name in ROBUST:
        return _robust_rule(cfg, common)
    if s.name == "fedprox":
        return flower.FedProx(proximal_mu=s.proximal_mu, **common)
    return flower.FedAvg(**common)


def _robust_rule(cfg: Config, common: dict[str, Any]) -> flower.Strategy:
    """A rule over the means of groups, of which as many may be false as there are malicious clients."""
    malicious, groups = cfg.strategy.malicious, max(1, cfg.data.clients // cfg.strategy.group_size)
    if cfg.strategy.name == "krum":
        return flower.Krum(num_malicious_nodes=malicious, **common)
    if cfg.strategy.name == "multikrum":
        select = max(1, groups - malicious)
        return flower.MultiKrum(num_malicious_nodes=malicious, num_nodes_to_select=select, **common)
    if cfg.strategy.name == "median":
        return flower.FedMedian(**common)
    return flower.FedTrimmedAvg(beta=malicious / groups, **common)


def build_strategy(cfg: Config, sigma: float, on_round: OnRound | None = None, **extra: Any) -> AnyStrategy:
    """The experiment's strategy: secure aggregation around the inner one, or the inner one in clear."""
    inner = inner_strategy(cfg)
    last = set() if cfg.evaluation_rounds == "never" else {cfg.strategy.rounds}
    if not cfg.secagg.enabled:
        return ClearAggregation(
            inner,
            noise_multiplier=sigma,
            weighting=cfg.secagg.weighting,
            evaluate=cfg.evaluation_rounds,
            evaluate_rounds=last,
            on_round=on_round,
        )
    a = cfg.secagg
    options: dict[str, Any] = {
        "max_norm": cfg.strategy.max_norm,
        "value_bits": a.value_bits,
        # the ring is only as wide as the weights there can be
        "weight_max": a.weight_max if a.weighting == "rows" else 1,
        "min_cohort": a.min_cohort,
        "cohort": cfg.data.clients,
        "join_deadline": cfg.runtime.join_deadline,
        "deadline": cfg.runtime.round_deadline,
        "commit": a.commit,
        "sparse": tuple(a.sparse) if a.sparse else None,
        "noise_multiplier": sigma,
        "evaluate": cfg.evaluation_rounds,
        "evaluate_rounds": last,
        "on_round": on_round,
        **extra,
    }
    if cfg.strategy.name in ROBUST:
        return Bucketed(inner, group_size=cfg.strategy.group_size, **options)
    return SecureAggregation(inner, shard_size=a.shard_size, **options)


def run_server(cfg: Config, grid: Grid, outcome: Outcome, on_round: OnRound | None = None, **extra: Any) -> None:
    """Runs the experiment's strategy on a grid and fills `outcome`, also when it fails half-way.

    Raises:
        RunFailed: no round gave a model.
    """

    def note(record: RoundRecord) -> None:
        outcome.rounds.append(record)
        if on_round is not None:
            on_round(record)

    strategy = build_strategy(cfg, outcome.noise_multiplier, note, **extra)
    outcome.arrays = start = initial_arrays(cfg)
    outcome.strategy, outcome.run_id = strategy, grid.run.run_id
    result = strategy.start(grid, start, num_rounds=cfg.strategy.rounds, timeout=cfg.runtime.round_deadline)
    outcome.arrays = result.arrays or start  # Flower returns none when no round gave a model
    if not outcome.trained:
        lost = [x for r in outcome.rounds for x in r.lost]
        refusal = next((f"[{x.code}] {x.reason}" for x in lost if x.code), None)  # says more than "0 clients remain"
        first = refusal or next((r.failed for r in outcome.rounds if r.failed), lost[0].reason if lost else "no client")
        raise RunFailed(f"no round gave a model; first reason: {first}")


def aegis_server_app(config: Config | None = None) -> ServerApp:
    """The `ServerApp` of an experiment, for `flwr run`.

    It composes the configuration from the run config, runs the strategy, writes the report and the model into
    ``aegis-output`` (run config; default ``aegis-runs/<run id>`` under the server's working folder).
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        from aegis_flower.experiment import server_report  # the report needs the server, not the other way round

        name, overrides = overrides_from_run_config(context.run_config)
        cfg = config or compose(name, overrides)
        folder = Path(str(context.run_config.get("aegis-output", "") or f"aegis-runs/{grid.run.run_id}"))
        with server_report(cfg, folder, overrides, context) as (outcome, on_round):
            run_server(cfg, grid, outcome, on_round)

    return app

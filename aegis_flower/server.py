"""Server: builds the strategy of an experiment and runs it on a grid; the same under every runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower

from aegis_flower import checkpoint, features, gate, models
from aegis_flower.configs import Config
from aegis_flower.configs.rules import ROBUST, RULES, rate_of
from aegis_flower.configs.schedules import server_factor
from aegis_flower.data.spec import built
from aegis_flower.early_stop import EarlyStop
from aegis_flower.errors import ConfigError, RunFailed
from aegis_flower.learners import is_torch, learner_of
from aegis_flower.ledger import RoundMechanism, calibrate
from aegis_flower.metrics import Metric, Metrics
from aegis_flower.node.node import refusals
from aegis_flower.public_test import PublicTest
from aegis_flower.strategies import Bucketed, ClearAggregation, Plan, RoundRecord, SecureAggregation
from aegis_flower.strategies.rounds import Lost, OnRound, Stop
from aegis_flower.weights import BASE, base_sha256, travelling

if TYPE_CHECKING:
    ModelFn = Callable[..., Any]  # takes nothing, or the `Spec` of the data

AnyStrategy = SecureAggregation | ClearAggregation


@dataclass
class Outcome:
    """What the server side of a run came to.

    Attributes:
        arrays: the final model.
        rounds: what happened, round by round.
        strategy: the strategy that ran, for its settings.
        problems: what went wrong without ending the run, for the report.
        on_model: called with the number of a round and its model, as soon as it is there; what it raises ends the run.
        on_public: called with the number of a round and what the public test set says of its model.
        public: what the public test set says, by round; 0 is the start model. Empty where there is none.
        stopped: why the run ended before its last round, by a rule or a callback of its own; empty otherwise.
        own_metrics: metrics of the app's own, beside those that the configuration names.
        base: hash of what the model's adapters sit on, which does not travel; None without adapters.
    """

    config: Config
    noise_multiplier: float
    arrays: ArrayRecord = field(default_factory=ArrayRecord)
    rounds: list[RoundRecord] = field(default_factory=list)
    strategy: AnyStrategy | None = None
    run_id: int = 0
    problems: list[str] = field(default_factory=list)
    on_model: Callable[[int, ArrayRecord], None] | None = None
    on_public: Callable[[int, dict[str, float]], None] | None = None
    public: dict[int, dict[str, float]] = field(default_factory=dict)
    stopped: str = ""
    own_metrics: tuple[Metric, ...] = ()
    base: str | None = None

    @property
    def metrics(self) -> Metrics:
        """What the clients count: by the configuration, and the app's own."""
        return gate.declared(self.config, self.own_metrics)

    @property
    def trained(self) -> list[RoundRecord]:
        """Training rounds that gave a model."""
        return [r for r in self.rounds if r.task == "train" and not r.failed and r.participants]


def noise_multiplier(cfg: Config) -> float:
    """σ of the experiment: as configured, or calibrated from ε; 0 without DP."""
    p = cfg.privacy
    if p.mode == "off":
        return 0.0
    rate = RoundMechanism.of(p, 0.0).sample_rate
    return p.noise_multiplier or calibrate(p.epsilon, p.delta, rate, cfg.total_steps)


def initial_arrays(cfg: Config, model: ModelFn | None = None) -> ArrayRecord:
    """The start model, drawn from the config's seed; public. `model` builds the app's own in place of the configured one."""
    return _drawn(cfg, model)[0]


def _drawn(cfg: Config, model: ModelFn | None) -> tuple[ArrayRecord, str | None]:
    """The start model, and the hash of what its adapters sit on, where it has some."""
    if model is None:
        start = models.build(cfg.model, features.spec_of(cfg.data), cfg.seed)
    else:
        with models.seeded(cfg.seed):
            start = built(model, lambda: features.spec_of(cfg.data))
        if not is_torch(start):
            learner = learner_of(start, features.spec_of(cfg.data))
            return ArrayRecord({name: Array(values) for name, values in learner.arrays().items()}), None
    made = {name: Array(p.detach().cpu().float().numpy().copy()) for name, p in travelling(start).items()}
    return ArrayRecord(made), base_sha256(start)


def _started(cfg: Config, drawn: ArrayRecord) -> ArrayRecord:
    """The arrays of `model.init`, where it is given."""
    if cfg.model.init is None:
        return drawn
    found = checkpoint.initial(cfg.model.init, {name: array.numpy() for name, array in drawn.items()})
    return ArrayRecord({name: Array(values) for name, values in found.items()})


def inner_strategy(cfg: Config) -> flower.Strategy:
    """Flower's own strategy, as configured."""
    known = RULES.get(cfg.strategy.name)
    if known is None:
        raise ConfigError("strategy.name", f"{cfg.strategy.name!r} is not one of {', '.join(RULES)}")
    least = cfg.secagg.min_cohort if cfg.secagg.enabled else 1
    common: dict[str, Any] = {
        "fraction_train": cfg.strategy.fraction_train,
        "min_train_nodes": least,
        "min_evaluate_nodes": least,
        "min_available_nodes": least,
    }
    made: flower.Strategy = getattr(flower, known.cls)(**known.options(cfg), **common)
    return made


def build_strategy(
    cfg: Config, sigma: float, on_round: OnRound | None = None, metrics: Metrics | None = None, **extra: Any
) -> AnyStrategy:
    """The experiment's strategy: secure aggregation around the inner one, or the inner one in clear."""
    metrics = metrics or gate.declared(cfg)
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
            metrics=metrics,
        )
    a = cfg.secagg
    plan = Plan(
        max_norm=cfg.strategy.max_norm,
        value_bits=a.value_bits,
        weight_max=a.weight_max if a.weighting == "rows" else 1,  # the ring is only as wide as the weights there can be
        min_cohort=a.min_cohort,
        cohort=cfg.data.clients,
        join_deadline=cfg.runtime.join_deadline,
        deadline=cfg.runtime.round_deadline,
        commit=a.commit,
        sparse=(a.sparse[0], a.sparse[1]) if a.sparse else None,
        shard_size=a.shard_size,
        metrics=metrics,
    )
    options: dict[str, Any] = {
        "noise_multiplier": sigma,
        "evaluate": cfg.evaluation_rounds,
        "evaluate_rounds": last,
        "on_round": on_round,
        **extra,
    }
    if cfg.strategy.name in ROBUST:
        return Bucketed(inner, plan, group_size=cfg.strategy.group_size, **options)
    return SecureAggregation(inner, plan, **options)


def checkpoints(
    cfg: Config, folder: Path, overrides: Sequence[str], outcome: Outcome
) -> Callable[[int, ArrayRecord], None]:
    """Writes the model of each round beside the report to come. A disk that is full costs the checkpoint, not the run."""

    def write(round_: int, arrays: ArrayRecord) -> None:
        made = {name: array.numpy() for name, array in arrays.items()}
        try:
            checkpoint.Checkpoint(round_, cfg, outcome.noise_multiplier, tuple(overrides), made).write(folder)
        except OSError as error:
            outcome.problems.append(f"the checkpoint of round {round_} could not be written: {error.strerror or error}")

    return write


def run_server(
    cfg: Config,
    grid: Grid,
    outcome: Outcome,
    on_round: OnRound | None = None,
    *,
    model: ModelFn | None = None,
    **extra: Any,
) -> None:
    """Runs the experiment's strategy on a grid and fills `outcome`, also when it fails or is stopped half-way.

    An exception of `on_round` ends the run after the round it was called for, whose model is kept; it is raised here.

    Args:
        cfg: the experiment.
        grid: Flower's grid.
        outcome: filled as the run goes on: rounds, and the newest model.
        on_round: called after each round; where it returns `aegis_flower.STOP`, the run ends with that round's model.
        model: builds the app's own model in place of the configured one; the clients build the same. None takes the configured
            one, and in one process the one that the app's client builds.
        extra: further arguments of `SecureAggregation`.

    Raises:
        RunFailed: no round gave a model.
    """
    outcome.run_id = grid.run.run_id
    watch = _Watch(outcome, on_round, EarlyStop.of(cfg, outcome.metrics))
    if cfg.evaluation.server is not None:
        watch.public = PublicTest.of(cfg.evaluation.server, outcome.problems)
    strategy = watch.strategy = build_strategy(cfg, outcome.noise_multiplier, watch.note, outcome.metrics, **extra)
    drawn, outcome.base = _drawn(cfg, model or _clients_model(grid))
    outcome.arrays = start = _started(cfg, drawn)
    outcome.strategy = strategy
    _keep_models(cfg, strategy, outcome, watch.raised, start if outcome.base is not None else None)
    plan = features.chosen(cfg.data)
    told = {features.CHOSEN: plan.sha256} if plan else {}  # each node compares it with its own copy's
    told |= {BASE: outcome.base} if outcome.base is not None else {}
    result = strategy.start(
        grid,
        start,
        num_rounds=cfg.strategy.rounds,
        timeout=cfg.runtime.round_deadline,
        train_config=ConfigRecord({**cfg.strategy.train_config, **told}),
        evaluate_config=ConfigRecord({**told}),
        evaluate_fn=watch.measure if watch.public is not None else None,
    )
    outcome.arrays = result.arrays or outcome.arrays  # Flower returns none when no round gave a model
    if watch.raised:
        raise watch.raised[0]
    if watch.early is not None and watch.early.doubt:
        outcome.problems.append(watch.early.doubt)
    done = sum(r.task == "train" for r in outcome.rounds)
    if strategy.ended and done < cfg.strategy.rounds:
        outcome.stopped = f"the run ended after round {done} of {cfg.strategy.rounds}: {strategy.ended}"
    if not outcome.trained:
        raise RunFailed(f"no round gave a model; first reason: {_first_reason(outcome)}")


def _same(before: ArrayRecord, after: ArrayRecord) -> bool:
    return all(np.array_equal(before[name].numpy(), after[name].numpy()) for name in before)


def _first_reason(outcome: Outcome) -> str:
    """Why a run gave no model: a refusal tells more than that 0 clients remain."""
    lost = [x for r in outcome.rounds for x in r.lost]
    refusal = next((f"[{x.code}] {x.reason}".strip() for x in lost if x.code), None)
    return refusal or next((r.failed for r in outcome.rounds if r.failed), lost[0].reason if lost else "no client")


@dataclass
class _Watch:
    """What looks at the rounds and models of a run as they come, and may end it: a callback, a rule, a public test set.

    Attributes:
        raised: what `on_round` raised; raised again once the round's model is there.
    """

    outcome: Outcome
    on_round: OnRound | None
    early: EarlyStop | None
    public: PublicTest | None = None
    strategy: AnyStrategy | None = None
    raised: list[Exception] = field(default_factory=list)

    def note(self, record: RoundRecord) -> Stop | None:
        """Takes a finished round."""
        record.lost[:] = [_explained(self.outcome.run_id, record, lost) for lost in record.lost]
        self.outcome.rounds.append(record)
        answer = None
        if self.on_round is not None and not self.raised:
            try:
                answer = self.on_round(record)
            except Exception as error:  # noqa: BLE001 - raised again, once the round's model is there
                self.raised.append(error)
        if self.early is not None:
            self._end(self.early.record(record))
        return answer

    def measure(self, round_: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Takes a model to the public test set."""
        assert self.public is not None
        found = self.public(round_, arrays)
        if found is not None:
            numbers = self.outcome.public[round_] = self.public.found[round_]
            if self.outcome.on_public is not None:
                self.outcome.on_public(round_, numbers)
            if self.early is not None:
                self._end(self.early.public(round_, numbers))
        return found

    def _end(self, reason: str) -> None:
        if reason and self.strategy is not None:
            self.strategy.end(reason)


def _clients_model(grid: Grid) -> ModelFn | None:
    """The model that the app's client builds for itself, where the grid can ask it: in one process."""
    ask: Callable[[], ModelFn | None] | None = getattr(grid, "clients_model", None)
    return ask() if ask is not None else None


def _explained(run_id: int, record: RoundRecord, lost: Lost) -> Lost:
    """A loss with the words of its refusal, where the node is of this process; a deployment's server learns codes only."""
    if lost.reason or not lost.code:
        return lost
    said = [
        text for round_, _, code, text in refusals(run_id, lost.node) if code == lost.code and round_ == record.round
    ]
    return dataclasses.replace(lost, reason=said[-1]) if said else lost


def _keep_models(
    cfg: Config, strategy: AnyStrategy, outcome: Outcome, raised: list[Exception], adapters: ArrayRecord | None
) -> None:
    """Notes each new model as it is made, so that a run which is stopped keeps its last one; sets the server's rate.

    `adapters` are those that the run starts from: where the first round leaves all of them as they were, it ends there.
    """
    aggregate, rate = strategy.aggregate_train, rate_of(cfg)

    def kept(server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        if rate is not None:
            setattr(strategy.inner, rate[0], rate[1] * server_factor(cfg, server_round))
        arrays, metrics = aggregate(server_round, replies)
        if arrays is not None:
            if adapters is not None and outcome.arrays is adapters and _same(adapters, arrays):
                raise RunFailed(
                    f"no adapter changed in round {server_round}: the nodes trained, and nothing of it is in the model. Look at "
                    "target_modules and the learning rate, and that the adapter is active"
                )
            outcome.arrays = arrays
            if outcome.on_model is not None:
                outcome.on_model(server_round, arrays)
        if raised:
            raise raised[0]
        return arrays, metrics

    strategy.aggregate_train = kept  # type: ignore[method-assign]

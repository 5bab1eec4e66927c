"""Experiment: provisions a simulation and runs it; however a run ends, it ends with a report. `aegis run` ends here."""

from __future__ import annotations

import dataclasses
import importlib
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.app import Context

from aegis_flower import report
from aegis_flower.client import aegis_client_app
from aegis_flower.configs import CARRIED, Config, EarlyStopConfig, SweepConfig, carry, parse_loss
from aegis_flower.errors import ConfigError, ReportError, RunFailed
from aegis_flower.interrupts import watched
from aegis_flower.node.keys import NAME
from aegis_flower.node.node import close_nodes
from aegis_flower.report import collect
from aegis_flower.report.collect import Clock
from aegis_flower.report.collect import clients_seen_by_server as _clients_seen_by_server
from aegis_flower.report.software import versions
from aegis_flower.server import Outcome, checkpoints, noise_multiplier, run_server
from aegis_flower.server_app import quiet_flower, server_report
from aegis_flower.simulations.inprocess import run_inprocess
from aegis_flower.simulations.provision import SimulatedNode, provision
from aegis_flower.strategies import OnRound
from aegis_flower.tracking import Trackers

if TYPE_CHECKING:
    from collections.abc import Callable

    from aegis_flower.metrics import Metric
    from aegis_flower.server import ModelFn

    OnPhase = Callable[[str], None]

__all__ = ["_clients_seen_by_server", "run_experiment", "server_report", "versions"]


def run_experiment(
    cfg: Config,
    folder: Path,
    *,
    overrides: Sequence[str] = (),
    on_round: OnRound | None = None,
    on_phase: OnPhase | None = None,
    client_app: Any = None,
    model: ModelFn | None = None,
    nodes: Sequence[Mapping[str, Any]] | None = None,
    metrics: Sequence[Metric] = (),
    **strategy_options: Any,
) -> report.RunReport:
    """Runs an experiment in this process and writes report, model and the model's card into `folder`.

    The report is written however the run ends: by a signal, an exception of `on_round` or of the app, a refusal. After the first
    SIGINT or SIGTERM the report is written and `KeyboardInterrupt` raised; the second one ends the process at once.

    Args:
        cfg: the configuration; ``runtime.kind`` must be ``inprocess`` or ``jailed``. The client app gets it as its run config.
        folder: where the report goes; made if needed. Without ``vault.root`` the nodes' vaults go there, too.
        overrides: what the user wrote, for the report.
        on_round: called after each round; where it returns `aegis_flower.STOP`, the run ends with that round's model.
        on_phase: called with what begins, in words, before the first round.
        client_app: a ClientApp of the user's in place of the configured one.
        model: builds the app's own model in place of the configured one, on both sides; takes nothing, or the `Spec` of the data.
            `client_app` may build the same itself.
        nodes: node configs of vaults that are there, one a node; None makes vaults of the configured data.
        metrics: the app's own, beside those of the configuration; a `client_app` gets the same by itself.
        strategy_options: further arguments of `SecureAggregation`, such as ``observer``.

    Returns:
        The report, also when the run was refused or gave no model; its ``run.status`` says which.

    Raises:
        ConfigError, DataError, VaultError: the simulation cannot be set up.
        ReportError: the report cannot be written.
        BaseException: what ended the run, if it was neither a refusal nor the loss of too many nodes; the report is there.
    """
    clock = Clock()
    folder.mkdir(parents=True, exist_ok=True)
    root = (Path(cfg.vault.root) if cfg.vault.root else folder / "vaults").resolve()
    cfg = dataclasses.replace(cfg, vault=dataclasses.replace(cfg.vault, root=str(root)))
    run_id = secrets.randbits(62) | 1
    outcome = Outcome(cfg, 0.0, run_id=run_id, own_metrics=tuple(metrics))
    made: list[SimulatedNode] = []
    trackers = Trackers(cfg, outcome, {})
    failure: BaseException | None = None
    without: float | None = None
    phase = on_phase or _silent
    with watched(), quiet_flower():
        try:
            _check(cfg)
            trackers = Trackers.of(cfg, outcome)
            phase("calibrating the noise")
            outcome.noise_multiplier = noise_multiplier(cfg)
            trackers.start(folder)
            outcome.on_model = checkpoints(cfg, folder, overrides, outcome)
            phase("making vaults")
            made = provision(cfg, root) if nodes is None else _own_nodes(cfg, nodes)
            clock.provision = time.monotonic() - clock.start
            since = time.monotonic()
            try:
                _load_torch(phase)
                _train(cfg, outcome, made, overrides, trackers.hear(on_round), client_app, model, strategy_options)
            finally:
                clock.train = time.monotonic() - since
            if cfg.compare and nodes is None and cfg.privacy.mode != "off":
                phase("the same without DP, to compare with")
                without = _without_dp(cfg, client_app, model)
        except BaseException as error:  # noqa: BLE001 - a report first; raised again below
            failure = error
        try:
            written = collect.write(cfg, folder, overrides, outcome, made, clock, failure, without)
        except ReportError as error:
            if failure is None or isinstance(failure, RunFailed):
                raise
            failure.add_note(f"and the report could not be written: {error}")
            raise failure from None
        else:
            written = trackers.end(written, folder)
        finally:
            close_nodes()
    if failure is not None and not isinstance(failure, RunFailed):
        failure.add_note(f"the report is in {folder}")
        raise failure
    return written


def _own_nodes(cfg: Config, nodes: Sequence[Mapping[str, Any]]) -> list[SimulatedNode]:
    """Nodes whose vaults are there.

    Raises:
        ConfigError: as many as `data.clients` are expected.
    """
    if len(nodes) != cfg.data.clients:
        raise ConfigError("data.clients", f"is {cfg.data.clients}, and {len(nodes)} nodes were given")
    return [
        SimulatedNode(str(node.get(NAME) or f"node-{at + 1}"), dict(node), made=False) for at, node in enumerate(nodes)
    ]


def _load_torch(phase: OnPhase) -> None:
    """Here, so that it is told apart from the first round."""
    phase("loading torch")
    importlib.import_module("torch")
    phase("training, first round")


def _silent(_: str) -> None:
    """Nobody listens."""


def _check(cfg: Config) -> None:
    """What cannot be here is said before vaults are made."""
    if cfg.privacy.on and cfg.privacy.delta > cfg.policy.delta:
        raise ConfigError(
            "privacy.delta",
            f"{cfg.privacy.delta:g} is above policy.delta={cfg.policy.delta:g}, which the data's terms allow; lower it",
        )
    _check_runtime(cfg)


def _check_runtime(cfg: Config) -> None:
    p, jailed = cfg.privacy, cfg.runtime.kind == "jailed"
    if p.mode == "blocks" and not jailed:
        raise ConfigError(
            "privacy.mode",
            f"blocks train in jails of their own, and runtime.kind={cfg.runtime.kind} has none; take runtime=jailed",
        )
    if jailed and not p.whole:
        raise ConfigError(
            "runtime.kind",
            f"in a jail the engine noises what comes back whole: take privacy=update or privacy=blocks, not {p.mode}",
        )
    if jailed and cfg.evaluation_rounds != "never":
        raise ConfigError(
            "evaluation.rounds",
            "nothing counts held-out rows in a jail; take never, and measure on public rows of the server (evaluation.server)",
        )
    if cfg.runtime.app is not None and not jailed:
        raise ConfigError("runtime.app", "is for runtime=jailed; `aegis run --app` or `flwr run` take apps elsewhere")


def _client_app(cfg: Config, model: ModelFn | None, metrics: Sequence[Metric]) -> Any:
    """The app of the nodes where the caller brings none."""
    if cfg.runtime.kind == "jailed":
        from aegis_flower.jailed.app import experiment_app

        return experiment_app(cfg)
    return aegis_client_app(config=cfg, model=model, metrics=metrics)


def _train(
    cfg: Config,
    outcome: Outcome,
    nodes: list[SimulatedNode],
    overrides: Sequence[str],
    on_round: OnRound | None,
    client_app: Any,
    model: ModelFn | None,
    strategy_options: dict[str, Any],
) -> None:
    from flwr.serverapp import ServerApp

    app = ServerApp()

    @app.main()
    def main(grid: Any, context: Context) -> None:
        run_server(cfg, grid, outcome, on_round, model=model, **strategy_options)

    try:
        run_inprocess(
            app,
            client_app or _client_app(cfg, model, outcome.own_metrics),
            [n.node_config for n in nodes],
            run_config={CARRIED: carry(cfg, overrides, "")},
            run_id=outcome.run_id,
            workers=cfg.runtime.workers,
            lose=[parse_loss(text) for text in cfg.runtime.lose],
        )
    finally:
        close_nodes()
        if cfg.runtime.kind == "jailed":
            from aegis_flower.jailed.pool import close_jails

            close_jails()


def _without_dp(cfg: Config, client_app: Any, model: ModelFn | None) -> float | None:
    """Final accuracy of the same run without DP, on throw-away vaults of the same rows."""
    with tempfile.TemporaryDirectory(prefix="aegis-compare-") as name:
        other = dataclasses.replace(
            cfg,
            compare=False,
            vault=dataclasses.replace(cfg.vault, root=None),
            policy=dataclasses.replace(cfg.policy, require_dp=False),
            privacy=dataclasses.replace(cfg.privacy, mode="off", noise="secure"),
            evaluation=dataclasses.replace(cfg.evaluation, rounds="last", server=None),
            strategy=dataclasses.replace(cfg.strategy, early_stop=EarlyStopConfig()),
            sweep=SweepConfig(),
            tracking=dataclasses.replace(cfg.tracking, html=False, to=[]),
        )
        return run_experiment(other, Path(name), client_app=client_app, model=model).results.accuracy

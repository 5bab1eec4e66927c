"""Experiment: provisions a simulation, runs it, and writes the report. `aegis run` ends here."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import platform
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context

from aegis_engine import Vault, audit_verify
from aegis_flower import datasets, report
from aegis_flower.client import aegis_client_app
from aegis_flower.config import Config, parse_loss
from aegis_flower.errors import AegisError, AuditError, DataError, RunFailed
from aegis_flower.gate import COUNTS, HISTOGRAMS
from aegis_flower.ingest import SimulatedNode, provision
from aegis_flower.ledger import NEIGHBOURING, SAMPLER, UNIT, Ledger, Mechanism, epsilon
from aegis_flower.node import close_nodes
from aegis_flower.server import OnRound, Outcome, aegis_server_app, noise_multiplier, run_server
from aegis_flower.simulations.inprocess import run_inprocess
from aegis_flower.strategies import RoundRecord, SecureAggregation

ClientAppMaker = Callable[..., Any]


@dataclasses.dataclass
class _Clock:
    """Wall time by phase."""

    started: str = dataclasses.field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    start: float = dataclasses.field(default_factory=time.monotonic)
    provision: float | None = None
    train: float | None = None

    def timings(self, since_report: float) -> report.TimingsReport:
        now = time.monotonic()
        return report.TimingsReport(
            provision=self.provision, train=self.train, report=now - since_report, total=now - self.start
        )


def versions() -> report.VersionsReport:
    """Versions of what ran, and which engine was loaded, from where, with its digest."""
    import aegis_engine._native as native

    def of(name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    path = Path(str(native.__file__))
    return report.VersionsReport(
        aegis_flower=of("aegis-flower") or "unknown",
        aegis_engine=of("aegis-flower-engine"),
        engine_digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        engine_path=str(path),
        flwr=of("flwr"),
        torch=of("torch"),
        opacus=of("opacus"),
        dp_accounting=of("dp-accounting"),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
    )


def run_experiment(
    cfg: Config,
    folder: Path,
    *,
    overrides: Sequence[str] = (),
    on_round: OnRound | None = None,
    client_app: Any = None,
    **strategy_options: Any,
) -> report.RunReport:
    """Runs an experiment in this process and writes ``report.json``, ``report.html`` and ``model.npz`` into `folder`.

    Args:
        cfg: the configuration; ``runtime.kind`` must be ``inprocess``.
        folder: where the report goes; made if needed. Without ``vault.root`` the nodes' vaults go there, too.
        overrides: what the user wrote, for the report.
        on_round: called after each round, for progress.
        client_app: a ClientApp of the user's in place of the configured one.
        strategy_options: further arguments of `SecureAggregation`, such as ``observer``.

    Returns:
        The report, also when the run was refused or failed; its ``run.status`` says which.

    Raises:
        DataError, VaultError: the simulation cannot be set up.
    """
    clock = _Clock()
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(cfg.vault.root) if cfg.vault.root else folder / "vaults"
    cfg = dataclasses.replace(cfg, vault=dataclasses.replace(cfg.vault, root=str(root)))
    nodes = provision(cfg, root)
    clock.provision = time.monotonic() - clock.start
    run_id = secrets.randbits(62) | 1
    outcome = Outcome(cfg, noise_multiplier(cfg), run_id=run_id)
    failure: AegisError | None = None
    since = time.monotonic()
    try:
        from flwr.serverapp import ServerApp

        app = ServerApp()

        @app.main()
        def main(grid: Any, context: Context) -> None:
            run_server(cfg, grid, outcome, on_round, **strategy_options)

        run_inprocess(
            app,
            client_app or aegis_client_app(config=cfg),
            [n.node_config for n in nodes],
            run_id=run_id,
            workers=cfg.runtime.workers,
            lose=[parse_loss(text) for text in cfg.runtime.lose],
        )
    except RunFailed as error:
        failure = error
    finally:
        close_nodes()
    clock.train = time.monotonic() - since
    without = _without_dp(cfg) if cfg.compare and cfg.privacy.mode != "off" and failure is None else None
    return _write(cfg, folder, overrides, outcome, nodes, clock, failure, without)


def _without_dp(cfg: Config) -> float | None:
    """Final accuracy of the same run without DP, on throw-away vaults of the same rows."""
    with tempfile.TemporaryDirectory(prefix="aegis-compare-") as name:
        other = dataclasses.replace(
            cfg,
            compare=False,
            vault=dataclasses.replace(cfg.vault, root=None),
            policy=dataclasses.replace(cfg.policy, require_dp=False),
            privacy=dataclasses.replace(cfg.privacy, mode="off"),
            tracking=dataclasses.replace(cfg.tracking, html=False),
        )
        return run_experiment(other, Path(name)).results.accuracy


@contextmanager
def server_report(
    cfg: Config, folder: Path, overrides: Sequence[str], context: Context
) -> Iterator[tuple[Outcome, OnRound | None]]:
    """Collects what a deployment's server knows and writes its report, also when the run fails.

    Rows, ledgers and logs stay with the nodes; of those the report says nothing.
    """
    clock = _Clock()
    outcome = Outcome(cfg, noise_multiplier(cfg), run_id=context.run_id)
    failure: AegisError | None = None
    since = time.monotonic()
    try:
        yield outcome, _print_round
    except RunFailed as error:
        failure = error
        raise
    finally:
        clock.train = time.monotonic() - since
        folder.mkdir(parents=True, exist_ok=True)
        written = _write(cfg, folder, overrides, outcome, [], clock, failure, None)
        print(f"aegis: {_headline(written)}", flush=True)  # noqa: T201 - `flwr run --stream` shows the app's output
        print(f"aegis: report {folder / report.JSON_NAME}", flush=True)  # noqa: T201


def _print_round(record: RoundRecord) -> None:
    lost = f", lost {[(x.node, x.step, x.code or x.reason) for x in record.lost]}" if record.lost else ""
    state = record.failed or f"{len(record.participants)} clients in the sum"
    print(f"aegis: round {record.round} {record.task}: {state}{lost}", flush=True)  # noqa: T201 - see `server_report`


def _headline(written: report.RunReport) -> str:
    r = written.results
    accuracy = f"{r.accuracy:.4f}" if r.accuracy is not None else "unknown"
    return f"run {written.run.status}, accuracy {accuracy} over {r.test_rows or 0} held-out rows"


# -- the report ---------------------------------------------------------------------------------------------------


def _write(
    cfg: Config,
    folder: Path,
    overrides: Sequence[str],
    outcome: Outcome,
    nodes: list[SimulatedNode],
    clock: _Clock,
    failure: AegisError | None,
    without_dp: float | None,
) -> report.RunReport:
    since = time.monotonic()
    weights: dict[str, Any] = {n: a.numpy() for n, a in outcome.arrays.items()}
    np.savez(folder / "model.npz", **weights)
    names = {i + 1: n.name for i, n in enumerate(nodes)}
    clients = [_client(cfg, outcome, i + 1, n) for i, n in enumerate(nodes)] or _clients_seen_by_server(cfg, outcome)
    final = next((r.metrics for r in reversed(outcome.rounds) if r.task == "evaluate" and r.metrics), {})
    spent = [c.epsilon for c in clients if c.epsilon is not None]
    private = cfg.privacy.mode == "example" and cfg.privacy.noise == "secure"
    files = {"report": report.JSON_NAME, "model": "model.npz"}
    if cfg.tracking.html:
        files["html"] = report.HTML_NAME
    written = report.RunReport(
        run=report.RunInfo(
            id=str(outcome.run_id),
            name=cfg.name,
            experiment=cfg.name,
            started=clock.started,
            runtime=cfg.runtime.kind,
            seed=cfg.seed,
            status=_status(outcome, failure),
            reason=str(failure) if failure else None,
            private=private,
            labels=() if private else (report.NOT_PRIVATE,),
        ),
        config=report.ConfigReport(resolved=cfg.to_dict(), sha256=cfg.sha256, overrides=tuple(overrides)),
        versions=versions(),
        rounds=tuple(_rounds(cfg, outcome, names, clients)),
        clients=tuple(clients),
        results=report.ResultsReport(
            accuracy=_ratio(final, "correct"),
            majority_class_accuracy=_majority(cfg) if nodes else None,
            accuracy_without_dp=without_dp,
            loss=final["loss_milli"] / 1000 / final["examples"] if final.get("examples") else None,
            test_rows=final.get("examples"),
            epsilon_max=max(spent) if spent else None,
            unnoised_outputs=_unnoised(cfg),
        ),
        secagg=_secagg(cfg, outcome),
        timings=clock.timings(since),
        files=files,
    )
    report.write_report(written, folder, html=cfg.tracking.html)
    return written


def _status(outcome: Outcome, failure: AegisError | None) -> Any:
    if failure is None:
        return "finished"
    codes = [x.code for r in outcome.rounds for x in r.lost if x.code]
    return "refused" if codes and all(c.startswith(("AEG-B", "AEG-P")) for c in codes) else "failed"


def _ratio(metrics: dict[str, int], key: str) -> float | None:
    return metrics[key] / metrics["examples"] if metrics.get("examples") else None


def _unnoised(cfg: Config) -> tuple[str, ...]:
    over = "secure sums only" if cfg.secagg.enabled else "each client's, in clear"
    names = [*COUNTS, *(f"histogram of {h.name}" for h in HISTOGRAMS)]
    outputs = [f"counts over held-out rows, which are never trained on: {', '.join(names)} ({over})"]
    if cfg.secagg.weighting == "rows" or not cfg.secagg.enabled:
        outputs.append(f"number of training rows, as weights ({over})")
    outputs.append("which clients took part in which round, and error codes")
    if cfg.privacy.mode == "off":
        outputs.insert(0, f"the model updates ({over})")
    return tuple(outputs)


def _rounds(
    cfg: Config, outcome: Outcome, names: dict[int, str], clients: list[report.ClientReport]
) -> Iterator[report.RoundReport]:
    # The metrics of training round r are those of the model sent out in r, which is the result of round r - 1.
    measured: dict[int, dict[str, int]] = {}
    for r in outcome.rounds:
        measured[r.round - 1 if r.task == "train" else r.round] = r.metrics
    has_epsilon = any(c.epsilon is not None for c in clients)
    trained: Counter[int] = Counter()
    for r in (x for x in outcome.rounds if x.task == "train"):
        # Whoever was asked to train is charged, also when the reply was lost.
        refused = {x.node for x in r.lost if x.step in ("advertise", "share") or x.code.startswith(("AEG-B", "AEG-P0"))}
        asked = (set(r.participants) | {x.node for x in r.lost}) - refused
        for node in asked:
            trained[node] += cfg.privacy.steps_per_round
        most = max(trained.values(), default=0)
        metrics = measured.get(r.round, {})
        yield report.RoundReport(
            round=r.round,
            accuracy=_ratio(metrics, "correct"),
            loss=metrics["loss_milli"] / 1000 / metrics["examples"] if metrics.get("examples") else None,
            epsilon_max=_privacy_of(cfg, outcome, most)["epsilon"] if has_epsilon else None,
            participants=tuple(_name(names, n) for n in r.participants),
            lost=tuple(
                report.LostClient(node=_name(names, x.node), step=x.step, reason=x.reason or "unknown") for x in r.lost
            ),
            weight_total=float(r.weight) if r.participants else None,
            seconds=report.RoundSeconds(
                **{k: r.seconds[k] for k in ("share", "train", "unmask", "total") if k in r.seconds}
            ),
            metrics={k: float(v) for k, v in metrics.items()},
        )


def _name(names: dict[int, str], node: int) -> str:
    return names.get(node, f"node-{node}")


def _privacy_of(cfg: Config, outcome: Outcome, steps: int) -> dict[str, Any]:
    if cfg.privacy.mode == "off":
        return {}
    mechanism = Mechanism(outcome.noise_multiplier, cfg.privacy.sample_rate)
    return {
        "epsilon": epsilon({mechanism: steps}, cfg.privacy.delta),
        "delta": cfg.privacy.delta,
        "unit": UNIT,
        "neighbouring": NEIGHBOURING,
        "sampler": SAMPLER,
        "accountant": "pld",
        "noise_multiplier": outcome.noise_multiplier,
        "sample_rate": cfg.privacy.sample_rate,
        "steps": steps,
        "noise": cfg.privacy.noise,
    }


def _refusals(outcome: Outcome, node: int) -> tuple[report.Refusal, ...]:
    return tuple(
        report.Refusal(round=r.round, code=x.code, reason=x.reason)
        for r in outcome.rounds
        for x in r.lost
        if x.node == node and x.code
    )


def _client(cfg: Config, outcome: Outcome, node_id: int, node: SimulatedNode) -> report.ClientReport:
    """What a simulated node's own vault says, read as its operator would."""
    run = str(outcome.run_id)
    vault = Vault.open(str(node.node_config["aegis-vault"]), key_file=str(node.node_config["aegis-key-file"]))
    dataset = str(node.node_config["aegis-dataset"])
    decisions = [r for r in vault.audit_records("authorize") if r.get("run") == run and r.get("action") == "train"]
    allowed = [r for r in decisions if r.get("decision") == "allow"]
    newest: dict[str, Any] = allowed[-1] if allowed else (decisions[-1] if decisions else {})
    ledger = Ledger(vault, dataset)
    steps = ledger.spent(cfg.privacy.delta, run).steps if cfg.privacy.mode == "example" else 0
    records, head = vault.audit_head()
    try:
        audit_verify(str(Path(vault.path) / "audit"), expect=outcome_checkpoint(outcome, node_id))
        verified = True
    except AuditError:
        verified = False
    return report.ClientReport(
        node=node.name,
        **_privacy_of(cfg, outcome, steps),
        budget_epsilon=cfg.policy.budget_epsilon if cfg.privacy.mode == "example" else None,
        # A request refused as a whole decides on no rows: its record has null for both.
        rows_allowed=int(newest["rows_allowed"]) if newest.get("rows_allowed") is not None else None,
        rows_denied={str(k): int(v) for k, v in (newest.get("rows_denied") or {}).items()},
        rounds_taken_part=sum(node_id in r.participants for r in outcome.rounds if r.task == "train"),
        audit=report.AuditReport(records=records, head=head.hex(), verified=verified),
        refusals=_refusals(outcome, node_id),
    )


def outcome_checkpoint(outcome: Outcome, node_id: int) -> tuple[int, bytes] | None:
    """The audit checkpoint of a node that the server kept as a witness."""
    strategy = outcome.strategy
    return strategy.checkpoints.get(node_id) if isinstance(strategy, SecureAggregation) else None


def _clients_seen_by_server(cfg: Config, outcome: Outcome) -> list[report.ClientReport]:
    """Upper bounds from what the server asked for; what nodes hold is not the server's to know."""
    nodes = sorted({n for r in outcome.rounds for n in [*r.participants, *(x.node for x in r.lost)]})
    trained = [r for r in outcome.rounds if r.task == "train"]
    clients = []
    for node in nodes:
        asked = sum(
            node in r.participants or any(x.node == node and x.step in ("masked", "unmask", "train") for x in r.lost)
            for r in trained
        )
        checkpoint = outcome_checkpoint(outcome, node)
        clients.append(
            report.ClientReport(
                node=f"node-{node}",
                **_privacy_of(cfg, outcome, asked * cfg.privacy.steps_per_round),
                rounds_taken_part=sum(node in r.participants for r in trained),
                audit=report.AuditReport(records=checkpoint[0], head=checkpoint[1].hex(), verified=False)
                if checkpoint
                else None,
                refusals=_refusals(outcome, node),
            )
        )
    return clients


def _majority(cfg: Config) -> float | None:
    """Accuracy of always naming the most frequent class, over all rows of the source."""
    try:
        source, _ = datasets.load(cfg.data)
    except DataError:
        return None  # the files are gone since the vaults were made
    return float(np.bincount(source.labels).max() / len(source))


def _secagg(cfg: Config, outcome: Outcome) -> report.SecAggReport:
    s = outcome.strategy
    if not isinstance(s, SecureAggregation):
        return report.SecAggReport(enabled=False)
    return report.SecAggReport(
        enabled=True,
        profile="S",
        threshold=s.threshold or None,
        cohort=max((len(r.participants) + len(r.lost) for r in outcome.rounds), default=0),
        ring_bits=s.ring_bits or None,
        value_bits=cfg.secagg.value_bits,
        bytes_up_per_client=max((r.bytes_up for r in outcome.rounds), default=0),
    )


__all__ = ["aegis_server_app", "run_experiment", "server_report", "versions"]

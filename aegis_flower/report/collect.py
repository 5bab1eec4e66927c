"""Builds a run's report from what the server knows and, in a simulation, from the books of its nodes (`report_books`)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aegis_flower import data as datasets
from aegis_flower import report
from aegis_flower.checkpoint import CHECKPOINT, STATEFUL
from aegis_flower.configs import Config
from aegis_flower.errors import AegisError, ConfigError, DataError, RunFailed
from aegis_flower.ledger import RoundMechanism, epsilon
from aegis_flower.report import artifacts, books
from aegis_flower.report.books import Book
from aegis_flower.report.measured import accuracy_sd, noise_of, rows_of, told
from aegis_flower.report.outputs import largest, noised, unnoised
from aegis_flower.report.software import versions
from aegis_flower.report.write import previous_of
from aegis_flower.server import Outcome
from aegis_flower.simulations.provision import SimulatedNode, minimum_rows
from aegis_flower.strategies import RoundRecord, SecureAggregation

MISMATCH = "CONFIGURATION MISMATCH"
# A refusal that says no for good reason, in place of one that tells of a fault.
_NO = ("AEG-B", "AEG-P", "AEG-N011", "AEG-N012", "AEG-V021")


@dataclasses.dataclass
class Clock:
    """Wall time by phase."""

    started: str = dataclasses.field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    start: float = dataclasses.field(default_factory=time.monotonic)
    provision: float | None = None
    train: float | None = None

    def timings(self, since_report: float) -> report.TimingsReport:
        """As a report has them."""
        now = time.monotonic()
        return report.TimingsReport(
            provision=self.provision, train=self.train, report=now - since_report, total=now - self.start
        )


def write(
    cfg: Config,
    folder: Path,
    overrides: Sequence[str],
    outcome: Outcome,
    nodes: list[SimulatedNode],
    clock: Clock,
    failure: BaseException | None,
    without_dp: float | None = None,
    *,
    runtime: str | None = None,
) -> report.RunReport:
    """Writes the model and the report of a run, however it ended.

    Args:
        cfg: the experiment.
        folder: where the files go.
        overrides: what the user wrote.
        outcome: what the server side came to, so far.
        nodes: nodes of a simulation, whose books are read; none in a deployment.
        clock: when what was done.
        failure: what ended the run; None when it finished.
        without_dp: accuracy of the same run without DP.
        runtime: where the apps ran, if not where the configuration says.

    Raises:
        ReportError: the report cannot be written.
    """
    since = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    warnings = [*outcome.problems, *artifacts.write_model(cfg, outcome.arrays, folder, outcome.base)]
    if cfg.model.init is not None:
        warnings.append(f"the model started from {cfg.model.init}; rounds before that are in another report")
        if Path(cfg.model.init).name == CHECKPOINT and cfg.strategy.name in STATEFUL:
            warnings.append(
                f"the moments of {cfg.strategy.name} started anew, which a run in one piece would not have done"
            )
    run = str(outcome.run_id)
    read = [books.read(n, run, checkpoint(outcome, i + 1)) for i, n in enumerate(nodes)]
    names = {i + 1: n.name for i, n in enumerate(nodes)}
    clients = [_client(outcome, i + 1, b) for i, b in enumerate(read)] or clients_seen_by_server(cfg, outcome)
    warnings += [problem for b in read for problem in b.problems]
    differences = list(books.differences(cfg, outcome.noise_multiplier, read))
    private = is_private(cfg, read)
    labels = (() if private else (report.NOT_PRIVATE,)) + ((MISMATCH,) if differences else ())
    last = next((r for r in reversed(outcome.rounds) if measured(r)), None)
    final = last.metrics if last is not None else {}
    files = {"report": report.JSON_NAME, **artifacts.files(outcome.arrays, folder)}
    if cfg.tracking.html:
        files["html"] = report.HTML_NAME
    written = report.RunReport(
        run=report.RunInfo(
            id=run,
            name=cfg.name,
            experiment=cfg.name,
            started=clock.started,
            runtime=runtime or cfg.runtime.kind,
            trust=trust(cfg, runtime or cfg.runtime.kind),
            seed=cfg.seed,
            status=status(outcome, failure),
            reason=_reason(failure),
            stopped=outcome.stopped or None,
            private=private,
            labels=labels,
            warnings=(*differences, *warnings),
        ),
        config=report.ConfigReport(resolved=cfg.to_dict(), sha256=cfg.sha256, overrides=tuple(overrides)),
        versions=versions(),
        rounds=tuple(_rounds(cfg, outcome, names, read)),
        clients=tuple(clients),
        results=report.ResultsReport(
            accuracy=outcome.metrics.read(final).get("accuracy"),
            accuracy_sd=accuracy_sd(cfg, last, read) if last is not None else None,
            majority_class_accuracy=majority(cfg) if nodes and all(n.made for n in nodes) else None,
            accuracy_without_dp=without_dp,
            loss=outcome.metrics.read(final).get("loss"),
            test_rows=rows_of(outcome.metrics, final),
            metrics=tuple(told(outcome.metrics, last, noise_of(cfg, read), read)) if last is not None else (),
            public_metrics=outcome.public[max(outcome.public)] if outcome.public else {},
            epsilon_max=largest(c.epsilon for c in clients),
            epsilon_total_max=largest(c.epsilon_total for c in clients),
            epsilon_person_max=largest(c.epsilon_person for c in clients),
            noised_outputs=tuple(noised(cfg, read, outcome.metrics)),
            unnoised_outputs=tuple(unnoised(cfg, read, outcome.metrics)),
        ),
        secagg=_secagg(cfg, outcome),
        timings=clock.timings(since),
        files=files,
    )
    artifacts.write_card(written, cfg, outcome.arrays, folder)
    before = previous_of(written, folder) if cfg.tracking.html else None
    report.write_report(written, folder, html=cfg.tracking.html, previous=before)
    return written


def trust(cfg: Config, runtime: str) -> Literal["embedded", "any", "blocks"] | None:
    """What the app at the nodes was trusted with; None where each node decides for itself."""
    if runtime == "deployment":
        return None
    if runtime != "jailed":
        return "embedded"
    return "blocks" if cfg.privacy.mode == "blocks" else "any"


# -- how it ended ---------------------------------------------------------------------------------------------------


def status(outcome: Outcome, failure: BaseException | None) -> Any:
    """How a run ended."""
    if failure is None:
        return "finished"
    if isinstance(failure, KeyboardInterrupt):
        return "interrupted"
    if not isinstance(failure, RunFailed):
        return "failed"
    codes = [x.code for r in outcome.rounds for x in r.lost if x.code]
    return "refused" if codes and all(c.startswith(_NO) for c in codes) else "failed"


def _reason(failure: BaseException | None) -> str | None:
    if failure is None:
        return None
    if isinstance(failure, AegisError | KeyboardInterrupt):
        return str(failure) or "interrupted"
    return f"{type(failure).__name__}: {failure}"


def is_private(cfg: Config, read: list[Book]) -> bool:
    """Whether every release of the run carried secure noise, by the engine's records; without any, by the configuration."""
    seen = {dp for book in read for dp in book.dp | book.counts_dp}
    return cfg.privacy.on and cfg.privacy.noise == "secure" and seen <= {"secure"}


# -- rounds ---------------------------------------------------------------------------------------------------------


def measured(record: RoundRecord) -> bool:
    """Whether a round's sums hold an evaluation."""
    return sum(n for name, n in record.metrics.items() if name.partition("@")[0] == "examples") > 0


def _rounds(cfg: Config, outcome: Outcome, names: dict[int, str], read: list[Book]) -> Iterator[report.RoundReport]:
    # The metrics of training round r are those of the model sent out in r, which is the result of round r - 1.
    of_model: dict[int, dict[str, int]] = {}
    for r in outcome.rounds:
        if measured(r):
            of_model[r.round - 1 if r.task == "train" else r.round] = r.metrics
    accounts = [b.train for b in read if b.train is not None and b.train.mechanisms]
    asked = 0
    for r in outcome.rounds:
        if r.task != "train":
            continue
        asked += 1
        metrics = of_model.get(r.round, {})
        spent = largest(books.epsilon_until(a, r.round) for a in accounts)
        if not read:
            spent = _bound(cfg, outcome, asked)
        yield report.RoundReport(
            round=r.round,
            accuracy=outcome.metrics.read(metrics).get("accuracy"),
            loss=outcome.metrics.read(metrics).get("loss"),
            epsilon_max=spent,
            participants=tuple(_name(names, n) for n in r.participants),
            lost=tuple(
                report.LostClient(
                    node=_name(names, x.node),
                    step=x.step,
                    reason=x.reason or ("the node's log has the reason" if x.code else "unknown"),
                    code=x.code or None,
                )
                for x in r.lost
            ),
            weight_total=float(r.weight) if r.participants else None,
            seconds=report.RoundSeconds(
                **{k: r.seconds[k] for k in ("share", "train", "unmask", "total") if k in r.seconds}
            ),
            trips=r.trips or None,
            bytes_up=r.bytes_up or None,
            metrics={k: float(v) for k, v in metrics.items()},
            public_metrics=outcome.public.get(r.round, {}),
        )


def _name(names: dict[int, str], node: int) -> str:
    return names.get(node, f"node-{node}")


# -- clients --------------------------------------------------------------------------------------------------------


def _refusals(outcome: Outcome, node: int) -> tuple[report.Refusal, ...]:
    return tuple(
        report.Refusal(round=r.round, code=x.code, reason=x.reason or "the node's log has the reason")
        for r in outcome.rounds
        for x in r.lost
        if x.node == node and x.code
    )


def _client(outcome: Outcome, node_id: int, book: Book) -> report.ClientReport:
    noise = next(iter(book.dp)) if len(book.dp) == 1 else ", ".join(sorted(book.dp)) or None
    private = book.train is not None and (book.train.mechanisms or book.dp - {"off"} or not book.dp)
    return report.ClientReport(
        node=book.name,
        **(books.privacy_fields(book.train, noise) if private and book.train is not None else {"noise": noise}),
        evaluation=books.evaluation(book.holdout) if book.holdout is not None and book.holdout.mechanisms else None,
        rows_allowed=book.rows_allowed,
        rows_denied=book.rows_denied,
        rounds_taken_part=sum(node_id in r.participants for r in outcome.rounds if r.task == "train"),
        audit=book.audit,
        refusals=_refusals(outcome, node_id),
    )


def checkpoint(outcome: Outcome, node_id: int) -> tuple[int, bytes] | None:
    """The audit checkpoint of a node that the server kept as a witness."""
    strategy = outcome.strategy
    return strategy.checkpoints.get(node_id) if isinstance(strategy, SecureAggregation) else None


def called(outcome: Outcome, node_id: int) -> str | None:
    """What a node calls itself, where it said so. Other nodes may say the same: a name is told beside the number."""
    strategy = outcome.strategy
    name = strategy.names.get(node_id) if isinstance(strategy, SecureAggregation) else None
    return name if name and name != f"node-{node_id}" else None


def _bound(cfg: Config, outcome: Outcome, rounds: int) -> float | None:
    """The most that so many rounds cost a data set, if the nodes do what the configuration says."""
    if cfg.privacy.mode == "off" or not outcome.noise_multiplier:
        return None
    mechanism = RoundMechanism.of(cfg.privacy, outcome.noise_multiplier)
    return epsilon({mechanism.step: rounds * mechanism.steps}, cfg.privacy.delta)


def clients_seen_by_server(cfg: Config, outcome: Outcome) -> list[report.ClientReport]:
    """Upper bounds from what the server asked for; what nodes hold is not the server's to know.

    A SuperNode that was restarted comes back under another number, with the same vault: the bound of each is over all rounds
    that were asked of anybody.
    """
    nodes = sorted({n for r in outcome.rounds for n in [*r.participants, *(x.node for x in r.lost)]})
    trained = [r for r in outcome.rounds if r.task == "train"]
    bound = _bound(cfg, outcome, len(trained))
    stated: dict[str, Any] = {}
    if bound is not None:
        mechanism = RoundMechanism.of(cfg.privacy, outcome.noise_multiplier)
        stated = {
            **books.stated("upper_bound", mechanism.step, len(trained) * mechanism.steps, cfg.privacy.noise),
            "epsilon": bound,
            "delta": cfg.privacy.delta,
        }
    clients = []
    for node in nodes:
        kept = checkpoint(outcome, node)
        clients.append(
            report.ClientReport(
                node=f"node-{node}",
                name=called(outcome, node),
                **stated,
                rows_denied=None,
                rounds_taken_part=sum(node in r.participants for r in trained),
                audit=report.AuditReport(records=kept[0], head=kept[1].hex(), verified=None) if kept else None,
                refusals=_refusals(outcome, node),
            )
        )
    return clients


def majority(cfg: Config) -> float | None:
    """Accuracy of always naming the most frequent class, over the rows that a simulation holds out: those that accuracy is of."""
    try:
        source, _ = datasets.load(cfg.data)
        parts = datasets.partition(source.labels, cfg.data, cfg.seed, minimum_rows(cfg))
        held = [part[datasets.split(len(part), cfg.data, cfg.seed, i).holdout] for i, part in enumerate(parts)]
    except (DataError, ConfigError):
        return None  # the files are gone since the vaults were made
    labels = source.labels[np.concatenate(held)]
    return float(np.bincount(labels).max() / len(labels))


def _secagg(cfg: Config, outcome: Outcome) -> report.SecAggReport:
    s = outcome.strategy
    if not isinstance(s, SecureAggregation):
        return report.SecAggReport(enabled=cfg.secagg.enabled and s is None)
    return report.SecAggReport(
        enabled=True,
        profile="D" if s.plan.sparse else "S",
        threshold=s.threshold or None,
        cohort=max((r.cohort for r in outcome.rounds), default=0),
        ring_bits=s.ring_bits or None,
        value_bits=cfg.secagg.value_bits,
        bytes_up_per_client=max((r.bytes_up for r in outcome.rounds), default=0),
    )

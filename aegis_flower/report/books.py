"""Books: what a simulated node's own vault says of a run, read as its operator would: ledger, releases, permits, audit log.

The numbers about privacy in a report come from here. Nothing is recomputed from the run's configuration, which may not be what
the nodes did; `differences` says where the two part.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aegis_engine import ComplianceEngine, Vault, audit_verify
from aegis_flower import report
from aegis_flower.configs import Config
from aegis_flower.errors import AegisError, AuditError
from aegis_flower.ledger import (
    ALL,
    NEIGHBOURING,
    SAMPLER,
    UNIT,
    Ledger,
    Mechanism,
    RoundMechanism,
    epsilon,
    mechanism_of,
)
from aegis_flower.mechanism import WHOLE
from aegis_flower.node.keys import DATASET, KEY_FILE, VAULT
from aegis_flower.node.node import HOLDOUT
from aegis_flower.simulations.provision import SimulatedNode

ACCOUNTANT = "pld"


@dataclass(frozen=True)
class Account:
    """One ledger's state after a run.

    Attributes:
        by_round: steps by mechanism that the run was charged for, by round.
        delta: δ of the data's terms.
        rows: rows of the person with most of them; None where no permit said so.
    """

    epsilon: float | None
    epsilon_total: float | None
    epsilon_person: float | None
    epsilon_total_person: float | None
    delta: float
    budget: float
    rows: int | None
    mechanisms: Counter[Mechanism]
    by_round: dict[int, Counter[Mechanism]]


@dataclass
class Book:
    """What a node's vault says of one run.

    Attributes:
        train: the training data's account; None where it cannot be read.
        holdout: that of the held-out rows; None where there are none.
        dp: protections of the run's releases of updates, as the engine saw them: ``secure``, ``insecure_test``, ``off``.
        counts_dp: those of its releases of counts.
        counts_noise: multipliers of the counts' noise.
        counts_blocks: how many statistics they were told by together, which the noise of each covers.
        problems: what could not be read, in words.
    """

    name: str
    train: Account | None = None
    holdout: Account | None = None
    dp: set[str] = field(default_factory=set)
    counts_dp: set[str] = field(default_factory=set)
    counts_noise: set[float] = field(default_factory=set)
    counts_blocks: int = 0
    rows_allowed: int | None = None
    rows_denied: dict[str, int] | None = None
    audit: report.AuditReport | None = None
    problems: list[str] = field(default_factory=list)


def read(node: SimulatedNode, run: str, checkpoint: tuple[int, bytes] | None) -> Book:
    """Opens a simulated node's vault and reads what it says of `run`. What cannot be read is unknown, and named."""
    book = Book(node.name)
    try:
        vault = Vault.open(str(node.node_config[VAULT]), key_file=str(node.node_config[KEY_FILE]))
        engine = ComplianceEngine(vault)
        ids = {str(entry["name"]): str(entry["id"]) for entry in vault.list()}
        decisions = vault.audit_records("authorize")
        _permits(book, decisions, run)
        _releases(book, vault.audit_records("release"), run)
        dataset = str(node.node_config[DATASET])
        for name, attribute in ((dataset, "train"), (dataset + HOLDOUT, "holdout")):
            if name in ids:
                setattr(book, attribute, _account(vault, engine, ids[name], decisions, run))
        book.audit = _audit(vault, checkpoint)
    except AegisError as error:
        book.problems.append(f"{node.name}: its vault's books cannot be read: {error} [{error.code}]")
    return book


def _permits(book: Book, decisions: list[dict[str, Any]], run: str) -> None:
    mine = [r for r in decisions if r.get("run") == run and r.get("action") == "train"]
    allowed = [r for r in mine if r.get("decision") == "allow"]
    newest = allowed[-1] if allowed else mine[-1] if mine else {}
    # A request refused as a whole decides on no rows: its record has null for both.
    if newest.get("rows_allowed") is not None:
        book.rows_allowed = int(newest["rows_allowed"])
    book.rows_denied = {str(k): int(v) for k, v in (newest.get("rows_denied") or {}).items()}


def _releases(book: Book, releases: list[dict[str, Any]], run: str) -> None:
    for record in releases:
        if record.get("run") != run or record.get("decision") != "allow":
            continue
        parts = record.get("parts") or [{"action": "train", "dp": record.get("dp"), "rows": record.get("rows", 0)}]
        for part in parts:
            if part.get("action") == "train":
                book.dp.add(str(part.get("dp")))
            elif part.get("rows"):
                book.counts_dp.add(str(part.get("dp")))
        if counts := record.get("counts"):
            book.counts_noise.add(float(counts["noise_multiplier"]))
            earlier = 5 if counts.get("histograms") else 3  # records from before statistics were declared
            book.counts_blocks = max(book.counts_blocks, len(counts.get("blocks") or range(earlier)))


def _account(
    vault: Vault, engine: ComplianceEngine, dataset: str, decisions: list[dict[str, Any]], run: str
) -> Account:
    delta = float(engine.terms(dataset).get("delta", 1e-5))
    ledger = Ledger(vault, dataset, delta=delta)
    rows = _rows(decisions, dataset)

    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None  # an exhausted ledger, or a loss beyond any worth a number

    by_round: dict[int, Counter[Mechanism]] = {}
    for entry in ledger.entries():
        if entry["kind"] == "reserve" and entry["run"] == run:
            by_round.setdefault(int(entry["round"]), Counter())[mechanism_of(entry)] += int(entry["steps"])
    return Account(
        number(ledger.spent(delta, run).epsilon),
        number(ledger.spent(delta).epsilon),
        number(ledger.spent_by_person(delta, rows, run)) if rows else None,
        number(ledger.spent_by_person(delta, rows)) if rows else None,
        delta,
        engine.budget_epsilon(dataset),
        rows,
        ledger.mechanisms(run),
        by_round,
    )


def _rows(decisions: list[dict[str, Any]], dataset: str) -> int | None:
    """The largest that any permit over the data set said: earlier runs' total holds for who had most rows then."""
    found = [
        int(r["rows_per_subject_max"])
        for r in decisions
        if r.get("object") == dataset and r.get("decision") == "allow" and r.get("rows_per_subject_max") is not None
    ]
    return max(found, default=None)


def _audit(vault: Vault, checkpoint: tuple[int, bytes] | None) -> report.AuditReport:
    records, head = vault.audit_head()
    try:
        audit_verify(str(Path(vault.path) / "audit"), expect=checkpoint)
        verified = True
    except AuditError:
        verified = False
    return report.AuditReport(records=records, head=head.hex(), verified=verified)


def stated(source: str, mechanism: Mechanism | None, steps: int, noise: str | None) -> dict[str, Any]:
    """The fields of a `ClientReport` that say what its ε is about; None where steps were of several mechanisms."""
    whole = mechanism is not None and mechanism.kind in WHOLE
    return {
        "source": source,
        "unit": mechanism.unit if mechanism else UNIT,  # what hides a node hides each of its records
        "neighbouring": mechanism.relation if mechanism else NEIGHBOURING,
        "sampler": ALL if whole else SAMPLER,
        "accountant": ACCOUNTANT,
        "noise_multiplier": mechanism.noise_multiplier if mechanism else None,
        "sample_rate": mechanism.sample_rate if mechanism else None,
        "clip": mechanism.clip if mechanism else None,
        "steps": steps,
        "noise": noise,
    }


def mechanisms(counted: Mapping[Mechanism, int]) -> tuple[report.MechanismReport, ...]:
    """As a report has them."""
    return tuple(
        report.MechanismReport(
            kind=m.kind,
            noise_multiplier=m.noise_multiplier,
            sample_rate=m.sample_rate,
            clip=m.clip,
            steps=n,
            blocks=m.blocks,
        )
        for m, n in sorted(counted.items(), key=lambda item: (item[0].kind, item[0].noise_multiplier))
    )


def privacy_fields(account: Account, noise: str | None) -> dict[str, Any]:
    """The fields of a `ClientReport` that an account fills."""
    one = next(iter(account.mechanisms)) if len(account.mechanisms) == 1 else None
    return {
        **stated("ledger", one, sum(account.mechanisms.values()), noise),
        **_spent(account),
    }


def evaluation(account: Account) -> report.EvaluationReport:
    """What the held-out rows' ledger says."""
    return report.EvaluationReport(**_spent(account))


def _spent(account: Account) -> dict[str, Any]:
    """The fields that a `ClientReport` and an `EvaluationReport` share."""
    return {
        "epsilon": account.epsilon,
        "epsilon_total": account.epsilon_total,
        "epsilon_person": account.epsilon_person,
        "epsilon_total_person": account.epsilon_total_person,
        "delta": account.delta,
        "budget_epsilon": account.budget,
        "rows_per_person": account.rows,
        "mechanisms": mechanisms(account.mechanisms),
    }


def epsilon_until(account: Account, round_: int) -> float | None:
    """ε that the run had charged by the end of a round."""
    steps: Counter[Mechanism] = Counter()
    for number, counted in account.by_round.items():
        if number <= round_:
            steps.update(counted)
    value = epsilon(steps, account.delta) if steps else 0.0
    return value if math.isfinite(value) else None


def differences(cfg: Config, sigma: float, books: list[Book]) -> Iterator[str]:
    """Where what the nodes recorded is not what the run's configuration says."""
    asked = RoundMechanism.of(cfg.privacy, sigma) if cfg.privacy.on else None
    groups: dict[str, list[str]] = {}
    for book in books:
        if book.train is not None:
            for text in _differ(asked, book.train):
                groups.setdefault(text, []).append(book.name)
        wanted = "off" if asked is None else cfg.privacy.noise
        for dp in sorted(book.dp - {wanted}):
            groups.setdefault(
                f"released updates with noise {dp!r}, the run's configuration says {wanted!r}", []
            ).append(book.name)
    for text, names in groups.items():
        yield f"{', '.join(names)}: {text}"


def _differ(asked: RoundMechanism | None, account: Account) -> Iterator[str]:
    for m, n in account.mechanisms.items():
        if asked is not None and m.kind != asked.kind:
            yield f"the ledger holds {n} steps of {m.kind}; the run's configuration says {asked.kind}"
        elif asked is None or (m.noise_multiplier, m.sample_rate) != (asked.noise_multiplier, asked.sample_rate):
            says = "no DP" if asked is None else f"σ={asked.noise_multiplier:g}, rate {asked.sample_rate:g}"
            yield (
                f"the ledger holds {n} steps with σ={m.noise_multiplier:g}, rate {m.sample_rate:g}; the run's configuration "
                f"says {says}"
            )
        elif asked is not None and m.blocks != asked.blocks:
            yield f"the ledger holds {m.blocks} blocks; the run's configuration says {asked.blocks}"
        elif m.clip not in (asked.clip, 1.0):  # entries of earlier versions have no clip
            yield f"the ledger holds clip {m.clip:g}; the run's configuration says {asked.clip:g}"
    steps = {sum(c.values()) for c in account.by_round.values()}
    if asked is not None and steps - {asked.steps}:
        yield (
            f"the ledger holds {', '.join(map(str, sorted(steps - {asked.steps})))} steps for a round; the run's configuration "
            f"says {asked.steps}"
        )

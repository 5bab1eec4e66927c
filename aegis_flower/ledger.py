"""Ledger: what the privacy budget of a data set's people was spent on, shared by every run and sweep that uses their data.

A ledger belongs to a lineage: a random id that the vault seals with a data set, and that a rename, a new ingest of the same
people or another encryption keeps. One file for each, ``<vault>/privacy/<lineage>.record.jsonl``: every line is an entry with the
MAC of itself and of the line before, keyed by the vault. A reservation is durable before training and counts as spent whether or
not the update was released. How far a ledger has come is committed in the vault's keystore, so one that was rolled back is found.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aegis_engine import Vault
from aegis_flower.accountant import NEIGHBOURING, calibrate, counts_mechanism, epsilon, gate_epsilon, person_epsilon
from aegis_flower.book import UNIT, Book, Entry
from aegis_flower.errors import AegisError, BudgetExceeded, ConfigError
from aegis_flower.mechanism import DELTA, STEPS, Mechanism, RoundMechanism, within

__all__ = [
    "ALL",
    "NEIGHBOURING",
    "SAMPLER",
    "UNIT",
    "Ledger",
    "Mechanism",
    "Reservation",
    "RoundMechanism",
    "RoundReservation",
    "Spent",
    "calibrate",
    "counts_mechanism",
    "epsilon",
    "gate_epsilon",
    "mechanism_of",
    "person_epsilon",
]

SAMPLER = "poisson"
ALL = "all"  # of a whole update: every row, in its one step
TERMS_DELTA = 1e-5  # δ of terms that name none
_NAMELESS = "aegis/v2/privacy-ledger/name"


@dataclass(frozen=True)
class Reservation:
    """Budget taken before training; `Ledger.commit` notes that the update was released.

    Attributes:
        id: random; the release's record names it.
        epsilon_total: ε of the whole ledger with it, as the gate counts it at the terms' δ.
    """

    id: str
    epsilon_total: float


@dataclass(frozen=True)
class RoundReservation(Reservation):
    """Budget of one round of training.

    Attributes:
        mechanism: what was charged: the session and the training take it from here.
    """

    mechanism: RoundMechanism


@dataclass(frozen=True)
class Spent:
    """What a ledger comes to."""

    epsilon: float
    steps: int
    entries: int
    runs: int


class Ledger:
    """The privacy ledger of the people of one data set.

    Guarantees:
        - A round that would pass the budget is refused before any data is read.
        - A reservation is on disk before training starts; a crash leaves it charged.
        - An edited, truncated or rolled-back file is found by its MAC chain and the keystore's head, and refused.
        - An entry that no accountant is trusted for makes the ledger read as exhausted: ε is infinite, nothing is granted.
        - ε is held at the δ of the terms, whatever δ a run names.

    Args:
        vault: the vault.
        dataset: name or id of the data set.
        delta: δ of the data set's terms (``engine.terms(id)["delta"]``); None takes the default of terms.
        lineages: those of the terms, where they were read before; None asks the vault.
    """

    def __init__(
        self, vault: Vault, dataset: str, *, delta: float | None = None, lineages: Sequence[str] | None = None
    ) -> None:
        self._vault = vault
        self._dataset = dataset
        self.delta = TERMS_DELTA if delta is None else delta
        within("terms.delta", self.delta, DELTA)
        found = _lineages(vault, dataset) if lineages is None else list(lineages)
        self.lineages = found or [vault.mac(_NAMELESS, dataset.encode()).hex()[:32]]
        self._books = [Book(vault, lineage, dataset, nameless=not found) for lineage in self.lineages]

    @property
    def path(self) -> Path:
        """The file of the oldest lineage."""
        return self._books[0].path

    def entries(self) -> list[Entry]:
        """All entries of the oldest lineage, oldest first.

        Raises:
            LedgerTampered: an entry's MAC is wrong, or the file is older than the vault knows.
        """
        return self._books[0].entries()

    def mechanisms(self, run: str | None = None) -> Counter[Mechanism]:
        """Steps by mechanism, over all runs or one, of the lineage that spent most.

        Raises:
            ConfigError: an entry is outside the bounds of any mechanism.
            LedgerTampered: see `entries`.
        """
        all_steps = [_steps(book.entries(), run) for book in self._books]
        return max(all_steps, key=lambda steps: epsilon(steps, self.delta) if steps else 0.0)

    def spent(self, delta: float, run: str | None = None, accountant: str = "pld") -> Spent:
        """ε spent at `delta`, over all runs or one; of several lineages, that of the one that spent most.

        Raises:
            ConfigError: `delta` is outside [1e-12, 1e-2].
            LedgerTampered: see `entries`.
        """
        within("delta", delta, DELTA)
        found = []
        for book in self._books:
            entries = book.entries()
            reserved = [e for e in entries if e["kind"] == "reserve" and run in (None, e["run"])]
            found.append(
                Spent(
                    _spent(entries, lambda steps: epsilon(steps, delta, accountant), run),
                    sum(e["steps"] for e in reserved if isinstance(e["steps"], int)),
                    len(entries),
                    len({e["run"] for e in reserved}),
                )
            )
        return max(found, key=lambda spent: spent.epsilon)

    def spent_by_person(self, delta: float, rows: int, run: str | None = None) -> float:
        """ε at `delta` for a person of whom the data set has `rows` rows (`Permit.rows_per_subject_max`)."""
        within("delta", delta, DELTA)
        return max(_spent(book.entries(), lambda s: person_epsilon(s, delta, rows), run) for book in self._books)

    def reserve(
        self, *, run: str, round_: int, mechanism: Mechanism, steps: int, delta: float, budget: float
    ) -> Reservation:
        """Takes the budget of one round, durably, of every lineage of the data set.

        The gate is RDP, which composes for adaptively chosen mechanisms; where all steps so far are of one mechanism, the
        tighter PLD may decide (`gate_epsilon`).

        Args:
            run: the run.
            round_: its round.
            mechanism: what each step is.
            steps: how many there may be.
            delta: δ the run asks for: not above the terms'. The ledger accounts at the terms' all the same.
            budget: ε of the terms.

        Raises:
            BudgetExceeded: the round would pass the budget; nothing was written, nothing was read.
            ConfigError: a number is outside its bounds.
            LedgerTampered: see `entries`.
        """
        if isinstance(steps, bool) or not isinstance(steps, int):
            raise ConfigError("privacy.steps_per_round", f"must be a whole number (got {steps!r})")
        within("privacy.steps_per_round", steps, STEPS)
        within("privacy.delta", delta, DELTA)
        if delta > self.delta:
            raise BudgetExceeded(
                f"data set {self._dataset!r}: the run asks for δ={delta:g}, its terms allow {self.delta:g} at most; nothing "
                f"was read. Set privacy.delta={self.delta:g}",
                spent=0.0,
                after=math.inf,
                budget=budget,
            )
        fields = {
            "id": os.urandom(16).hex(),
            "run": run,
            "round": round_,
            "mechanism": mechanism.kind,
            "noise_multiplier": float(mechanism.noise_multiplier),
            "sample_rate": float(mechanism.sample_rate),
            "clip": float(mechanism.clip),
            **({"blocks": mechanism.blocks} if mechanism.blocks else {}),
            "steps": steps,
            "delta": self.delta,
            "asked_delta": delta,
            "unit": mechanism.unit,
            "relation": mechanism.relation,
        }
        with ExitStack() as locks:
            for book in sorted(
                self._books, key=lambda b: b.lineage
            ):  # in one order, so that no two wait for each other
                locks.enter_context(book.locked())
            books = [(book, book.entries()) for book in self._books]
            total = max(self._granted(entries, mechanism, steps, budget) for _, entries in books)
            for book, entries in books:
                book.append("reserve", fields, entries)
        return Reservation(str(fields["id"]), total)

    def reserve_round(
        self, mechanism: RoundMechanism, *, run: str, round_: int, delta: float, budget: float
    ) -> RoundReservation:
        """`reserve` for one round of training; what is charged comes back with the reservation, as the same object.

        Raises:
            BudgetExceeded, ConfigError, LedgerTampered: as `reserve`.
        """
        taken = self.reserve(
            run=run, round_=round_, mechanism=mechanism.step, steps=mechanism.steps, delta=delta, budget=budget
        )
        return RoundReservation(taken.id, taken.epsilon_total, mechanism)

    def check(self, *, mechanism: Mechanism, steps: int, budget: float) -> None:
        """Whether `reserve` would grant a round now; writes nothing.

        Raises:
            BudgetExceeded, LedgerTampered: as `reserve`.
        """
        for book in self._books:
            self._granted(book.entries(), mechanism, steps, budget)

    def _granted(self, entries: list[Entry], mechanism: Mechanism, steps: int, budget: float) -> float:
        spent = _spent(entries, lambda s: gate_epsilon(s, self.delta, tight=False))
        total = math.inf
        if math.isfinite(spent):
            after = _steps(entries) + Counter({mechanism: steps})
            total = gate_epsilon(after, self.delta, tight=False)
            # PLD gains less than half: where RDP is further above, it would not help.
            if not total <= budget and total <= 2 * budget + 1:
                total = gate_epsilon(after, self.delta, tight=True)
        if math.isfinite(total) and total <= budget:  # an infinite budget is none
            return total
        why = (
            f"this round would bring ε to {total:.3f} of {budget:.3f} (δ={self.delta:g}, unit {UNIT}, spent {spent:.3f})"
            if math.isfinite(spent)
            else "its ledger holds an entry outside the bounds that any accountant is trusted for, so it counts as exhausted"
        )
        raise BudgetExceeded(
            f"data set {self._dataset!r}: {why}; nothing was read. Ask for fewer rounds or more noise, or have the data "
            "steward raise the budget",
            spent=spent,
            after=total,
            budget=budget,
        )

    def commit(self, reservation: Reservation) -> None:
        """Notes that the round's update was released."""
        for book in self._books:
            with book.locked():
                book.append("commit", {"id": reservation.id}, book.entries())


def _lineages(vault: Vault, dataset: str) -> list[str]:
    """Ids of those whose budget the data set spends. Of a name of no data set, none: its ledger is found by the name's MAC, as no
    name ever becomes a path.

    Raises:
        AegisError: there is such a data set, but it does not say whose it is: nobody's budget is not a fresh one.
    """
    try:
        return [str(lineage) for lineage in vault.lineages(dataset)]
    except AegisError:
        if any(dataset in (e["name"], e["id"]) for e in vault.list()):
            raise
        return []


def mechanism_of(entry: Entry) -> Mechanism:
    """What each step of a reservation is.

    Raises:
        ConfigError: it is outside the bounds of any mechanism.
    """
    # Entries of earlier versions have no clip and no kind.
    return Mechanism(
        entry["noise_multiplier"],
        entry["sample_rate"],
        entry.get("clip", 1.0),
        entry.get("mechanism", "dpsgd"),
        entry.get("blocks", 0),
    )


def _steps(entries: list[Entry], run: str | None = None) -> Counter[Mechanism]:
    steps: Counter[Mechanism] = Counter()
    for e in entries:
        if e["kind"] == "reserve" and run in (None, e["run"]):
            made = mechanism_of(e)
            if isinstance(e["steps"], bool) or not isinstance(e["steps"], int):
                raise ConfigError("steps", "must be a whole number")
            within("steps", e["steps"], STEPS)
            steps[made] += e["steps"]
    return steps


def _spent(entries: list[Entry], account: Any, run: str | None = None) -> float:
    try:
        return float(account(_steps(entries, run)))
    except (ConfigError, TypeError):
        # Written by a version without bounds: what it cost is not known, so it cost everything.
        return math.inf

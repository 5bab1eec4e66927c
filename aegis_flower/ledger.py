"""Ledger: what a data set's privacy budget was spent on, shared by every run and sweep that uses the data.

One file a data set and unit, ``<vault>/privacy/<dataset>.record.jsonl``: each line is an entry with the MAC of itself and
of the line before, keyed by the vault. A reservation is durable before training and counts as spent whether or not the
update was released. The last entry's MAC also goes to the audit log, so a ledger that was rolled back is found.
"""

from __future__ import annotations

import fcntl
import functools
import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aegis_engine import Vault
from aegis_flower.errors import BudgetExceeded, ConfigError, LedgerTampered

if TYPE_CHECKING:
    import dp_accounting

UNIT = "record"
NEIGHBOURING = "add_remove"
SAMPLER = "poisson"
# Whole orders: fractional ones are slow, do not converge for large sampling rates, and gain under 1 % here.
_RDP_ORDERS = [*range(2, 65), 80, 96, 128, 192, 256, 384, 512]
_SIGMA_MAX = 10_000
_SIGMA_TOLERANCE = 5e-4
_DOMAIN = "aegis/v1/privacy-ledger"


@dataclass(frozen=True)
class Mechanism:
    """One DP-SGD configuration: σ in units of the clip, Poisson rate."""

    noise_multiplier: float
    sample_rate: float

    def __post_init__(self) -> None:
        # The server names σ: what is no positive number would pass as ε = 0, or spoil the ledger for good.
        if not 0 < self.noise_multiplier < math.inf:
            raise ConfigError(
                "privacy.noise_multiplier", f"must be positive and finite (got {self.noise_multiplier!r})"
            )
        if not 0 < self.sample_rate <= 1:
            raise ConfigError("privacy.sample_rate", f"must be above 0 and at most 1 (got {self.sample_rate!r})")

    @property
    def event(self) -> dp_accounting.DpEvent:
        """The event of one step in dp-accounting's terms."""
        import dp_accounting

        return dp_accounting.PoissonSampledDpEvent(
            self.sample_rate, dp_accounting.GaussianDpEvent(self.noise_multiplier)
        )


def epsilon(steps: Counter[Mechanism] | dict[Mechanism, int], delta: float, accountant: str = "pld") -> float:
    """ε at `delta` of the composed steps, by Google's dp-accounting (``pld`` or ``rdp``), add/remove neighbours."""
    key = tuple(sorted((m.noise_multiplier, m.sample_rate, n) for m, n in steps.items() if n))
    return _epsilon(key, delta, accountant) if key else 0.0


@functools.lru_cache(maxsize=4096)
def _epsilon(key: tuple[tuple[float, float, int], ...], delta: float, accountant: str) -> float:
    # imported here: it takes seconds, and most steps of a round spend nothing
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant

    tool = RdpAccountant(_RDP_ORDERS) if accountant == "rdp" else PLDAccountant(value_discretization_interval=1e-3)
    for noise_multiplier, sample_rate, count in key:
        tool.compose(Mechanism(noise_multiplier, sample_rate).event, count)
    return float(tool.get_epsilon(delta))


@functools.lru_cache(maxsize=256)
def calibrate(target_epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The smallest noise multiplier, to 3 digits, whose PLD ε over `steps` Poisson steps is at most the target.

    Raises:
        ConfigError: no noise multiplier up to 10 000 reaches the target.
    """

    def spent(sigma: float) -> float:
        return _epsilon(((sigma, sample_rate, steps),), delta, "pld")

    low, high = 0.2, 0.4
    while spent(high) > target_epsilon:
        low, high = high, high * 2
        if high > _SIGMA_MAX:
            raise ConfigError("privacy.epsilon", f"{target_epsilon} cannot be reached with {steps} steps")
    while (high - low) / high > _SIGMA_TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > target_epsilon else (low, middle)
    return math.ceil(high * 1e4) / 1e4


@dataclass(frozen=True)
class Reservation:
    """Budget taken before training; `Ledger.commit` notes that the update was released."""

    id: str
    epsilon_total: float


@dataclass(frozen=True)
class Spent:
    """What a ledger comes to."""

    epsilon: float
    steps: int
    entries: int
    runs: int


class Ledger:
    """The privacy ledger of one data set of one vault.

    Guarantees:
        - A round that would pass the budget is refused before any data is read.
        - A reservation is on disk before training starts; a crash leaves it charged.
        - An edited, truncated or rolled-back file is found by its MAC chain and the audit log, and refused.
    """

    def __init__(self, vault: Vault, dataset: str) -> None:
        self._vault = vault
        self._dataset = dataset
        self._path = Path(vault.path) / "privacy" / f"{dataset}.{UNIT}.jsonl"

    def entries(self) -> list[dict[str, Any]]:
        """All entries, oldest first.

        Raises:
            LedgerTampered: an entry's MAC is wrong, or the file is older than the audit log knows.
        """
        entries = self._read()
        last = self._vault.audit_find_last("privacy.reserve", "dataset", self._dataset)
        if last is not None:
            seen = int(last["entries"])
            if len(entries) < seen or entries[seen - 1]["mac"] != last["mac"]:
                raise LedgerTampered(
                    f"privacy ledger of {self._dataset!r} holds {len(entries)} entries, but the audit log recorded {seen}: "
                    "the file was rolled back or replaced; restore it from the newest copy"
                )
        return entries

    def _read(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        entries: list[dict[str, Any]] = []
        previous = ""
        # What follows the last newline was torn by a crash before its fsync: nothing was trained on it.
        whole = self._path.read_bytes().rpartition(b"\n")[0]
        for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
            try:
                entry = json.loads(line)
                mac = entry["mac"]
                good = entry["seq"] == number and mac == self._mac(entry, previous) and line == _line(entry)
            except (ValueError, KeyError, TypeError):
                good, mac, entry = False, "", {}
            if not good:
                raise LedgerTampered(
                    f"privacy ledger {self._path.name}, line {number}: not what was written; restore the file from a copy"
                )
            entries.append(entry)
            previous = mac
        return entries

    def _mac(self, entry: dict[str, Any], previous: str) -> str:
        body = json.dumps({k: v for k, v in entry.items() if k != "mac"}, sort_keys=True, separators=(",", ":"))
        return self._vault.mac(_DOMAIN, f"{self._dataset}\n{previous}\n{body}".encode()).hex()

    @staticmethod
    def _steps(entries: list[dict[str, Any]], run: str | None = None) -> Counter[Mechanism]:
        steps: Counter[Mechanism] = Counter()
        for e in entries:
            if e["kind"] == "reserve" and (run is None or e["run"] == run):
                steps[Mechanism(e["noise_multiplier"], e["sample_rate"])] += e["steps"]
        return steps

    def spent(self, delta: float, run: str | None = None, accountant: str = "pld") -> Spent:
        """ε spent at `delta`, over all runs or one."""
        entries = self.entries()
        steps = self._steps(entries, run)
        runs = {e["run"] for e in entries if e["kind"] == "reserve" and run in (None, e["run"])}
        return Spent(epsilon(steps, delta, accountant), sum(steps.values()), len(entries), len(runs))

    def reserve(
        self, *, run: str, round_: int, mechanism: Mechanism, steps: int, delta: float, budget: float
    ) -> Reservation:
        """Takes the budget of one round, durably.

        The gate is RDP, which composes for adaptively chosen mechanisms (Feldman & Zrnic 2021); where all steps so far
        are of one mechanism, chosen in advance, the tighter PLD decides.

        Raises:
            BudgetExceeded: the round would pass the budget; nothing was written, nothing was read.
            LedgerTampered: see `entries`.
        """
        with self._locked():
            entries = self.entries()
            before = self._steps(entries)
            after = before + Counter({mechanism: steps})
            # The strictest δ that any run asked for holds for all: a looser one must not make earlier runs look cheaper.
            strictest = min([delta, *(e["delta"] for e in entries if e["kind"] == "reserve")])
            total = epsilon(after, strictest, "rdp")
            # PLD gains less than half, and takes for ever when σ is far too small.
            if budget < total <= 2 * budget + 1 and len(after) == 1:
                total = epsilon(after, strictest, "pld")
            if total > budget:
                spent = epsilon(before, strictest)
                raise BudgetExceeded(
                    f"data set {self._dataset!r}: this round would bring ε to {total:.3f} of {budget:.3f} (δ={strictest:g}, "
                    f"unit {UNIT}, spent {spent:.3f}); nothing was read. Ask for fewer rounds or more noise, or have the "
                    "data steward raise the budget",
                    spent=spent,
                    after=total,
                    budget=budget,
                )
            entry = {
                "seq": len(entries) + 1,
                "kind": "reserve",
                "id": os.urandom(16).hex(),
                "run": run,
                "round": round_,
                "noise_multiplier": mechanism.noise_multiplier,
                "sample_rate": mechanism.sample_rate,
                "steps": steps,
                "delta": delta,
            }
            self._append(entry, entries)
            return Reservation(str(entry["id"]), total)

    def commit(self, reservation: Reservation) -> None:
        """Notes that the round's update was released."""
        with self._locked():
            entries = self.entries()
            self._append({"seq": len(entries) + 1, "kind": "commit", "id": reservation.id}, entries)

    def _append(self, entry: dict[str, Any], entries: list[dict[str, Any]]) -> None:
        entry["mac"] = self._mac(entry, entries[-1]["mac"] if entries else "")
        line = _line(entry) + b"\n"
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:
            file.seek(file.read().rfind(b"\n") + 1)
            file.truncate()
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if entry["kind"] == "reserve":
            self._vault.record_plugin(
                "privacy.reserve",
                {
                    "dataset": self._dataset,
                    "entries": entry["seq"],
                    "mac": entry["mac"],
                    "reservation": entry["id"],
                    "run": entry["run"],
                    "round": entry["round"],
                },
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        with (self._path.with_suffix(".lock")).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, sort_keys=True).encode()

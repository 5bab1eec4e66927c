"""Trials: what each run of a sweep leaves in its folder, and what all of them together were charged.

A sweep is read back from its folders, never from memory: with the joblib or submitit launcher a trial runs in another process,
or on another machine. Each writes ``trial.json`` when it starts and again when it ends, whatever ends it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aegis_flower.accountant import Mechanism
from aegis_flower.errors import AegisError, ReportError
from aegis_flower.files import write_atomically
from aegis_flower.ledger import Ledger, RoundMechanism, epsilon
from aegis_flower.node.node import HOLDOUT
from aegis_flower.report.model import RunReport
from aegis_flower.report.write import load_report

FILE = "trial.json"
_EXACT_SETS = 8  # vault sets over which every way a person may lie in them is tried


@dataclass(frozen=True)
class Note:
    """What a trial says of itself.

    Attributes:
        number: its place in the sweep.
        status: ``started``, or how it ended.
        error: why it gave no model; empty when it did.
        exit_code: what `aegis run` would have ended with.
        root: folder of the vaults it used; empty where it is not known.
        source: whose data it used: name and path of the data set.
        runtime: where it ran.
    """

    number: int
    overrides: list[str]
    folder: str
    status: str = "started"
    error: str = ""
    exit_code: int = 1
    root: str = ""
    source: str = ""
    runtime: str = ""

    def write(self, hydra_folder: Path) -> None:
        """Keeps it in the trial's folder; a disk that takes nothing more is no reason to stop."""
        with contextlib.suppress(OSError):
            write_atomically({hydra_folder / FILE: json.dumps(vars(self), indent=1).encode()})


def read(sweep: Path) -> list[tuple[Note, RunReport | None]]:
    """Every trial under a sweep's folder with its report, if it left one, in order."""
    found = []
    for path in sorted(sweep.glob(f"**/{FILE}"), key=_claimed):
        try:
            note = Note(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            note = Note(10**6, [], str(path.parent), "failed", f"{path} cannot be read")
        report = None
        with contextlib.suppress(ReportError):
            report = load_report(Path(note.folder))
        found.append((note, report))
    return sorted(found, key=lambda item: item[0].number)


def _claimed(path: Path) -> tuple[str, int]:
    """Folders of one trial in the order in which they were claimed: ``3``, ``3-2``, ``3-10``."""
    name, _, again = path.parent.name.rpartition("-")
    return (name, int(again)) if name and again.isdecimal() else (path.parent.name, 1)


def newest(found: Sequence[tuple[Note, RunReport | None]]) -> list[tuple[Note, RunReport | None]]:
    """Each trial once: of one that was started several times the start that finished, else the last one."""
    kept: dict[int, tuple[Note, RunReport | None]] = {}
    for note, report in found:
        known = kept.get(note.number)
        if known is None or known[0].status != "finished":
            kept[note.number] = (note, report)
    return list(kept.values())


def pairs(overrides: Iterable[str]) -> dict[str, str]:
    """Overrides by key."""
    return {k: v for k, _, v in (o.lstrip("+").partition("=") for o in overrides)}


# -- what all trials together cost ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Total:
    """What trials over the data of one source were charged together, for a record.

    Attributes:
        epsilon: None where it is not known.
        why: what it is, or why it is not known.
    """

    source: str
    trials: tuple[int, ...]
    epsilon: float | None
    delta: float | None
    why: str


@dataclass
class _Charged:
    """Steps by mechanism of one set of vaults: the most of any vault, for rows to train on and for held-out rows."""

    train: Counter[Mechanism] = field(default_factory=Counter)
    holdout: Counter[Mechanism] = field(default_factory=Counter)


def totals(trials: Sequence[tuple[Note, RunReport | None]]) -> list[Total]:
    """What the trials over each source of data cost its people, composed over every set of vaults that trials had.

    A sweep over seeds or terms makes new vaults of the same people. A person lies in one vault of each set, to be trained on or
    held out; the total is the worst that can be.
    """
    by_source: dict[str, list[tuple[Note, RunReport | None]]] = {}
    for trial in trials:
        by_source.setdefault(trial[0].source, []).append(trial)
    return [_total(source, mine) for source, mine in by_source.items()]


def _total(source: str, trials: list[tuple[Note, RunReport | None]]) -> Total:  # noqa: PLR0911 - one for each reason
    numbers = tuple(note.number for note, _ in trials)

    def unknown(why: str) -> Total:
        return Total(source, numbers, None, None, f"the ε that all trials together cost is not known: {why}")

    if not source:
        return unknown("a trial ended before it said whose data it uses")
    if any(note.runtime == "deployment" for note, _ in trials):
        return unknown("the ledgers stay with the nodes of the deployment; `aegis privacy show` reads them there")
    roots: dict[Path, list[RunReport | None]] = {}
    for note, report in trials:
        if not note.root:
            return unknown(f"trial {note.number} does not say where its vaults are")
        roots.setdefault(Path(note.root), []).append(report)
    deltas: set[float] = set()
    try:
        sets = [_charged(root, reports, deltas) for root, reports in roots.items()]
    except (AegisError, OSError) as error:
        return unknown(str(error))
    if not deltas:
        return Total(source, numbers, 0.0, None, "no trial made vaults, so nothing was charged")
    delta = min(deltas)
    value = _worst(sets, delta)
    if not math.isfinite(value):
        return unknown("a ledger counts as exhausted")
    where = "one set of vaults" if len(sets) == 1 else f"{len(sets)} sets of vaults of the same people, composed"
    return Total(source, numbers, value, delta, f"charged by all trials together over {where}")


def _charged(root: Path, reports: list[RunReport | None], deltas: set[float]) -> _Charged:
    """The most that any vault of a root was charged. The run of a trial without a report is not known: then all runs count."""
    from aegis_engine import ComplianceEngine, Vault

    runs = {r.run.id for r in reports if r is not None} if all(r is not None for r in reports) else None
    out = _Charged()
    for key in sorted((root / "keys").glob("*.key")):
        vault = Vault.open(str(root / key.stem), key_file=str(key))
        engine = ComplianceEngine(vault)
        for entry in vault.list():
            name, dataset = str(entry["name"]), str(entry["id"])
            delta = float(engine.terms(dataset).get("delta", 1e-5))
            deltas.add(delta)
            ledger = Ledger(vault, dataset, delta=delta)
            steps: Counter[Mechanism] = Counter()
            for run in runs if runs is not None else (None,):
                steps.update(ledger.mechanisms(run))
            kind = "holdout" if name.endswith(HOLDOUT) else "train"
            setattr(out, kind, getattr(out, kind) | steps)  # the larger count of each mechanism bounds every vault
    return out


def _worst(sets: list[_Charged], delta: float) -> float:
    if len(sets) <= _EXACT_SETS:
        ways = itertools.product(*((each.train, each.holdout) for each in sets))
        return max(_cost(way, delta) for way in ways)
    return _cost([part for each in sets for part in (each.train, each.holdout)], delta)


def _cost(parts: Iterable[Counter[Mechanism]], delta: float) -> float:
    steps: Counter[Mechanism] = Counter()
    for part in parts:
        steps.update(part)
    return epsilon(steps, delta) if steps else 0.0


def expected(configs: Sequence[Any]) -> list[str]:
    """What a sweep over these configurations will cost, in words, before it starts."""
    from aegis_flower.server import noise_multiplier

    by_source: dict[str, list[Any]] = {}
    for cfg in configs:
        by_source.setdefault(source_of(cfg), []).append(cfg)
    lines = []
    for source, mine in by_source.items():
        steps: Counter[Mechanism] = Counter()
        for cfg in mine:
            if cfg.privacy.on:
                steps[RoundMechanism.of(cfg.privacy, noise_multiplier(cfg)).step] += cfg.total_steps
        without = sum(cfg.privacy.mode == "off" for cfg in mine)
        budget = min(cfg.policy.budget_epsilon for cfg in mine)
        delta = min(cfg.policy.delta for cfg in mine)
        text = f"{len(mine)} trials on the same people ({source})"
        if steps:
            cost = epsilon(steps, delta)
            text += (
                f": together at most ε {cost:.2f} for a record (δ={delta:g}) of the budget of {budget:g} at each node, beside "
                "what evaluations cost held-out rows"
            )
            if cost > budget:
                text += (
                    f"; that is more than the budget {budget:g} of one set of vaults, so later trials on it are refused"
                )
        if without:
            text += f"; {without} of them without DP, which bounds nothing"
        lines.append(text)
    return lines


def source_of(cfg: Any) -> str:
    """Whose data a configuration uses: the people of a data set, however a simulation splits them."""
    return f"{cfg.data.name} from {cfg.data.path}" if cfg.data.path else str(cfg.data.name)

"""What a run is set beside: its cost, its fairness across clients, the run before it, and commands to go on with."""

from __future__ import annotations

import shlex
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aegis_flower.report.page.view import Facts, Line, Link, Strong, beside
from aegis_flower.report.plain import gave_model, interval
from aegis_flower.report.words import (
    THIN,
    UNKNOWN,
    epsilon,
    number,
    percent,
    plural,
    seconds,
    some,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aegis_flower.report.model import RunReport

MOST_CHANGES = 8  # settings named in a comparison; report.json has the others
_KIB = 1024.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run beside the one before it: rows of name, this run, the run before; and what was set otherwise."""

    when: str
    rows: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]


def size(count: float | None) -> str:
    """Bytes for people."""
    if count is None:
        return UNKNOWN
    for unit, factor in (("GiB", _KIB**3), ("MiB", _KIB**2), ("KiB", _KIB)):
        if count >= factor:
            return f"{count / factor:.1f}{THIN}{unit}"
    return plural(round(count), "byte")


def cost(report: RunReport) -> Facts:
    """What a round cost, as far as it was recorded: trips, bytes, seconds."""
    trips = [each.trips for each in report.rounds if each.trips is not None]
    sent = [each.bytes_up for each in report.rounds if each.bytes_up is not None]
    most = max(sent, default=report.secagg.bytes_up_per_client or None)
    times = [each.seconds.total for each in report.rounds if each.seconds.total is not None]
    total = sum((each.bytes_up or 0) * len(each.participants) for each in report.rounds) if sent else None
    facts = [
        ("round trips of messages", _range(trips)),
        ("a client's masked update, at most", size(most)),
        ("all updates of the run, about", size(total)),
        ("a round, median", seconds(statistics.median(times)) if times else UNKNOWN),
        ("slowest round", seconds(max(times)) if times else UNKNOWN),
        ("the whole run", seconds(report.timings.total) if report.timings.total is not None else UNKNOWN),
    ]
    at = 4  # after the whole round's median
    for name, step in (("of it keys and shares", "share"), ("training", "train"), ("taking masks off", "unmask")):
        known = [value for each in report.rounds if (value := getattr(each.seconds, step)) is not None]
        if known:
            facts.insert(at, (f"{name}, median", seconds(statistics.median(known))))
            at += 1
    return tuple(facts)


def _range(values: Sequence[int]) -> str:
    if not values:
        return UNKNOWN
    low, high = min(values), max(values)
    return whole(low) if low == high else f"{whole(low)} to {whole(high)}"


def fairness(report: RunReport) -> Facts:
    """How evenly the run treated its clients, as far as that is known; a sum over all says nothing about one."""
    if not report.clients:
        return ()
    took = [each.rounds_taken_part for each in report.clients]
    least = [each.node for each in report.clients if each.rounds_taken_part == min(took)]
    rounds = f"{_range(took)} of {whole(len(report.rounds))}"
    if min(took) < max(took):
        rounds += f"; fewest at {some(least, 3)}"
    rows = [each.rows_allowed for each in report.clients]
    known = [each for each in rows if each is not None]
    spent = [each.epsilon for each in report.clients if each.epsilon is not None]
    facts = [
        (
            "accuracy at each client",
            f"{UNKNOWN}: only sums over clients left them" if report.secagg.enabled else UNKNOWN,
        ),
        ("rounds in the sum", rounds),
        ("rows let into training", _range(known) if len(known) == len(rows) else UNKNOWN),
    ]
    if spent and all(each.source != "upper_bound" for each in report.clients):
        low, high = epsilon(min(spent)), epsilon(max(spent))
        facts.append(("ε of this run", low if low == high else f"{low} to {high}"))
    return tuple(facts)


def comparison(report: RunReport, previous: RunReport | None) -> Comparison | None:
    """The run beside `previous`; None without one."""
    if previous is None:
        return None
    mine, theirs = report.results, previous.results
    rows = [
        ("status", report.run.status, previous.run.status),
        ("accuracy", _with_interval(report), _with_interval(previous)),
        ("loss", number(mine.loss, 3), number(theirs.loss, 3)),
        ("largest ε of the run", epsilon(mine.epsilon_max), epsilon(theirs.epsilon_max)),
        ("clients, rounds", _extent(report), _extent(previous)),
        ("the whole run", seconds(report.timings.total), seconds(previous.timings.total)),
    ]
    notes = []
    ours, before = interval(mine), interval(theirs)
    if ours and before and ours[0] <= before[1] and before[0] <= ours[1]:
        notes.append("The intervals of both accuracies overlap: the difference may be chance.")
    changed = sorted(set(_differing(report.config.resolved, previous.config.resolved)))
    if changed:
        notes.append(f"Set otherwise: {some(changed, MOST_CHANGES)}.")
    else:
        notes.append("Both had the same configuration.")
    return Comparison(previous.run.started.replace("T", " "), tuple(rows), tuple(notes))


def _with_interval(report: RunReport) -> str:
    found = interval(report.results)
    share = percent(report.results.accuracy)
    return share if found is None else f"{share} ({percent(found[0])} to {percent(found[1])})"


def _extent(report: RunReport) -> str:
    return f"{whole(len(report.clients))}, {whole(len(report.rounds))}"


def _differing(mine: Mapping[str, Any], theirs: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Keys whose values differ. Where vaults are is a matter of the folder, not of the experiment."""
    for key in {*mine, *theirs}:
        name = f"{path}{key}"
        a, b = mine.get(key), theirs.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differing(a, b, f"{name}.")
        elif a != b and name != "vault.root":
            yield name


def commands(report: RunReport) -> Facts:
    """Commands for whoever goes on from here: what each does, and the line to copy."""
    given = list(report.config.overrides)
    if not any(each.startswith("experiment=") for each in given):
        given.insert(0, f"experiment={report.run.experiment}")
    found = [
        ("run it again, anew", shlex.join(["aegis", "run", *given])),
        ("read this in a terminal, in this folder", "aegis report show ."),
    ]
    if "model" in report.files and "features" in report.files:
        found.append(("what the model takes and gives", "aegis model show ."))
    if report.run.status == "interrupted":
        found.append(("do the rounds that are left", "aegis run --resume ."))
    unverified = [each for each in report.clients if each.audit is not None and each.audit.verified is None]
    if unverified and (audit := unverified[0].audit) is not None:
        found.append(
            (
                f"at the node: check the log of {unverified[0].node}; the others' heads are below",
                f"aegis audit verify VAULT --expect {audit.records}:{audit.head}",
            )
        )
    return tuple(found)


def model_line(report: RunReport) -> Line:
    """Where the model is; a link where its path can only be that of a file beside the page."""
    path = report.files.get("model")
    if path is None:
        return ("No model was written.",)
    if not gave_model(report):
        return ("No round gave a model; ", Strong(path), " holds what the run started from.")
    where: Link | Strong = Link(path, beside(path)) if beside(path) else Strong(path)
    return ("The model: ", where, " (NumPy; load with numpy.load).")

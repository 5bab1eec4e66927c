"""A report for people who are no engineers: what a run did in sentences, what an ε means, and how sure an accuracy is.

Nothing here is a number of its own: every sentence follows from fields of the report, and what is unknown is said to be.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aegis_flower.report.words import (
    NODE,
    PERSON,
    THIN,
    audit_totals,
    clean,
    denied,
    epsilon,
    guarantee_lines,
    most_spent,
    over_budget,
    percent,
    plural,
    run_epsilon,
    some,
    whole,
)

if TYPE_CHECKING:
    from aegis_flower.report.model import ResultsReport, RunReport

NORMAL_95: Final = 1.959964  # quantile of the normal distribution for 95 %, both sides
_LARGE: Final = 20.0  # ε from which a bound says next to nothing: e^20 is 485 million


def interval(results: ResultsReport) -> tuple[float, float, str] | None:
    """A 95 % interval of the accuracy, and of what kind it is; None where the test rows or the accuracy are not known.

    Exact counts get Wilson's score interval (Wilson 1927; Brown, Cai, DasGupta 2001 §3.1.1). Counts with noise get a normal
    interval of both variances, that of the rows, p(1 - p)/n, and that of the noise; it is cut to [0, 1].
    """
    share, rows = results.accuracy, results.test_rows
    if share is None or not rows:
        return None
    z = NORMAL_95
    if not results.accuracy_sd:
        middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
        half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
        kind = "Wilson's interval for these test rows"
    else:
        middle = share
        half = z * math.sqrt(share * (1 - share) / rows + results.accuracy_sd**2)
        kind = "from the number of test rows and the noise of the counts together"
    return max(0.0, middle - half), min(1.0, middle + half), kind


def gave_model(report: RunReport) -> bool:
    """Whether any round put updates into the model."""
    return any(each.participants for each in report.rounds)


def interval_text(results: ResultsReport) -> str:
    """``85.4 % to 86.8 %``; empty without one."""
    found = interval(results)
    return f"{percent(found[0])} to {percent(found[1])}" if found else ""


def meaning(report: RunReport) -> tuple[str, ...]:
    """What the ε of this page mean: their definition in the field's terms, then in plain words."""
    worst = most_spent(report.clients)
    lines = guarantee_lines(report.clients)
    if worst is None or worst.epsilon is None or not lines:
        return ("No client states an ε: nothing here bounds what the model tells about one record.",)
    stated = [each.removeprefix("ε: ") for each in lines]
    said = [*stated]
    value = worst.epsilon
    odds = math.exp(min(value, 700.0))
    what = "person" if worst.unit == "client" else "record"
    node, person = worst.unit == NODE, worst.unit == PERSON
    if value > _LARGE:
        plain = (
            f"An ε of {epsilon(value)} bounds next to nothing: it would allow odds that are {odds:.0e} times as large. "
            "Take it as no promise."
        )
    else:
        factor = f"{odds:.3g}"
        sure = percent(odds / (1 + odds))
        plain = (
            f"In plain words: whether one {what} was in the data or not changes the odds of anything that somebody concludes "
            f"from the model at most {factor}-fold (e to the power of ε, here {epsilon(value)}). Who thought it 50{THIN}% likely "
            f"that a certain {what} was in may be {sure} sure after that, and no surer."
        )
    if node:
        said.append(
            plain.replace(
                f"whether one {what} was in the data or not",
                "whether one node had the data it has, or any others, or none,",
            ).replace(f"that a certain {what} was in", "that a node had certain data")
        )
        said.append(
            "The unit is all data of a node together, so each record and each person in them has that bound at least."
        )
    elif person:
        said.append(
            plain.replace(
                "whether one record was in the data or not",
                "whether one person had the data they have, or any others, or none,",
            ).replace("that a certain record was in", "that a person had certain data")
        )
        said.append("The unit is all data of a person at a node, however many records they are.")
    elif worst.neighbouring in {"add_remove", "zero_out"}:  # the words are about a record that is in or is not
        said.append(plain)
    said.append(
        "δ is about the probability that this bound does not hold. ε adds up over runs on the same people."
        + (
            ""
            if node or person
            else f" A person with several {what}s is protected less; where a report knows by how much, it says so."
        )
    )
    if worst.source == "upper_bound":
        said.append(
            "≤ marks a bound from what the server asked for. The exact sum is in the ledgers, which stay at the nodes."
        )
    return tuple(said)


def summary(report: RunReport) -> tuple[str, ...]:
    """The run in a few sentences, for a board or a data protection officer."""
    return tuple(s for s in (_what(report), _quality(report), _secrecy(report), _privacy(report), _rules(report)) if s)


def _what(report: RunReport) -> str:
    clients, rounds = plural(len(report.clients), "participant"), plural(len(report.rounds), "round")
    verb = {
        "finished": "trained one model together",
        "refused": "were asked to train one model together, which was refused",
        "failed": "were to train one model together, which failed",
        "interrupted": "began to train one model together, which was interrupted",
    }[report.run.status]
    if not report.clients:
        return "No participant is on record."
    away = {each.node for one in report.rounds for each in one.lost if not each.code}
    no = {each.node for one in report.rounds for each in one.lost if each.code} | {
        each.node for each in report.clients if each.refusals
    }
    when = "in" if report.run.status == "finished" else "after"
    parts = [f"{clients} {verb} {when} {rounds}; each kept its data"]
    parts += [f"{whole(len(away))} fell silent at some time"] if away else []
    parts += [f"{whole(len(no))} refused at some time"] if no else []
    return ", ".join(parts) + "."


def _quality(report: RunReport) -> str:
    results = report.results
    if results.accuracy is None:
        if results.loss is not None:
            rows = "held-out rows" if results.test_rows is None else plural(results.test_rows, "held-out row")
            return f"It predicts a number: its mean loss on {rows} is {results.loss:.3g}."
        return "How good the model is was not measured."
    text = f"It answers {percent(results.accuracy)} of the held-out rows right"
    if found := interval_text(results):
        text += f", of {whole(results.test_rows)}, so that the true share is between {found} (95{THIN}% sure)"
    text += "."
    if results.majority_class_accuracy is not None:
        better = "" if results.accuracy > results.majority_class_accuracy else ", which is no worse"
        text += f" Always giving the commonest answer would be right for {percent(results.majority_class_accuracy)}{better}."
    return text


def _secrecy(report: RunReport) -> str:
    if report.secagg.enabled:
        return "Whoever ran the server saw sums over participants, not what any one of them sent."
    return "Whoever ran the server could read what each participant sent."


def _privacy(report: RunReport) -> str:
    worst = most_spent(report.clients)
    if not report.run.private:
        return "Nothing protects single people from conclusions out of the model: this run is NOT PRIVATE."
    if worst is None:
        return "No participant states how much the model may tell about one record."
    what = {NODE: "all data of one node together", PERSON: "all data of one person together"}.get(
        str(worst.unit), "one record"
    )
    text = f"What the model may tell about {what} is bounded: ε {run_epsilon(worst)} by this run."
    over = over_budget(report.clients)
    if over:
        return f"{text} That is more than the data's terms allow at {some(over)}."
    if all(each.budget_epsilon is not None for each in report.clients):
        return f"{text} All participants stayed within the budgets that their data's terms set."
    return f"{text} The budgets are kept, and held to, by the participants themselves; they are not known here."


def _rules(report: RunReport) -> str:
    good, bad, unknown = audit_totals(report.clients)
    known = [denied(each) for each in report.clients]
    if not report.clients:
        return ""
    if None in known:
        text = "How many rows consent, purpose or retention kept out is known to the participants alone."
    else:
        text = (
            f"Consent, purpose, retention and other rules kept {plural(sum(each or 0 for each in known), 'row')} out."
        )
    if bad:
        return f"{text} The record of decisions could not be verified at {some(bad)}."
    if unknown:
        return (
            f"{text} The record of decisions is to be verified at {plural(len(unknown), 'participant')}, who alone can."
        )
    return f"{text} The record of every decision was verified at all {whole(good)}."


def labelled(report: RunReport) -> RunReport:
    """The same report with each client called what it calls itself, for people.

    A name that two clients give, or that is another's number, stands with the number: it is the node's own word.
    """
    said = {each.node: clean(each.name or "") for each in report.clients}
    given = {node: name for node, name in said.items() if name and name != clean(node)}
    times = Counter([*given.values(), *map(clean, said)])
    names = {node: name if times[name] == 1 else f"{name} ({node})" for node, name in given.items()}
    shown = [names.get(each.node, each.node) for each in report.clients]
    if not names or len({*shown}) < len(shown):  # somebody took the pains to be called as two others are
        return report

    def of(node: str) -> str:
        return names.get(node, node)

    return replace(
        report,
        clients=tuple(replace(each, node=of(each.node)) for each in report.clients),
        rounds=tuple(
            replace(
                each,
                participants=tuple(map(of, each.participants)),
                lost=tuple(replace(one, node=of(one.node)) for one in each.lost),
            )
            for each in report.rounds
        ),
    )

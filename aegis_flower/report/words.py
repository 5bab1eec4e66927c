"""How a report's numbers and names are worded: exact, clean, an epsilon never without what it means."""

from __future__ import annotations

import math
import unicodedata
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aegis_flower.report.model import AuditReport, ClientReport, MeasuredReport, ResultsReport, RunReport

DASH: Final = "\u2013"  # stands for a number there is none of, in tables
THIN: Final = "\u202f"  # narrow no-break space: groups digits, joins a number to its unit
UNKNOWN: Final = "not known"
NODE: Final = "node"  # the unit of a whole update
PERSON: Final = "person"  # that of blocks
INVISIBLE: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def clean(text: str) -> str:
    """`text` with every control, format and surrogate character shown as U+FFFD; a line break becomes a space."""
    if text.isprintable():  # the quick way: then there is nothing of all that
        return text
    spaced = text.replace("\n", " ").replace("\t", " ")
    return "".join("\ufffd" if unicodedata.category(each) in INVISIBLE else each for each in spaced)


def shortened(name: str, most: int) -> str:
    """A name of `most` characters at most, cut in its middle: names differ at their ends."""
    if len(name) <= most:
        return name
    tail = (most - 1) // 2
    return f"{name[: most - 1 - tail]}…{name[len(name) - tail :]}"


def whole(value: float | None) -> str:
    """A count with its digits in groups of three: 60 000."""
    return UNKNOWN if value is None else f"{value:,.0f}".replace(",", THIN)


def percent(value: float | None, digits: int = 1) -> str:
    """A ratio as a percentage."""
    return UNKNOWN if value is None else f"{100 * value:.{digits}f}{THIN}%"


def percent_short(value: float) -> str:
    """A percentage for an axis: whole where it is whole."""
    return percent(value, 0 if math.isclose(100 * value, round(100 * value), abs_tol=1e-6) else 1)


def number(value: float | None, digits: int = 4) -> str:
    """A number with `digits` significant digits, an exponent without padding: 1e-5."""
    if value is None:
        return UNKNOWN
    mantissa, mark, exponent = f"{value:.{digits}g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else mantissa


def delta_text(value: float | None) -> str:
    """A δ: a power of ten where it is small."""
    if value is None or value >= 0.01 or value == 0:  # noqa: PLR2004
        return number(value)
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def seconds(value: float | None) -> str:
    """A duration in seconds, to a hundredth below ten."""
    if value is None:
        return DASH
    return f"{value:,.{2 if value < 10 else 1}f}{THIN}s".replace(",", THIN)  # noqa: PLR2004


def epsilon(value: float | None) -> str:
    """An ε rounded up to two decimals (three significant digits below 0.1): a reader is never told less."""
    if value is None:
        return UNKNOWN
    exact = Decimal(repr(float(value)))
    places = 2 if value == 0 or value >= 0.1 else 2 - exact.adjusted()  # noqa: PLR2004
    if places > 8:  # noqa: PLR2004
        return number(
            float(exact.scaleb(-exact.adjusted()).quantize(Decimal("0.01"), ROUND_CEILING).scaleb(exact.adjusted())), 3
        )
    return str(exact.quantize(Decimal(1).scaleb(-places), ROUND_CEILING))


def guarantee(client: ClientReport) -> str:
    """What the client's ε is an ε of. Empty without one."""
    if client.epsilon is None:
        return ""
    return basis(client)


def trust(report: RunReport) -> str:
    """What the app at the nodes was trusted with, in a line; empty where the server does not know."""
    told = {
        "embedded": "embedded: the app was trusted",
        "any": "any: the app ran in a jail, its whole update was noised by the node",
        "blocks": "blocks: the app ran in a jail for each block of people, their sum was noised by the node",
    }
    return f"trust mode: {told[report.run.trust]}" if report.run.trust else ""


def per(client: ClientReport) -> str:
    """The unit of a client's ε behind a number."""
    return {NODE: "per node", PERSON: "a person"}.get(str(client.unit), "a record")


class _Basis(Protocol):
    """What an ε needs beside it. `Any` admits fields that are optional where their ε is."""

    @property
    def delta(self) -> Any: ...
    @property
    def unit(self) -> Any: ...
    @property
    def neighbouring(self) -> Any: ...
    @property
    def accountant(self) -> Any: ...


def basis(of: _Basis) -> str:
    """Unit, delta, neighbouring relation and accountant in words."""
    relation = {
        "add_remove": "add or remove one",
        "replace_one": "replace one",
        "zero_out": "zero out one",
    }.get(of.neighbouring, of.neighbouring)
    if of.unit in (NODE, PERSON) and of.neighbouring == "replace_one":
        relation = "all data of one by any others, or by none"
    return (
        f"unit {clean(of.unit)} · δ{THIN}={THIN}{delta_text(of.delta)} · neighbouring {clean(relation)} · "
        f"{clean(of.accountant).upper()} accountant"
    )


def guarantee_lines(clients: Sequence[ClientReport]) -> list[str]:
    """Each distinct guarantee once; with the clients it holds for when they differ, and who states none."""
    groups: dict[str, list[str]] = {}
    for client in clients:
        groups.setdefault(guarantee(client), []).append(clean(client.node))
    silent = groups.pop("", [])
    if not groups:
        return []
    lines = [text if len(groups) == 1 else f"{text} ({some(nodes)})" for text, nodes in groups.items()]
    return ([f"ε: {lines[0]}", *(f"ε: {each}" for each in lines[1:])]) + (
        [f"no ε stated by {some(silent)}"] if silent else []
    )


def epsilon_of_budget(client: ClientReport) -> str:
    """``2.88 of 3``: what all runs spent, of the budget."""
    if client.epsilon is None:
        return "none stated"
    spent = client.epsilon if client.epsilon_total is None else client.epsilon_total
    budget = "budget not known" if client.budget_epsilon is None else f"of {number(client.budget_epsilon)}"
    return f"{epsilon(spent)} {budget}"


def run_epsilon(client: ClientReport) -> str:
    """What the run charged, and whether it is a bound."""
    if client.epsilon is None:
        return "none"
    return f"≤ {epsilon(client.epsilon)}" if client.source == "upper_bound" else epsilon(client.epsilon)


def person(client: ClientReport) -> str:
    """What the run charged for the person with most rows."""
    if client.epsilon_person is None:
        return DASH
    return epsilon(client.epsilon_person)


def denied(client: ClientReport) -> int | None:
    """Rows denied; None where the client did not say."""
    return None if client.rows_denied is None else sum(client.rows_denied.values())


def whole_or_dash(value: float | None) -> str:
    """A count, or a dash for a number there is none of."""
    return DASH if value is None else whole(value)


def audit_state(audit: AuditReport | None) -> tuple[str, str]:
    """What is known of an audit log, and its colour."""
    if audit is None:
        return "none", "red"
    if audit.verified is None:
        return "at the node", "dim"
    return ("verified", "green") if audit.verified else ("NOT VERIFIED", "red")


def accuracy(results: ResultsReport) -> str:
    """The accuracy, with the standard deviation of its noise where it has some."""
    if results.accuracy is None or not results.accuracy_sd:
        return percent(results.accuracy)
    # above, one knows only that it is anything
    return f"{percent(results.accuracy)} ± {percent(min(results.accuracy_sd, 1.0))}"


def measure(measured: MeasuredReport) -> str:
    """A number that was measured, with the standard deviation of its noise where it has some."""
    return number(measured.value, 4) + (f" ± {number(measured.sd, 2)}" if measured.sd else "")


def measures(results: ResultsReport) -> list[tuple[str, str]]:
    """What was measured beside accuracy, loss and rows, and all of it by group: name and value."""
    known = ("test-rows", "loss", "accuracy")
    whole = [(clean(m.name), measure(m)) for m in results.metrics if m.group is None and m.name not in known]
    parts = [(f"{clean(m.name)}, {clean(m.group)}", measure(m)) for m in results.metrics if m.group is not None]
    return whole + parts


def privacy_warning(report: RunReport) -> str:
    """What a run that is not private says first."""
    others = [clean(each) for each in report.run.labels if each != "NOT PRIVATE"]
    return "NOT PRIVATE: the numbers of this run protect nobody" + (f" ({'; '.join(others)})" if others else "")


def headline(report: RunReport) -> list[tuple[str, str, str]]:
    """The facts a reader looks for first: name, value, note."""
    results = report.results
    beside = (
        f"without DP {percent(results.accuracy_without_dp)}, majority class {percent(results.majority_class_accuracy)}"
    )
    rows = beside + (f", {plural(results.test_rows, 'test row')}" if results.test_rows is not None else "")
    if results.accuracy_sd:
        rows += "; ± is the standard deviation of the counts' noise"
    worst = most_spent(report.clients)
    if worst is None:
        privacy = [("ε largest", "none stated", "no client states an ε")]
    else:
        spent = results.epsilon_max if results.epsilon_max is not None else worst.epsilon
        bound = "≤ " if worst.source == "upper_bound" else ""
        over = over_budget(report.clients)
        warning = f"; OVER BUDGET: {some(over)}" if over else ""
        privacy = [("ε largest", f"{bound}{epsilon(spent)}", f"{clean(worst.node)}: {guarantee(worst)}{warning}")]
        if results.epsilon_total_max is not None:
            of = "" if worst.budget_epsilon is None else f" of {number(worst.budget_epsilon)}"
            privacy.append(
                ("ε of all runs", f"{epsilon(results.epsilon_total_max)}{of}", "the largest total of a ledger")
            )
        if results.epsilon_person_max is not None:
            most = max((c.rows_per_person or 0 for c in report.clients), default=0)
            privacy.append(
                ("ε for a person", epsilon(results.epsilon_person_max), f"this run; up to {plural(most, 'row')} each")
            )
    known = [denied(client) for client in report.clients]
    total = sum(each or 0 for each in known)
    kept = (
        ("rows denied", UNKNOWN, "the nodes keep that to themselves")
        if report.clients and None in known
        else ("rows denied", whole(total), f"of {asked_for(report.clients)} rows asked for")
    )
    verified, bad, unknown = audit_totals(report.clients)
    notes = [f"not verified: {some(bad)}"] if bad else []
    notes += (
        [f"{plural(len(unknown), 'log')} to be verified at the nodes, with the heads of this report"] if unknown else []
    )
    found = ("accuracy", accuracy(results), rows)
    measured = next((m for m in results.metrics if m.name not in ("test-rows", "loss") and m.group is None), None)
    if results.accuracy is None and measured is not None:  # a number is predicted, or another metric was asked for
        noisy = "; ± is the standard deviation of the sums' noise" if measured.sd else ""
        tested = "" if results.test_rows is None else plural(results.test_rows, "test row")
        found = (clean(measured.name), measure(measured), tested + noisy)
    elif results.accuracy is None and results.loss is not None:
        found = (
            "loss",
            number(results.loss, 3),
            "" if results.test_rows is None else plural(results.test_rows, "test row"),
        )
    public = public_metrics(results)
    return [
        found,
        *([("public test set", public, "measured at the server; no ε")] if public else []),
        *privacy,
        kept,
        ("audit", f"{verified} of {len(report.clients)} verified" if verified or bad else UNKNOWN, "; ".join(notes)),
    ]


def public_metrics(results: ResultsReport) -> str:
    """What the public test set says of the released model, in one line; empty where there is none."""
    return ", ".join(f"{clean(name)} {number(value, 4)}" for name, value in sorted(results.public_metrics.items()))


def most_spent(clients: Iterable[ClientReport]) -> ClientReport | None:
    """The client with the largest ε; of equals, the one with the least budget left."""
    stated = [each for each in clients if each.epsilon is not None]
    return max(stated, key=lambda each: (each.epsilon or 0, -(each.budget_epsilon or math.inf)), default=None)


def over_budget(clients: Iterable[ClientReport]) -> list[str]:
    """Names of the clients whose epsilon passed their budget."""
    return [
        clean(each.node)
        for each in clients
        if each.budget_epsilon is not None and max(each.epsilon or 0, each.epsilon_total or 0) > each.budget_epsilon
    ]


def audit_totals(clients: Iterable[ClientReport]) -> tuple[int, list[str], list[str]]:
    """How many audit logs verified; the clients whose did not; the clients of whose nobody here can tell."""
    known = list(clients)
    good = sum(each.audit is not None and each.audit.verified is True for each in known)
    bad = [clean(each.node) for each in known if each.audit is None or each.audit.verified is False]
    return good, bad, [clean(each.node) for each in known if each.audit is not None and each.audit.verified is None]


def asked_for(clients: Sequence[ClientReport]) -> str:
    """Rows allowed and denied together; unknown as soon as one client does not say what it allowed."""
    total = 0
    for client in clients:
        if client.rows_allowed is None or client.rows_denied is None:
            return "an unknown number of"
        total += client.rows_allowed + sum(client.rows_denied.values())
    return whole(total)


def some(names: Sequence[str], most: int = 5) -> str:
    """The first `most` names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def plural(count: int, thing: str) -> str:
    """A count with its noun."""
    return f"{whole(count)} {thing}" + ("" if count == 1 else "s")

"""`aegis data ls|show|card`: looking at data sets. No value of a row is shown."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from aegis.cli.keys import Place, on_vault
from aegis.cli.output import AsJson, show, size

if TYPE_CHECKING:
    from aegis_engine.types import DatasetCard

    from aegis_engine import Vault

Name = Annotated[str, typer.Argument(metavar="NAME", help="name of the data set")]
_DAY = 86400
BAR = "\\|"  # as Markdown's tables have it (GFM §4.10)


@on_vault
def data_ls(vault: Place, as_json: AsJson = False) -> None:
    """Lists the data sets of a vault: rows, people, columns, purposes, last day of use, budget."""
    within = vault.open()
    cards = [within.card(one) for one in within.datasets().values()]
    if as_json:
        show(cards, [], as_json=True)
        return
    from rich.table import Table

    from aegis_flower.cli.progress import escape
    from aegis_flower.console import console

    table = Table()
    for column in ("data set", "rows", "people", "purposes", "until", "ε budget", "size"):
        table.add_column(column, justify="right" if column in ("rows", "people", "size") else "left", overflow="fold")
    for card in cards:
        facts = card["facts"]
        table.add_row(
            escape(card["name"]),
            str(card["rows"]),
            str(card["people"]),
            escape(", ".join(facts["purposes"])),
            _until(card),
            f"{_epsilon(card):g}",
            size(card["bytes"]),
        )
    console().print(table)


@on_vault
def data_show(vault: Place, name: Name, as_json: AsJson = False) -> None:
    """Shows a data set to its steward: terms, columns, rows by lawful basis, states of consent. No value of a row."""
    within = vault.open()
    card = card_of(within, name)
    if as_json:
        show(card, [], as_json=True)
        return
    facts = card["facts"]
    lines = [
        f"{name}: {card['rows']} rows of {card['people']} people, {card['kind']}, {size(card['bytes'])}, id {card['id']}",
        f"controller: {facts['controller']}",
        f"purposes: {', '.join(facts['purposes'])}",
        f"budget: ε {_epsilon(card):g} at δ {facts.get('delta_femto', 10**10) / 1e15:g} (spent: aegis privacy show)",
        f"an update needs: {facts['min_rows']} rows of {facts['min_subjects']} people"
        + (", differential privacy" if facts["require_dp"] else "")
        + (", a mask" if facts["require_secure_aggregation"] else ""),
    ]
    for one in card["classes"]:
        until = "without an end" if one["last_day"] is None else f"until {_date(one['last_day'])}"
        lines.append(
            f"rows: {one['rows']} by {one['basis']}, {until}" + (", special category" if one["special"] else "")
        )
    for purpose, counts in card["consent"].items():
        told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        lines.append(f"people, {purpose}: {told}")
    lines += ["columns:", *_columns(card)]
    show(card, lines, as_json=False)


@on_vault
def data_card(vault: Place, name: Name, as_json: AsJson = False) -> None:
    """Prints what everybody may know of a data set: columns, kinds, declared bounds, terms. Counts are rounded down."""
    within = vault.open()
    card = card_of(within, name)
    facts = card["facts"]
    public: dict[str, Any] = {
        "name": name,
        "controller": facts["controller"],
        "rows": _rounded(card["rows"]),
        "people": _rounded(card["people"]),
        "purposes": facts["purposes"],
        "until": _until(card),
        "budget_epsilon": facts["budget_micro_epsilon"] / 1e6,
        "require_dp": facts["require_dp"],
        "require_secure_aggregation": facts["require_secure_aggregation"],
        "columns": [one for one in _about(card) if one["name"] in facts["approved_columns"]],
    }
    lines = [
        f"# {name}",
        "",
        f"- controller: {public['controller']}",
        f"- about {public['rows']} rows of {public['people']} people (rounded down)",
        f"- purposes: {', '.join(public['purposes'])}",
        f"- use until {public['until']}",
        f"- privacy budget: ε {public['budget_epsilon']:g}",
        "",
        "| column | kind | role | declared |",
        "|---|---|---|---|",
        *(_row(one["name"], one["kind"], one["role"], one["declared"]) for one in public["columns"]),
    ]
    show(public, lines, as_json)


def _row(*cells: str) -> str:
    """A row of a Markdown table. A bar or a line break in a unit or a level would end its cell."""
    return f"| {' | '.join(' '.join(cell.split()).replace('|', BAR) for cell in cells)} |"


def card_of(vault: Vault, name: str) -> DatasetCard:
    """The card of the data set of that name."""
    datasets = vault.datasets()
    if name not in datasets:
        known = ", ".join(one for one in datasets) or "none"
        raise typer.BadParameter(f"there is no data set {name!r}; there are {known}")
    return vault.card(datasets[name])


def _about(card: DatasetCard) -> list[dict[str, str]]:
    """Columns for people: kind and role as the schema declared them, or as they are stored."""
    from aegis_flower.data.schema import described

    known = described(card["about"])
    lines = []
    for one in card["columns"]:
        column = known.get(one["name"])
        if column is None:
            wide = f" × {one['count']}" if one["count"] > 1 else ""
            lines.append({"name": one["name"], "kind": one["type"] + wide, "role": "", "declared": ""})
            continue
        declared = []
        if column.low is not None or column.high is not None:
            declared.append(
                f"{column.low if column.low is not None else '…'} to {column.high if column.high is not None else '…'}"
            )
        if column.levels:
            declared.append(", ".join(column.levels))
        if column.shape:
            declared.append(" × ".join(map(str, column.shape)))
        declared += [text for text in (column.unit, column.about) if text]
        lines.append({"name": one["name"], "kind": column.kind, "role": column.role, "declared": "; ".join(declared)})
    return lines


def _columns(card: DatasetCard) -> list[str]:
    approved = set(card["facts"]["approved_columns"])
    return [
        f"  {one['name']}: {one['kind']}"
        + (f", {one['role']}" if one["role"] not in ("", "feature") else "")
        + (f" ({one['declared']})" if one["declared"] else "")
        + ("" if one["name"] in approved else ", not approved")
        for one in _about(card)
    ]


def _epsilon(card: DatasetCard) -> float:
    return float(card["facts"]["budget_micro_epsilon"]) / 1e6


def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * _DAY))


def _until(card: DatasetCard) -> str:
    days = [one["last_day"] for one in card["classes"]]
    return "no end" if None in days else _date(min(day for day in days if day is not None))


def _rounded(count: int) -> int:
    """Down to two digits."""
    step = int(10 ** max(0, len(str(count)) - 2))
    return count // step * step

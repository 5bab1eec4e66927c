"""Lists of what people allow and forbid, as files: one decision a line, taken in the order of their dates."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from aegis_engine import Vault
from aegis_flower.errors import DataError

DECISIONS: Final = ("given", "withdrawn", "objected", "restricted", "lifted")
Unknown = Literal["fail", "skip", "keep"]
_PERSON = ("person", "subject", "id", "patient_id", "subject_id", "person_id")
_SHOWN = 20


@dataclass(frozen=True)
class Decision:
    """One line: who, for which purpose (None: for all), what, when; ``line`` counts from 1."""

    line: int
    person: str
    purpose: str | None
    what: str
    when: str


@dataclass
class ConsentsImported:
    """What an import of decisions did.

    Attributes:
        taken: decisions on record, by what they are.
        rows: rows of live data sets that they govern, by what they are.
        withheld: people whose consent was not renewed, because they withdrew it before; see ``renew``.
        unknown: lines of people without a row.
        superseded: lines that a later one of the same person and purpose replaces.
    """

    taken: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    withheld: int = 0
    unknown: list[int] = field(default_factory=list)
    superseded: int = 0


def read(path: str | Path) -> list[Decision]:
    """Reads a CSV file with the columns person, purpose, decision and, where they have one, date (ISO 8601).

    Raises:
        DataError: names the line and the column.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path.name}: it cannot be read: {error}") from None
    if not rows:
        raise DataError(f"{path.name}: it is empty")
    header = [name.strip().lower() for name in rows[0]]
    person = next((name for name in _PERSON if name in header), None)
    if person is None or "decision" not in header:
        raise DataError(
            f"{path.name}: the first line names the columns: person, purpose, decision, and date if there is one"
        )
    decisions = []
    for number, row in enumerate(rows[1:], 2):
        if any(field.strip() for field in row):
            if len(row) != len(header):
                raise DataError(f"{path.name}: line {number} has {len(row)} fields, the first line {len(header)}")
            about = {name: field.strip() for name, field in zip(header, row, strict=True)}
            decisions.append(_decision(f"{path.name}: line {number}", number, about[person], about))
    return decisions


def _decision(where: str, line: int, person: str, about: dict[str, str]) -> Decision:
    what, purpose, when = about["decision"].lower(), about.get("purpose") or None, about.get("date", "")
    if not person:
        raise DataError(f"{where}: it names nobody")
    if what not in DECISIONS:
        raise DataError(f"{where}: the decision is not one of {', '.join(DECISIONS)}")
    if purpose is None and what in ("given", "withdrawn"):
        raise DataError(f"{where}: consent is for a purpose; name it")
    if when:
        try:
            dt.datetime.fromisoformat(when)
        except ValueError:
            raise DataError(f"{where}: the date is not as in 2026-11-28 (ISO 8601)") from None
    return Decision(line, person, purpose, what, when)


def apply(
    vault: Vault, decisions: Sequence[Decision], *, renew: bool = False, unknown: Unknown = "fail"
) -> ConsentsImported:
    """Puts decisions on record. Everything is checked before the first one is.

    Args:
        vault: an open vault.
        decisions: as `read` gives them. Of one person and purpose, the last one by its date counts; of one date, the last line.
        renew: consent that was withdrawn in this vault before is given anew. Without it a withdrawal stands, whatever an older
            list says.
        unknown: what becomes of people without a row: ``fail``, ``skip`` them, or ``keep`` the decision for rows to come.

    Raises:
        DataError: people without a row, where `unknown` is ``fail``: with their lines.
        PolicyError: AEG-P013, AEG-P014: an identifier or a purpose that is none.
    """
    done = ConsentsImported()
    known = vault.consent_known([one.person for one in decisions])
    done.unknown = [one.line for one, there in zip(decisions, known, strict=True) if not there]
    if done.unknown and unknown == "fail":
        lines = ", ".join(map(str, done.unknown[:_SHOWN]))
        more = f" and {len(done.unknown) - _SHOWN} more" if len(done.unknown) > _SHOWN else ""
        raise DataError(
            f"{len(done.unknown)} decisions are of people without a row (line {lines}{more}), and none was put on record; "
            "correct them, leave them out (--unknown skip) or keep them for rows to come (--unknown keep)"
        )
    last: dict[tuple[str, str | None, bool], Decision] = {}
    for one, there in zip(decisions, known, strict=True):
        if not there and unknown == "skip":
            continue
        # Consent and its withdrawal are one matter, objections and restrictions another.
        key = (one.person, one.purpose, one.what in ("given", "withdrawn"))
        if key in last:
            done.superseded += 1
            if _day(one) < _day(last[key]):
                continue
        last[key] = one
    groups: dict[tuple[str, str | None], list[str]] = {}
    for one in last.values():
        groups.setdefault((one.what, one.purpose), []).append(one.person)
    # What forbids comes first: a fault in the middle leaves people rather without consent.
    order = {"withdrawn": 0, "objected": 1, "restricted": 2, "lifted": 3, "given": 4}
    for (what, purpose), people in sorted(groups.items(), key=lambda item: order[item[0][0]]):
        rows = _put(vault, what, purpose, people, renew=renew, done=done, keep=unknown == "keep")
        done.taken[what] = done.taken.get(what, 0) + len(people)
        done.rows[what] = done.rows.get(what, 0) + rows
    return done


def _day(one: Decision) -> dt.datetime:
    if not one.when:
        return dt.datetime.min.replace(tzinfo=dt.UTC)
    found = dt.datetime.fromisoformat(one.when)
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _put(
    vault: Vault, what: str, purpose: str | None, people: list[str], *, renew: bool, done: ConsentsImported, keep: bool
) -> int:
    if what == "given":
        assert purpose is not None
        if renew:
            return vault.consent_grant(people, purpose, unknown_ok=keep)
        granted, withheld = vault.consent_grant_unless_withdrawn(people, purpose, unknown_ok=keep)
        done.withheld += withheld
        return granted
    if what == "withdrawn":
        assert purpose is not None
        return vault.consent_withdraw(people, purpose, unknown_ok=keep)
    call = {"objected": vault.consent_object, "restricted": vault.consent_restrict, "lifted": vault.consent_lift}[what]
    return call(people, purpose, unknown_ok=keep)

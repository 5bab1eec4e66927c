"""Lists of what people allow and forbid, as files: one decision a line, taken in the order of their dates."""

from __future__ import annotations

import csv
import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal
from unicodedata import normalize

from aegis_engine import Vault
from aegis_flower.errors import DataError
from aegis_flower.importer.convert import WHOLE

DECISIONS: Final = ("given", "withdrawn", "objected", "restricted", "lifted")
Unknown = Literal["fail", "skip", "keep"]
_PERSON = ("person", "subject", "id", "patient_id", "subject_id", "person_id")
_SHOWN = 20
_CONSENT = ("given", "withdrawn")


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
    rows = _records(path)
    if not rows:
        raise DataError(f"{path.name}: it is empty")
    header = [name.strip().lower() for name in rows[0][1]]
    person = next((name for name in _PERSON if name in header), None)
    if person is None or "decision" not in header:
        raise DataError(
            f"{path.name}: the first line names the columns: person, purpose, decision, and date if there is one"
        )
    if twice := next((name for name in header if name and header.count(name) > 1), None):
        raise DataError(f"{path.name}: two columns are called {twice!r:.80}; which one counts?")
    decisions = []
    for number, row in rows[1:]:
        if any(field.strip() for field in row):
            if len(row) != len(header):
                raise DataError(f"{path.name}: line {number} has {len(row)} fields, the first line {len(header)}")
            about = {name: field.strip() for name, field in zip(header, row, strict=True)}
            decisions.append(_decision(f"{path.name}: line {number}", number, about[person], about))
    return decisions


def _records(path: Path) -> list[tuple[int, list[str]]]:
    """Records of a CSV file, and the line on which each starts."""
    start, rows = 1, list[tuple[int, list[str]]]()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            for row in reader:
                rows.append((start, row))
                start = reader.line_num + 1
    except UnicodeDecodeError:
        raise DataError(f"{path.name}: it cannot be read: it is no UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path.name}: it cannot be read: from line {start} on: {error}") from None
    except OSError as error:
        raise DataError(f"{path.name}: it cannot be read: {error.strerror}") from None
    return rows


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
            An objection and a restriction stand beside each other, until a later line lifts them.
        renew: consent that was withdrawn in this vault before is given anew. Without it a withdrawal stands, whatever an older
            list says.
        unknown: what becomes of people without a row: ``fail``, ``skip`` them, or ``keep`` the decision for rows to come.

    Raises:
        DataError: people without a row, where `unknown` is ``fail``: with their lines; lines of one person with a date and
            without, of which nobody knows which is the later one.
        PolicyError: AEG-P013, AEG-P014: an identifier or a purpose that is none.
    """
    done = ConsentsImported()
    decisions, known = _spelt(vault, decisions)
    done.unknown = [one.line for one, there in zip(decisions, known, strict=True) if not there]
    if done.unknown and unknown == "fail":
        lines = ", ".join(map(str, done.unknown[:_SHOWN]))
        more = f" and {len(done.unknown) - _SHOWN} more" if len(done.unknown) > _SHOWN else ""
        raise DataError(
            f"{len(done.unknown)} decisions are of people without a row (line {lines}{more}), and none was put on record; "
            "correct them, leave them out (--unknown skip) or keep them for rows to come (--unknown keep)"
        )
    taken = [one for one, there in zip(decisions, known, strict=True) if there or unknown != "skip"]
    _check_dates(taken)
    if unknown != "keep":
        _check_purposes(vault, taken)
    last = _last(taken)
    done.superseded = len(taken) - len(last)
    groups: dict[tuple[str, str | None], list[str]] = {}
    for one in last:
        groups.setdefault((one.what, one.purpose), []).append(one.person)
    # What forbids comes first: a fault in the middle leaves people rather without consent. Objections and restrictions that are
    # left are later than what is lifted.
    order = {"withdrawn": 0, "lifted": 1, "objected": 2, "restricted": 3, "given": 4}
    for (what, purpose), people in sorted(groups.items(), key=lambda item: order[item[0][0]]):
        rows = _put(vault, what, purpose, people, renew=renew, done=done, keep=unknown == "keep")
        done.taken[what] = done.taken.get(what, 0) + len(people)
        done.rows[what] = done.rows.get(what, 0) + rows
    return done


def _spelt(vault: Vault, decisions: Sequence[Decision]) -> tuple[list[Decision], list[bool]]:
    """Each person and purpose in one spelling, and who has rows. A person who is not known as 17.0 may be so as 17."""
    known = vault.consent_known([one.person for one in decisions])
    plain = [re.sub(WHOLE, r"\1", one.person) for one in decisions]
    also = vault.consent_known(plain)
    spelt = [
        replace(
            one,
            person=normalize("NFC", (other if not there and again else one.person).strip()),
            purpose=one.purpose if one.purpose is None else normalize("NFC", one.purpose.strip()),
        )
        for one, there, other, again in zip(decisions, known, plain, also, strict=True)
    ]
    return spelt, [there or again for there, again in zip(known, also, strict=True)]


def _check_dates(decisions: list[Decision]) -> None:
    """An undated line is neither before nor after a dated one."""
    first: dict[tuple[str, bool], Decision] = {}
    for one in decisions:
        other = first.setdefault((one.person, one.what in _CONSENT), one)
        if bool(other.when) != bool(one.when):
            raise DataError(
                f"lines {other.line} and {one.line} are of one person, and only one of them has a date: nobody knows which "
                "decision is the later one, and none was put on record; give both a date"
            )


def _check_purposes(vault: Vault, decisions: list[Decision]) -> None:
    """Before anything is on record: a purpose in the middle of a list may be none."""
    known = {purpose for one in vault.datasets().values() for purpose in vault.card(one)["facts"]["purposes"]}
    if odd := next((one for one in decisions if one.purpose is not None and one.purpose not in known), None):
        raise DataError(
            f"line {odd.line}: no live data set has the purpose {odd.purpose!r:.100}; there are {', '.join(sorted(known))}; "
            "nothing was put on record"
        )


def _last(decisions: list[Decision]) -> list[Decision]:
    """The decisions that no later one replaces."""
    consent: dict[tuple[str, str | None], Decision] = {}
    other: dict[str, dict[tuple[str | None, str], Decision]] = {}  # by person
    for one in sorted(decisions, key=_day):  # lines of one date stay in their order
        if one.what in _CONSENT:
            consent[one.person, one.purpose] = one
            continue
        mine = other.setdefault(one.person, {})
        if one.what == "lifted":
            for key in [k for k in mine if k[1] != "lifted" and one.purpose in (None, k[0])]:
                del mine[key]
        mine[one.purpose, one.what] = one
    return [*consent.values(), *(one for mine in other.values() for one in mine.values())]


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

"""Columns that name somebody, or may: what a steward should look at before anything is stored. Judged by name and by form."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa

# Whole words of a column's name, in lower case; several languages, because columns are.
_NAMED: Final = {
    "a person's name": "name surname firstname lastname forename vorname nachname nom prenom apellido nombre",
    "an e-mail address": "email mail",
    "a telephone number": "phone telephone tel mobile fax telefon handy",
    "an address": "address street strasse adresse addr rue calle",
    "a postal code": "zip zipcode postcode postal plz",
    "a date of birth": "birth birthdate birthday dob born geburtsdatum naissance",
    "an official number": "ssn insurance passport nhs mrn iban taxid licence license national svnr",
    "a network address": "ip ipaddress mac",
}
_FORMS: Final = {
    "an e-mail address": r"^[^@\s]+@[^@\s]+\.[A-Za-z]{2,}$",
    "a network address": r"^(\d{1,3}\.){3}\d{1,3}$",
    "a bank account (IBAN)": r"^[A-Z]{2}\d{2}[A-Z0-9]{10,30}$",
    "a telephone number": r"^\+?[\d][\d\s/().-]{7,}\d$",
}
_SHARE: Final = 0.5  # of the values that are there
_WORDS: Final = 5  # per value, on average: free text
_ROWS: Final = 50  # below, nothing is said of uniqueness


def words(name: str) -> list[str]:
    """The words of a column's name: ``dateOfBirth`` and ``date_of_birth`` alike."""
    apart = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return [word for word in re.split(r"[^A-Za-z]+", apart.lower()) if word]


def suspicious(name: str, kind: str, sample: pa.Array) -> list[str]:
    """What a column looks like, if it looks like something that names people: phrases such as ``a person's name``.

    Args:
        name: of the column.
        kind: as drafted.
        sample: its first values, as text.
    """
    import pyarrow.compute as pc

    told: list[str] = []
    own = words(name)
    joined = "".join(own)
    for what, known in _NAMED.items():
        if any(word in own or word == joined for word in known.split()):
            told.append(what)
    if kind in ("boolean", "number"):
        return told[:1] if kind == "number" else []
    there = sample.drop_null()
    if not len(there):
        return told
    for what, form in _FORMS.items():
        share = pc.mean(pc.match_substring_regex(there, form).cast("int8")).as_py()
        digits = what == "a telephone number" and kind in ("integer", "date", "time")
        if share >= _SHARE and what not in told and not digits:
            told.append(what)
    if kind == "text":
        count = pc.mean(pc.list_value_length(pc.utf8_split_whitespace(there))).as_py()
        if count >= _WORDS:
            told.append("free text, which may name anybody")
    if (
        kind in ("text", "integer", "category")
        and len(there) >= _ROWS
        and pc.count_distinct(there).as_py() == len(there)
    ):
        told.append("an identifier: no value comes twice")
    return told


def advice(what: list[str]) -> str:
    """One sentence for the schema's draft."""
    return f"this looks like {' and '.join(what)}; leave it out, or say why it is needed"


def any_name(name: str, of: Any) -> bool:
    """Whether a column's name has one of these words."""
    own = words(name)
    return any(word in own for word in of) or "".join(own) in of

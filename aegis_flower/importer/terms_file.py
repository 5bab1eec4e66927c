"""Terms as a file that people review and commit (``terms.toml``)."""

from __future__ import annotations

import dataclasses
import json
import time
import tomllib
from pathlib import Path
from typing import Any

from aegis_engine.types import DatasetCard

from aegis_flower.errors import ConfigError
from aegis_flower.terms import BASES, Terms

_WORDS = {
    "purposes": "what the rows may be used for; a run names one of them",
    "basis": "lawful basis (GDPR article 6(1)): " + ", ".join(BASES),
    "retention_days": "last day of use, counted from the day of the import",
    "approved_columns": "columns a run may ask for; leave the line out for all",
    "min_rows": "fewest rows an update may be computed on",
    "min_subjects": "fewest people an update may be computed on",
    "budget_epsilon": "epsilon that all runs together may spend on these people",
    "delta": "delta that epsilon is stated at",
    "require_dp": "an update must carry differential privacy",
    "require_secure_aggregation": "an update must be masked, so that the server learns the sum alone",
    "max_evaluations": "most evaluations of one run on these rows",
    "controller": "who answers for the data (GDPR article 4(7))",
    "lineage": "a lineage of this vault that the rows go on with, though no person tells so",
}


def read(path: str | Path) -> Terms:
    """Reads a terms file.

    Raises:
        ConfigError: names the key and what it must be.
    """
    try:
        whole = tomllib.loads(Path(path).read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"is no TOML: {error}") from None
    if other := next((key for key in whole if key not in _WORDS), None):
        raise ConfigError(f"terms.{other}", f"no such key; there are {', '.join(_WORDS)}")
    if "purposes" not in whole:
        raise ConfigError("terms.purposes", 'name at least one purpose, such as purposes = ["research"]')
    return Terms(**whole)


def write(terms: Terms, title: str = "") -> str:
    """The terms as TOML, each key with what it means."""
    lines = [f"# {line}".rstrip() for line in title.splitlines()]
    for key, words in _WORDS.items():
        value = getattr(terms, key)
        if value in (None, ""):
            continue
        plain = list(value) if isinstance(value, tuple) else value
        lines += [f"# {words}", f"{key} = {json.dumps(plain, ensure_ascii=False)}"]
    return "\n".join(lines) + "\n"


def of_card(card: DatasetCard) -> Terms:
    """The terms of a data set; ``retention_days`` counts from today."""
    facts: dict[str, Any] = card["facts"]
    first = card["classes"][0]
    today = int(time.time() // 86400)
    days = 365_250 if first["last_day"] is None else max(0, first["last_day"] - today)
    approved = None if set(facts["approved_columns"]) == set(facts["columns"]) else facts["approved_columns"]
    return Terms(
        purposes=facts["purposes"],
        approved_columns=approved,
        basis=first["basis"],
        retention_days=days,
        min_rows=facts["min_rows"],
        min_subjects=facts["min_subjects"],
        budget_epsilon=facts["budget_micro_epsilon"] / 1e6,
        require_dp=facts["require_dp"],
        require_secure_aggregation=facts["require_secure_aggregation"],
        controller=facts["controller"],
        delta=facts.get("delta_femto", 10**10) / 1e15,
        max_evaluations=facts.get("max_evaluations", 100),
    )


def changed(terms: Terms, **keys: Any) -> Terms:
    """The same terms with some of them changed."""
    return dataclasses.replace(terms, **keys)

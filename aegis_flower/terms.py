"""Terms: what the data steward lays down for a data set. Checked when they are made, sealed with the data at ingest."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from aegis_engine.errors import AegisError

from aegis_engine import normal_name
from aegis_flower.errors import ConfigError

BASES = ("consent", "contract", "legal_obligation", "vital_interests", "public_task", "legitimate_interests")
# Bounds that the engine has as well (crates/policy/src/rows/facts.rs).
DELTA_MIN, DELTA_MAX = 1e-12, 1e-2
BUDGET_MAX = 1e6
RETENTION_MAX = 365_250
_COUNT_MAX = 2**53


@dataclass(frozen=True)
class Terms:
    """What the data steward lays down for a data set at ingest. Sealed with the data; no run can widen it.

    Attributes:
        purposes: what the rows may be used for.
        approved_columns: columns a permit may open; None for all.
        basis: lawful basis (GDPR article 6(1)): consent, contract, legal_obligation, vital_interests, public_task or
            legitimate_interests.
        retention_days: last day of use, counted from today.
        min_rows: fewest rows an update may be computed on.
        min_subjects: fewest people an update may be computed on.
        budget_epsilon: ε that all runs together may spend on the people of the data set, in this role, at `delta`.
        require_dp: an update must carry differential privacy.
        require_secure_aggregation: an update must be masked.
        controller: who answers for the data (GDPR article 4(7)); the data set's name when empty.
        delta: δ that ε is stated at, 1e-12 to 1e-2.
        lineage: a lineage of this vault that the rows go on with, though no person tells so (`Vault.lineages`).
        max_evaluations: most evaluations of one run on these rows.

    Raises:
        ConfigError: a value that means nothing; names the field and the value.
    """

    purposes: Collection[str]
    approved_columns: Collection[str] | None = None
    basis: str = "consent"
    retention_days: int = 365
    min_rows: int = 16
    min_subjects: int = 10
    budget_epsilon: float = 10.0
    require_dp: bool = True
    require_secure_aggregation: bool = True
    controller: str = ""
    delta: float = 1e-5
    lineage: str | None = None
    max_evaluations: int = 100

    def __post_init__(self) -> None:
        purposes = tuple(_name("purposes", one) for one in _names("purposes", self.purposes))
        if not purposes:
            raise _wrong("purposes", self.purposes, "name at least one purpose")
        object.__setattr__(self, "purposes", purposes)
        if self.approved_columns is not None:
            object.__setattr__(self, "approved_columns", tuple(_names("approved_columns", self.approved_columns)))
        if not isinstance(self.basis, str) or self.basis not in BASES:
            raise _wrong("basis", self.basis, f"take one of {', '.join(BASES)}")
        for name, low, high in (
            ("retention_days", 0, RETENTION_MAX),
            ("min_rows", 1, _COUNT_MAX),
            ("min_subjects", 1, _COUNT_MAX),
            ("max_evaluations", 0, _COUNT_MAX),
        ):
            object.__setattr__(self, name, _whole(name, getattr(self, name), low, high))
        for name, least, most in (("budget_epsilon", 1e-6, BUDGET_MAX), ("delta", DELTA_MIN, DELTA_MAX)):
            object.__setattr__(self, name, _real(name, getattr(self, name), least, most))
        for name in ("require_dp", "require_secure_aggregation"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, getattr(self, name), "take true or false")
        self._check_owner()

    def _check_owner(self) -> None:
        if not isinstance(self.controller, str):
            raise _wrong("controller", self.controller, "give a text")
        if self.controller:
            object.__setattr__(self, "controller", _name("controller", self.controller))
        lineage = self.lineage
        if lineage is not None and not (isinstance(lineage, str) and re.fullmatch("[0-9a-f]{32}", lineage)):
            raise _wrong("lineage", self.lineage, "give 32 hex digits, as Vault.lineages does, or None")

    def facts(self, columns: list[str], name: str, role: str) -> dict[str, Any]:
        """As the vault seals them, for a data set of that name with these columns.

        Raises:
            ConfigError: an approved column that there is not.
        """
        approved = columns if self.approved_columns is None else list(self.approved_columns)
        if other := [one for one in approved if one not in columns]:
            raise _wrong(
                "approved_columns", other[0], f"{name} has no such column, its columns are {', '.join(columns)}"
            )
        facts: dict[str, Any] = {
            "purposes": sorted(set(self.purposes)),
            "columns": columns,
            "approved_columns": sorted(set(approved)),
            "min_rows": self.min_rows,
            "min_subjects": self.min_subjects,
            "require_dp": self.require_dp,
            "require_secure_aggregation": self.require_secure_aggregation,
            "budget_micro_epsilon": math.floor(round(self.budget_epsilon * 1e6, 3)),
            "controller": self.controller or name,
            "delta_femto": math.floor(round(self.delta * 1e15, 3)),
            "max_evaluations": self.max_evaluations,
            "lineages": [self.lineage] if self.lineage else [],
        }
        return {**facts, "role": role}


def _wrong(field: str, value: object, remedy: str) -> ConfigError:
    return ConfigError(f"terms.{field}", f"{value!r:.100} is not possible; {remedy}")


def _names(field: str, value: object) -> list[str]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Collection):
        raise _wrong(field, value, "give a list of names, such as ['research']")
    if other := [one for one in value if not isinstance(one, str)]:
        raise _wrong(field, other[0], "each is a text")
    return list(value)


def _name(field: str, value: str) -> str:
    try:
        return normal_name(value)
    except AegisError as error:
        raise _wrong(field, value, str(error)) from None


def _whole(field: str, value: object, low: int, high: int) -> int:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and low <= int(value) <= high:
        return int(value)
    raise _wrong(field, value, f"take a whole number from {low} to {high}")


def _real(field: str, value: object, low: float, high: float) -> float:
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            real = float(value)
        except OverflowError:
            real = math.inf
        if low <= real <= high:
            return real
    raise _wrong(field, value, f"take a number from {low:g} to {high:g}")


__all__ = ["BASES", "Terms"]

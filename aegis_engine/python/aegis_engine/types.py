"""Shapes of what the engine returns as dictionaries: receipts, reports, facts. Only types may be put here; no code runs."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, TypedDict

Level = Literal["logical", "ratcheted-file", "hardware", "kms"]
"""How strongly something was shredded; see ``docs/ENCRYPTION.md``."""

AuditRecord: TypeAlias = dict[str, Any]
"""One record of an audit log. ``event``, ``time``, ``seq`` and ``hash`` are always there; the event says which others are, so
no one typed dictionary fits."""


class KnownCopy(TypedDict):
    """A copy of the keystore that a shred does not reach."""

    when: int
    epoch: int
    generation: int
    label: str


class ShredReceipt(TypedDict):
    """Evidence of one shred; times are seconds since 1970."""

    objects: list[str]
    level: Level
    epoch_before: int
    epoch_after: int
    when: int
    audit_seq: int
    copies: list[KnownCopy]
    caveats: list[str]


class ColumnCard(TypedDict):
    """One column: its type as `ComplianceEngine.layout` names it, and its values per row."""

    name: str
    type: str
    count: int


class ClassCard(TypedDict):
    """Rows of one class; ``last_day`` counts days since 1970-01-01."""

    basis: str
    last_day: int | None
    special: bool
    rows: int


class ConsentCard(TypedDict):
    """How many people of a data set stand how to one purpose; somebody may be counted in more than one."""

    consented: int
    without: int
    objected: int
    restricted: int
    erased: int


class DatasetCard(TypedDict):
    """A data set as its steward sees it; ``created`` is seconds since 1970, ``facts`` the terms as they are sealed."""

    id: str
    name: str
    kind: Literal["records", "table"]
    bytes: int
    created: int
    rows: int
    people: int
    columns: list[ColumnCard]
    about: str | None
    facts: dict[str, Any]
    classes: list[ClassCard]
    consent: dict[str, ConsentCard]


class Amended(TypedDict):
    """What an amendment of terms did; names of terms."""

    dataset: str
    narrower: list[str]
    wider: list[str]


class ErasedFrom(TypedDict):
    """One data set that a person was erased from."""

    dataset: str
    now: str | None
    name: str
    rows: int
    unreachable: bool


class EraseReceipt(TypedDict):
    """Evidence that a person was erased."""

    level: Level
    epoch_before: int
    epoch_after: int
    when: int
    datasets: list[ErasedFrom]
    objects: list[str]
    audit_seq: int
    copies: list[KnownCopy]
    caveats: list[str]


class Damage(TypedDict):
    """An object that does not authenticate."""

    object: str
    error: str
    code: str


class ScrubReport(TypedDict):
    """What a scrub read, and what was damaged."""

    objects: int
    chunks: int
    chunks_in_all: int
    bytes: int
    damaged: list[Damage]


class Finding(TypedDict):
    """One thing that ``fsck`` found."""

    place: str
    object: str | None
    severity: Literal["notice", "note", "damage"]
    damage: str
    action: str
    repaired: bool


class FsckReport(TypedDict):
    """What ``fsck`` found in a vault folder."""

    findings: list[Finding]
    objects: int
    opened: bool
    clean: bool


class MachineFact(TypedDict):
    """What the machine does to the promises of a vault; ``risk`` is None where all is well."""

    topic: str
    found: str
    risk: str | None


class ObjectInfo(TypedDict):
    """One object of a vault; ``created`` is seconds since 1970."""

    id: str
    name: str
    media_type: str
    subject: str | None
    attrs: dict[str, str]
    created: int
    bytes: int
    chunks: int
    chunk_bytes: int


class Explanation(TypedDict):
    """The decision that ``authorize`` would make."""

    allowed: bool
    policies: list[str]
    advice: str
    errors: list[str]
    rows: int
    subjects: int
    denied: dict[str, int]


class DatasetTerms(TypedDict):
    """All that a steward laid down for a data set."""

    purposes: list[str]
    columns: list[str]
    approved_columns: list[str]
    min_rows: int
    min_subjects: int
    require_dp: bool
    require_secure_aggregation: bool
    budget_micro_epsilon: int
    budget_epsilon: float
    controller: str
    role: Literal["train", "holdout"]
    delta: float
    max_evaluations: int
    lineage: str
    lineages: list[str]


class RosterFacts(TypedDict):
    """A roster whose signature was checked; members are names by identity, times seconds since 1970."""

    serial: int
    issued: int
    expires: int
    hash: bytes
    members: dict[bytes, str]


class AuditReport(TypedDict):
    """What ``audit_verify`` read: records, hash of the last in hex, bytes."""

    records: int
    head: str
    bytes: int

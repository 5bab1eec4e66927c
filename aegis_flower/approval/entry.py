"""Entry: one approval, and what the operator's list remembers of it. Whatever has another type or bound is none."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

# What protects the data while the app runs; docs/NODE.md says more of each.
MODES: Final = ("recipe", "any", "blocks", "embedded")
LATEST: Final = 2**53  # seconds and serials above are read differently by different readers of JSON
_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME_MAX: Final = 1024


def is_hash(value: object) -> bool:
    """Whether this is a SHA-256 in its one spelling: 64 lower-case hexadecimal digits."""
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def is_name(value: object) -> bool:
    """Whether this can name a purpose or a data set: 1 to 1024 characters that a terminal shows as they are."""
    return isinstance(value, str) and 0 < len(value) <= _NAME_MAX and value.isprintable() and value == value.strip()


def is_count(value: object, least: int = 0) -> bool:
    """Whether this is a whole number from `least` to 2^53; True is none."""
    return type(value) is int and least <= value <= LATEST


@dataclass(frozen=True)
class Approval:
    """Leave for one app to run on data of a node.

    Attributes:
        fab_hash: SHA-256 of the bundle's bytes as Flower computes it, 64 lower-case hexadecimal digits.
        dataset: the data set it may use; None for any of the node.
        mode: what runs it: one of `MODES`.
        purpose: what the data may be used for, in the words of the data's terms.
        expires: seconds since 1970 from which it counts no more.
        serial: of the list when it was given; later approvals have a higher one.

    Raises:
        ValueError: a field has another type, or is out of its bounds; says which.
    """

    fab_hash: str
    dataset: str | None
    mode: str
    purpose: str
    expires: int
    serial: int

    def __post_init__(self) -> None:
        for name, fits, wanted in (
            ("fab_hash", is_hash(self.fab_hash), "64 lower-case hexadecimal digits"),
            ("dataset", self.dataset is None or is_name(self.dataset), "a name of 1 to 1024 printable characters"),
            ("mode", isinstance(self.mode, str) and self.mode in MODES, f"one of {', '.join(MODES)}"),
            ("purpose", is_name(self.purpose), "a name of 1 to 1024 printable characters"),
            ("expires", is_count(self.expires), "whole seconds since 1970"),
            ("serial", is_count(self.serial, 1), "a whole number from 1"),
        ):
            if not fits:
                raise ValueError(f"{name} of an approval is {getattr(self, name)!r:.80}; it must be {wanted}")

    @property
    def use(self) -> tuple[str, str | None, str]:
        """What it is for: an app, a data set, a purpose. A list has one entry for each use."""
        return self.fab_hash, self.dataset, self.purpose


@dataclass(frozen=True)
class Entry:
    """An approval in the operator's list.

    Attributes:
        approval: what was allowed.
        since: seconds since 1970 when it was.
        revoked: seconds since 1970 when it was taken back; None while it counts.

    Raises:
        ValueError: a time is none.
    """

    approval: Approval
    since: int
    revoked: int | None = None

    def __post_init__(self) -> None:
        if not is_count(self.since) or not (self.revoked is None or is_count(self.revoked)):
            raise ValueError("since and revoked of an entry are whole seconds since 1970")

    def counts(self, now: float) -> bool:
        """Whether it allows something, at this many seconds since 1970. A time that is no number counts as too late."""
        return self.revoked is None and now < self.approval.expires

    def to_line(self) -> str:
        """The entry as the list has it: JSON in one spelling, of ASCII characters."""
        one = self.approval
        said = {
            "app": one.fab_hash,
            "dataset": one.dataset,
            "expires": one.expires,
            "mode": one.mode,
            "purpose": one.purpose,
            "revoked": self.revoked,
            "serial": one.serial,
            "since": self.since,
        }
        return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @classmethod
    def of_line(cls, line: str) -> Entry:
        """Reads `to_line`, and nothing else.

        Raises:
            ValueError: it is something else, or spelled otherwise.
        """
        try:
            said: Any = json.loads(line)
            app, since, revoked = said.pop("app"), said.pop("since"), said.pop("revoked")
            entry = cls(Approval(fab_hash=app, **said), since, revoked)
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not an entry of a list of approvals ({type(error).__name__})") from None
        if entry.to_line() != line:
            raise ValueError("an entry in another spelling than its own")
        return entry

"""The keys of the node config: what a node's operator may write for Flower's ``--node-config``, each said once.

Others import the names; `settings` reads them, `make generated` makes the table of ``docs/CONFIG.md`` from `KEYS`.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

PREFIX: Final = "aegis-"
VAULT: Final = "aegis-vault"
VAULT_ID: Final = "aegis-vault-id"
KEY_FILE: Final = "aegis-key-file"
KEY: Final = "aegis-key"
DATASET: Final = "aegis-dataset"
NAME: Final = "aegis-name"
TRUST_SERVER: Final = "aegis-trust-server"
IDENTITY: Final = "aegis-identity"
ROSTER: Final = "aegis-roster"
ROSTER_SIGNER: Final = "aegis-roster-signer"
MIN_COHORT: Final = "aegis-min-cohort"
MIN_THRESHOLD: Final = "aegis-min-threshold"
MAX_NORM: Final = "aegis-max-norm"
MAX_EVALUATIONS: Final = "aegis-max-evaluations"
COLLUDING_PERCENT: Final = "aegis-colluding-percent"
REQUIRE_COMMIT: Final = "aegis-require-commit"
SAME_POLICY: Final = "aegis-same-policy"
FEATURES_SHA256: Final = "aegis-features-sha256"

TRUSTED: Final = (IDENTITY, ROSTER, ROSTER_SIGNER)  # all three or none


@dataclass(frozen=True)
class Setting:
    """One key of the node config.

    Attributes:
        kind: its type, in a word or two.
        wanted: what a value must be, as an error says it.
        fits: whether a value is that.
        default: what holds where the operator writes nothing.
        otherwise: the same in words, where it is no value.
        says: what it means.
        told: whether an error may repeat a wrong value; not where somebody may have put a key.
    """

    kind: str
    wanted: str
    fits: Callable[[Any], bool]
    says: str
    default: Any = None
    otherwise: str = "none"
    told: bool = True


def text(says: str, otherwise: str, most: int = 4096) -> Setting:
    """Printable text."""

    def fits(value: Any) -> bool:
        return isinstance(value, str) and 0 < len(value) <= most and value.isprintable()

    wanted = f"text of 1 to {most} printable characters, in quotes"
    return Setting("text", wanted, fits, says, otherwise=otherwise)


def whole(least: int, most: int, default: int, says: str) -> Setting:
    """A whole number within bounds."""

    def fits(value: Any) -> bool:
        return type(value) is int and least <= value <= most

    return Setting(f"{least} to {most}", f"a whole number from {least} to {most}", fits, says, default)


def number(most: float, otherwise: str, says: str) -> Setting:
    """A number above 0."""

    def fits(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value) and 0 < value <= most

    shown = f"{most:g}"
    return Setting(
        f"above 0, to {shown.replace('+0', '')}",
        f"a number above 0 and at most {shown}",
        fits,
        says,
        otherwise=otherwise,
    )


def flag(says: str) -> Setting:
    """Yes or no."""
    return Setting("true, false", "true or false, without quotes", lambda v: isinstance(v, bool), says, default=False)


def _is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False


def _is_place(value: Any) -> bool:
    place = r"(env|command|keyring|pkcs11):\S.*"
    return isinstance(value, str) and re.fullmatch(place, value) is not None and value.isprintable()


def is_hex_key(value: Any) -> bool:
    """Whether it is 32 bytes in hexadecimal digits."""
    return isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{64}", value) is not None


# Every key that a node knows; an `aegis-` key that is not here is refused.
KEYS: Final[dict[str, Setting]] = {
    VAULT: text("folder of the vault", "required"),
    VAULT_ID: Setting(
        "UUID",
        "the id that `aegis vault init` printed; vault.json has it",
        _is_uuid,
        "the vault that must lie there; another one in its place is refused (AEG-N018)",
        otherwise="any",
    ),
    KEY_FILE: text(f"its key file, of 32 bytes, or in its place `{KEY}`", "required"),
    KEY: Setting(
        "place",
        "the place of a key, never the key itself: env:NAME, command:PROGRAM ARGS, keyring:SERVICE/USER or pkcs11:MODULE:TOKEN "
        "(the PIN is in AEGIS_PIN)",
        _is_place,
        "where else the key is, never the key itself: `env:NAME` (64 hex digits), `command:PROGRAM ARGS`, "
        "`keyring:SERVICE/USER`, `pkcs11:MODULE:TOKEN` (the PIN in `AEGIS_PIN`)",
        told=False,
    ),
    DATASET: text(
        "data set in the vault; rows to evaluate on are in `NAME.holdout`, if it has one",
        "`data.name` of the run",
        1024,
    ),
    NAME: text("name in audit records and in the report", "`node-<id>`", 128),
    TRUST_SERVER: flag(
        "without a roster: take the server's word for who the other clients are. A node with neither does not start"
    ),
    IDENTITY: text(
        "file of the node's key (`aegis identity new`). This key and the next two: all three or none. The newest serial of "
        "the roster is kept in its folder, in `NAME.roster`",
        "none",
    ),
    ROSTER: text("file of the roster (`aegis roster sign`)", "none"),
    ROSTER_SIGNER: Setting("64 hex digits", "64 hexadecimal digits", is_hex_key, "the key that must have signed it"),
    MIN_COHORT: whole(2, 2**16, 3, "fewest clients this node masks with"),
    MIN_THRESHOLD: whole(2, 2**16, 2, "fewest shares that may unmask one client; the protocol's own bounds hold, too"),
    MAX_NORM: number(1e6, "the run's", "largest L2 norm of an update it releases"),
    MAX_EVALUATIONS: whole(
        0,
        10_000,
        1,
        "how often one run may evaluate on the held-out rows, if they are under differential privacy; the holdout's terms "
        "may say less",
    ),
    COLLUDING_PERCENT: whole(0, 100, 10, "share of the clients that may work with the server against this node"),
    REQUIRE_COMMIT: flag("masks only in rounds with the commit step"),
    SAME_POLICY: flag("takes part only with nodes whose data are under this node's own policy bundle"),
    FEATURES_SHA256: Setting(
        "64 hex digits",
        "64 hexadecimal digits, as `aegis data features PLAN` prints them",
        is_hex_key,
        "the feature plan that apps may read the data by (`aegis data features PLAN` prints its hash); another one, or none, is "
        "refused (AEG-N014)",
        otherwise="any",
    ),
}

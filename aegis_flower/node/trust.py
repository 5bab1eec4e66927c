"""Trust: whom a node masks with, by its own identity and the roster its operator signed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aegis_engine import Identity, roster_open
from aegis_flower.errors import NodeError
from aegis_flower.files import write_atomically
from aegis_flower.node.keys import IDENTITY, ROSTER, ROSTER_SIGNER, TRUST_SERVER, TRUSTED, VAULT


def one_process(config: Mapping[str, Any]) -> dict[str, Any]:
    """The node config of a simulated node: where all parties are one process, there is nobody beside the server to trust."""
    whole = dict(config)
    if VAULT in whole and not any(key in whole for key in (*TRUSTED, TRUST_SERVER)):
        whole[TRUST_SERVER] = True
    return whole


@dataclass(frozen=True)
class Trust:
    """Whom this node masks with: its own identity, and the roster its operator signed.

    Attributes:
        identity_file: file of ``aegis identity new``.
        roster_file: file of ``aegis roster sign``.
        signer: the operator's verification key.
    """

    identity_file: Path
    roster_file: Path
    signer: bytes

    @classmethod
    def from_config(cls, given: Mapping[str, Any]) -> Trust | None:
        """Reads the three settings; None when the operator trusts the server instead.

        Raises:
            NodeError: some are missing, the signer is no key, or nothing says whom to trust.
        """
        missing = [key for key in TRUSTED if not given.get(key)]
        if len(missing) == len(TRUSTED):
            if given.get(TRUST_SERVER) is True:
                return None
            raise NodeError(
                "nothing says whom this node masks with: give it a roster ("
                + ", ".join(TRUSTED)
                + "), or let it take the "
                f"server's word, which a server that makes up clients can break, by the line {TRUST_SERVER} = true in the node "
                "config"
            )
        if missing:
            raise NodeError(
                f"the node config has some of {', '.join(TRUSTED)} but not {', '.join(missing)}; a roster is trusted by "
                "all three"
            )
        try:
            signer = bytes.fromhex(str(given[ROSTER_SIGNER]))
        except ValueError:
            signer = b""
        if len(signer) != 32:  # noqa: PLR2004 - an Ed25519 key
            raise NodeError(f"{ROSTER_SIGNER} is no key; `aegis identity show` prints it: 64 hexadecimal digits")
        return cls(Path(str(given[IDENTITY])), Path(str(given[ROSTER])), signer)

    def identity(self) -> Identity:
        """The node's key.

        Raises:
            NodeError: the file cannot be read.
        """
        try:
            return Identity.load(str(self.identity_file))
        except (OSError, ValueError) as error:
            raise NodeError(f"{IDENTITY}: {error}") from None

    def members(self) -> list[bytes]:
        """Identities of the roster, its signature, expiry and serial checked; a serial once taken is never gone below.

        Raises:
            NodeError: the roster cannot be read.
            RosterError: it is refused, as its code says.
        """
        taken_file = self.identity_file.with_name(self.identity_file.name + ".roster")
        try:
            text = self.roster_file.read_text()
            last = _last(taken_file)
            roster = roster_open(text, self.signer, now=int(time.time()), last=last)
            if last is None or roster["serial"] > last[0]:
                write_atomically({taken_file: f"{roster['serial']} {roster['hash'].hex()}\n".encode()})
        except (OSError, UnicodeDecodeError) as error:
            raise NodeError(f"{ROSTER}: {error}") from None
        return sorted(roster["members"])


def _last(file: Path) -> tuple[int, bytes] | None:
    """Serial and hash of the roster taken before; None when there was none.

    Raises:
        NodeError: the file is damaged. What it said is lost, so an older roster could pass for the newest.
    """
    if not file.exists():
        return None
    try:
        serial, digest = file.read_text().split()
        return int(serial), bytes.fromhex(digest)
    except ValueError:
        raise NodeError(
            f"{file} is damaged: it remembers the newest roster of this node; make sure that {ROSTER} is the operator's "
            "current one, then delete it"
        ) from None

"""A vault with a ledger, and the mechanism of most tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aegis_engine import Vault
from aegis_flower.ledger import (
    Ledger,
    Mechanism,
    Reservation,
)

DELTA = 1e-5
MECHANISM = Mechanism(2.0, 0.25)
HALF = DELTA / 2  # what each of the gate's two accountants has of δ


class Book:
    """A vault with a ledger of the data set ``d``."""

    def __init__(self, folder: Path) -> None:
        self.vault = Vault.create(str(folder / "vault"), key_file=str(folder / "key"), make_key=True)
        self.folder, self.key = folder / "vault", folder / "key"
        self.file = self.ledger.path

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.vault, "d")

    def reserve(self, run: str = "1", round_: int = 1, **other: Any) -> Reservation:
        asked: dict[str, Any] = {"mechanism": MECHANISM, "steps": 4, "delta": DELTA, "budget": 10.0, **other}
        return self.ledger.reserve(run=run, round_=round_, **asked)

    def lines(self) -> list[bytes]:
        return self.file.read_bytes().splitlines(keepends=True)

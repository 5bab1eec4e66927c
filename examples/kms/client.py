"""A vault whose epoch secrets live under keys of a key management service.

python examples/kms/client.py FOLDER http://127.0.0.1:PORT
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request

from aegis import Vault, keys

from aegis_engine import errors

GONE = 410


class HttpKeyService:
    """`aegis_engine.keys.KeyService` over HTTP. Pickles, so that worker processes can open the vault, too."""

    def __init__(self, address: str) -> None:
        self.address = address

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"{self.address}/keys/{path}", data=body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            told = error.read().decode()
            raise (errors.KeyDestroyed(told) if error.code == GONE else RuntimeError(told)) from None

    def wrap(self, vault: str, epoch: int, secret: bytearray) -> bytes:
        return self._ask("POST", f"{vault}/{epoch}/wrap", bytes(secret))

    def unwrap(self, vault: str, epoch: int, blob: bytes) -> bytes:
        return self._ask("POST", f"{vault}/{epoch}/unwrap", blob)

    def destroy(self, vault: str, epoch: int) -> str | None:
        return self._ask("DELETE", f"{vault}/{epoch}").decode()


if __name__ == "__main__":
    folder, address = sys.argv[1:]
    vault = Vault.new(folder, keys.kms(HttpKeyService(address)))
    stored = vault.store_bytes(b"to be forgotten", "note.txt")
    receipt = vault.shred(stored, require="kms")
    print(f"level {receipt['level']}, epoch {receipt['epoch_before']} destroyed")
    for caveat in receipt["caveats"]:
        print(f"note: {caveat}")

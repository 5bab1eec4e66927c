"""Reads a vault folder with `cryptography` alone: format version 1, keystores of versions 1 and 2.

Written from docs/ENCRYPTION.md, not from the engine. From the folder `tests`:

    python -m reference.vault_decoder VAULT --key-hex 00..1f | --passphrase TEXT     lists and checks every object
    python -m reference.vault_decoder VAULT ... --vectors OBJECT                     the derivation chain, as in the document
    python -m reference.vault_decoder --object FILE --dek-hex ..                     one object without its vault

Strict: whatever differs from the document raises `Bad` with the step that refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from reference.vault.folder import Vault
from reference.vault.keystore import Envelope, open_backup
from reference.vault.objects import Header, open_object
from reference.vault.order import order_of_records
from reference.vault.parts import Bad

__all__ = ["Bad", "Envelope", "Header", "Vault", "open_backup", "open_object", "order_of_records"]


def say(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vault", nargs="?", type=Path)
    parser.add_argument("--key-hex")
    parser.add_argument("--passphrase")
    parser.add_argument("--vectors")
    parser.add_argument("--object", type=Path)
    parser.add_argument("--dek-hex")
    args = parser.parse_args()
    if args.object:
        _, meta, plain = open_object(args.object.read_bytes(), bytes.fromhex(args.dek_hex))
        say({**meta, "sha256": hashlib.sha256(plain).hexdigest()})
        return
    key = bytes.fromhex(args.key_hex) if args.key_hex else None
    vault = Vault(args.vault, key=key, passphrase=args.passphrase)
    if args.vectors:
        for name, value in vault.vectors(args.vectors):
            sys.stdout.write(f"{name} = {value.hex()}\n")
        return
    for one in vault.body.live:
        info, plain = vault.read(one)
        say({**info, "sha256": hashlib.sha256(plain).hexdigest()})


if __name__ == "__main__":
    main()

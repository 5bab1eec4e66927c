"""Stores, verifies and streams one large object, each in a fresh process: peak resident memory and speed.

python benches/vault_large.py [--size-gib 10] [--dir FOLDER]      # needs twice the size on the disk
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEP = """
import sys, time
from aegis_engine import Vault
folder, what, step = sys.argv[1:]
vault = Vault.open(folder, bytes(32))
start = time.perf_counter()
if step == "store":
    print(vault.store_file(what), end=" ")
elif step == "verify":
    vault.verify(what)
else:
    buffer = bytearray(2**20)
    with vault.open_object(what) as reader:
        while reader.readinto(buffer):
            pass
seconds = time.perf_counter() - start
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(seconds, int(peak) * 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-gib", type=float, default=10)
    parser.add_argument("--dir", type=Path, default=Path.cwd())
    options = parser.parse_args()
    size = int(options.size_gib * 2**30)
    threads = min(os.cpu_count() or 1, 4)
    limit = (32 + 2 * threads) * 2**20
    with tempfile.TemporaryDirectory(prefix="aegis-large-", dir=options.dir) as made:
        source, vault = Path(made) / "source", Path(made) / "vault"
        block = os.urandom(2**20)
        with source.open("wb") as out:
            for number in range(size // 2**20):
                # Every block is another one, so that a mix-up is not hidden; random bytes for 10 GiB would take long.
                out.write(number.to_bytes(8, "little") + block[8:])
        from aegis_engine import Vault

        Vault.create(vault, bytes(32))
        stored = ""
        for step in ("store", "verify", "stream"):
            what = str(source) if step == "store" else stored
            ran = subprocess.run(
                [sys.executable, "-c", STEP, str(vault), what, step], capture_output=True, text=True, check=True
            )
            *ids, seconds, peak = ran.stdout.split()
            stored = ids[0] if ids else stored
            met = "met" if int(peak) <= limit else "MISSED"
            print(
                f"{step}: {size / 2**30:g} GiB in {float(seconds):.1f} s ({size / float(seconds) / 1e9:.2f} GB/s), peak "
                f"{int(peak) / 2**20:.1f} MiB of {limit / 2**20:.0f}: {met}",
                flush=True,
            )


if __name__ == "__main__":
    start = time.perf_counter()
    main()
    print(f"{time.perf_counter() - start:.0f} s in all")

"""A system that has no thread left: work goes on in the caller's, or ends with an error that says so; nothing hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import io, sys
from pathlib import Path
from aegis import Vault
from aegis_engine import errors
from aegis_engine.dataset import Fixed
folder = Path(sys.argv[1])
vault = Vault.create(folder / "v", bytes(32))
content = bytes(range(256)) * (20 * 4096)
(folder / "source").write_bytes(content)
stored = vault.store_file(folder / "source", threads=4)
assert bytes(vault.load(stored, threads=4)) == content
assert vault.verify(stored, threads=4) == 20
for work in (
    lambda: vault.store_stream(io.BytesIO(content), "stream"),
    lambda: list(vault.dataset(stored, Fixed(nbytes=4096)).batches(8)),
):
    try:
        work()
    except errors.VaultError as error:
        print(error)
assert [o["name"] for o in vault.list()] == ["source"]
"""


def test_without_a_thread_files_are_stored_and_read_and_streams_say_why_not(tmp_path: Path) -> None:
    # No address space holds such a stack, so no thread of Rust can start.
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, "RUST_MIN_STACK": str(1 << 46)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = ran.stdout.splitlines()
    assert len(told) == 2
    assert "start a thread to seal" in told[0]
    assert "start a thread to read" in told[1]

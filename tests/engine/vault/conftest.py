"""What a child process is given that must not be found anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from secret_child import KEY, ROWS


@pytest.fixture(scope="module")
def marker() -> bytes:
    """Eight finite float32, no two alike."""
    values = np.random.default_rng(int.from_bytes(os.urandom(8), "little")).normal(size=8).astype("<f4")
    assert len(set(values.tolist())) == 8
    return values.tobytes()


@pytest.fixture
def place(tmp_path: Path, marker: bytes) -> Iterator[Path]:
    """Source, table and key of the child; `scratch` is its TMPDIR and home."""
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "source").write_bytes(marker * ROWS)
    text = marker[:16].hex()
    (tmp_path / "table.csv").write_text("text,n\n" + "".join(f"{text},{n}\n" for n in range(500)))
    for folder in ("scratch", "work"):
        (tmp_path / folder).mkdir()
    yield tmp_path
    # pytest keeps the folders of its last runs; dumps and traces are hundreds of megabytes.
    for large in (*tmp_path.glob("trace.*"), *tmp_path.glob("taken"), *tmp_path.glob("work/core*")):
        large.unlink()

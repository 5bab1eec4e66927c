"""A hostile server against nodes with strict terms: nothing leaves them but codes and what was charged."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import torch
from hostile_server import NUMBER, SEED, Hostile
from hostile_truth import Truth

from aegis_flower.node.node import close_nodes

# Every code that a message can make one of these nodes give.
CODES = {
    *("AEG-B001", "AEG-F001", "AEG-N010", "AEG-N011", "AEG-N012", "AEG-N013", "AEG-N017", "AEG-S000"),
    *(f"AEG-S{n:03}" for n in (*range(1, 18), *range(21, 25))),
}


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    """In memory where there is such a folder: every charge is synced, which takes most of the time on a disk."""
    memory = Path("/dev/shm")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Hostile(Path(folder), Random(SEED), Truth(monkeypatch))
        close_nodes()
    logging.disable(logging.NOTSET)
    torch.set_num_threads(threads)


@pytest.mark.timeout(6 * 3600)
def test_nothing_leaves_a_strict_node_but_codes_and_what_was_charged(hostile: Hostile) -> None:
    started = time.monotonic()
    while hostile.sent < NUMBER:
        hostile.step()
    hostile.audit()
    print(hostile.told(time.monotonic() - started))  # noqa: T201 - what `make test-hostile` is for
    assert hostile.masked > 0, "the honest part of it worked"
    assert hostile.world.sums > 0, "and to its end"
    assert hostile.parsed() > 0.7
    if NUMBER >= 50_000:  # the rarest comes once in 5000
        assert hostile.seen.keys() >= CODES, f"never reached: {sorted(CODES - hostile.seen.keys())}"

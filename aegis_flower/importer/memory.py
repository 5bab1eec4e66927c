"""Memory of the arrays of an import: batches of one size come and go, and their pages should be used again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_WANTED: Final = "jemalloc"


@contextmanager
def reused() -> Iterator[None]:
    """Arrow takes new arrays from the allocator that gives pages back late, where pyarrow was built with it.

    Arrow's default gives them back at once, and the system clears each page anew: a fifth of the time of an import, and more
    memory at its peak. Arrays that are there already stay where they are, here and afterwards.
    """
    import pyarrow as pa

    before = pa.default_memory_pool()
    if _WANTED in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)

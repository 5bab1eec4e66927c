"""Tokens: words of a text as ids, by a hash that every node computes alike; no vocabulary is needed and none is learned."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aegis_flower.features.values import Values

LONGEST: Final = 64  # bytes of a word that count
_BASIS, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # FNV-1a of 64 bits (Fowler, Noll, Vo)
_FOLD = np.uint64(32)


def _letters() -> npt.NDArray[np.uint8]:
    """What each byte counts as: letters in small, digits and everything beyond ASCII as they are, else 0: between words."""
    table = np.arange(256, dtype=np.uint8)
    kept = np.array([not chr(b).isascii() or chr(b).isalnum() for b in range(256)])
    large = (table >= ord("A")) & (table <= ord("Z"))
    return np.where(kept, np.where(large, table + 32, table), 0).astype(np.uint8)


_LETTERS: Final = _letters()


def words(texts: Values, ids: int, length: int | None) -> tuple[npt.NDArray[np.int64], ...]:
    """The words of each text as ids from 1 to ``ids - 1``; 0 stays for "no word".

    A word is a run of ASCII letters, digits and bytes beyond ASCII (of UTF-8, so that words of other scripts stay whole); large
    ASCII letters count as small ones, and of a word the first 64 bytes count.

    Args:
        texts: bytes, and where each text ends.
        ids: number of ids, 0 among them.
        length: words of a text that count; None for all.

    Returns:
        Row, place in the row and id of each word, in order.
    """
    assert texts.ends is not None
    letters = _LETTERS[texts.data]
    inside = letters != 0
    edge = np.zeros(len(letters) + 1, dtype=bool)  # whether a text begins at that byte
    edge[texts.ends] = True
    begins = inside.copy()
    begins[1:] &= ~inside[:-1] | edge[1:-1]
    stops = inside.copy()
    stops[:-1] &= ~inside[1:] | edge[1:-1]
    first, sizes = np.flatnonzero(begins), np.flatnonzero(stops) - np.flatnonzero(begins) + 1
    row = np.searchsorted(texts.ends, first, side="right") - 1
    place = np.arange(len(row)) - np.searchsorted(row, row, side="left")
    kept = ~texts.missing[row] & (place < length if length is not None else True)
    first, sizes, row, place = first[kept], sizes[kept], row[kept], place[kept]
    found = np.full(len(first), _BASIS)
    for at in range(min(LONGEST, int(sizes.max(initial=0)))):
        going = np.flatnonzero(sizes > at)
        found[going] = (found[going] ^ letters[first[going] + at]) * _PRIME
    letters.fill(0)
    return row, place, (1 + (found ^ (found >> _FOLD)) % np.uint64(ids - 1)).astype(np.int64)

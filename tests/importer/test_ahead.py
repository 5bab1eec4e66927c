"""One thread ahead of another: the same items, errors in their place, and no thread left behind."""

import threading
from collections.abc import Iterator

import pytest

from aegis_flower.importer.ahead import ahead


def threads() -> int:
    return sum(thread.name == "aegis-ahead" for thread in threading.enumerate())


def test_items_come_in_their_order() -> None:
    assert list(ahead(iter(range(1000)))) == list(range(1000))
    assert threads() == 0


def test_an_error_comes_after_the_items_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("x")

    items = ahead(source())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(KeyError):
        next(items)
    assert threads() == 0


def test_whoever_stops_early_ends_the_thread_and_no_more_is_made() -> None:
    made = []

    def source() -> Iterator[int]:
        for item in range(10**9):
            made.append(item)
            yield item

    items = ahead(source(), depth=2)
    assert [next(items), next(items)] == [0, 1]
    items.close()  # type: ignore[attr-defined]
    assert threads() == 0
    assert len(made) < 10

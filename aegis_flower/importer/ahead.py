"""Work of one thread ahead of another: a file is parsed and converted while its rows are sealed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar, cast

T = TypeVar("T")
_WAIT: Final = 0.1  # seconds between looks whether somebody still wants more


def ahead(source: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Yields what `source` yields, made by a thread of its own, at most `depth` items ahead.

    An exception of the source comes out here, after what came before it. When this generator is closed, the thread ends with the
    item it is at.
    """
    made: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(depth)
    unwanted = threading.Event()

    def put(last: bool, what: T | BaseException | None) -> bool:
        while not unwanted.is_set():
            try:
                made.put((last, what), timeout=_WAIT)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in source:
                if not put(False, item):
                    return
            put(True, None)
        except BaseException as error:  # noqa: BLE001 - it is raised where the items are taken
            put(True, error)

    thread = threading.Thread(target=work, name="aegis-ahead", daemon=True)
    thread.start()
    try:
        while True:
            last, what = made.get()
            if not last:
                yield cast("T", what)
            elif isinstance(what, BaseException):
                raise what
            else:
                return
    finally:
        unwanted.set()
        thread.join()

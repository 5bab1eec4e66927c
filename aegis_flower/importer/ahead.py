"""Work of one thread ahead of another: a file is parsed and converted while its rows are sealed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")
_WAIT: Final = 0.1  # seconds between looks whether somebody still wants more


class _End:
    """What comes after the last item: the error that ended the source, if one did."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Maker(Generic[T]):
    """A thread that goes through `source`, and the queue it fills."""

    def __init__(self, source: Iterable[T], depth: int) -> None:
        self.made: queue.Queue[T | _End] = queue.Queue(depth)
        self._source, self._unwanted = source, threading.Event()
        self._thread = threading.Thread(target=self._work, name="aegis-ahead", daemon=True)
        self._thread.start()

    def _put(self, what: T | _End) -> bool:
        while not self._unwanted.is_set():
            try:
                self.made.put(what, timeout=_WAIT)
            except queue.Full:
                continue
            return True
        return False

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._source:
                if not self._put(item):
                    return
        except BaseException as found:  # noqa: BLE001 - it is raised where the items are taken
            error = found
        self._put(_End(error))

    def stop(self) -> None:
        """The thread ends with the item it is at."""
        self._unwanted.set()
        self._thread.join()


def ahead(source: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Yields what `source` yields, made by a thread of its own, at most `depth` items ahead.

    An exception of the source comes out here, after what came before it.
    """
    maker = _Maker(source, depth)
    try:
        while not isinstance(item := maker.made.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        maker.stop()

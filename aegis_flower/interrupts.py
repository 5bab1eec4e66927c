"""Interrupts: the first SIGINT or SIGTERM ends a run in order, with its report; the second one ends the process at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end.

    Attributes:
        signum: which.
        exit_code: 130 after SIGINT, 143 after SIGTERM, as shells have it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """128 and the signal's number."""
        return 128 + self.signum

    def __str__(self) -> str:
        return f"interrupted by {signal.Signals(self.signum).name}"


class Watch:
    """What was caught.

    Attributes:
        signum: the first signal; None while there was none.
    """

    def __init__(self) -> None:
        self.signum: int | None = None

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Notes the signal and unwinds the main thread."""
        del frame
        self.signum = signum
        for each in SIGNALS:  # whoever asks twice does not want to wait for the report
            signal.signal(each, signal.SIG_DFL)
        raise Interrupted(signum)


@contextmanager
def watched() -> Iterator[Watch]:
    """Turns the first signal into `Interrupted`. Elsewhere than in the main thread, where Python lets nobody set handlers, and
    where a signal is ignored (``nohup``), nothing is changed.
    """
    watch = Watch()
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for each in SIGNALS:
            if signal.getsignal(each) not in (signal.SIG_IGN, None):
                previous[each] = signal.signal(each, watch.handle)
    try:
        yield watch
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

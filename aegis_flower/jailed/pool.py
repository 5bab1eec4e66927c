"""Pool: jails that stay warm from round to round, one for each app and vault."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aegis_engine.errors import JailError

from aegis_flower.jail import Jail

_MOST = 16  # jails that are kept; each has a warm parent
_LOOK = 0.1  # seconds from one look at whether a task is to end to the next


@dataclass(frozen=True)
class Place:
    """Whose jail: two vaults share none, so that no task of one comes after a task of the other.

    Attributes:
        app: folder of the app.
        vault: folder of the vault.
        preload: see `Jail`.
        readable: see `Jail`.
    """

    app: Path
    vault: Path
    preload: tuple[str, ...] = ("numpy",)
    readable: tuple[str, ...] = ()


@dataclass
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    jail: Jail | None = None


_jails: OrderedDict[Place, _Kept] = OrderedDict()
_all = threading.Lock()
# A jail dies with the thread that started it (PR_SET_PDEATHSIG), so all are started by one that lasts.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aegis-jails")


@contextmanager
def jail_of(place: Place, halted: threading.Event | None = None) -> Iterator[Jail]:
    """The jail of an app at a vault, alone with it; started where there is none, or where it has failed.

    Args:
        place: whose.
        halted: set when whatever runs in it must end at once.

    Raises:
        JailError: this machine does not give a layer of it, or it was halted.
    """
    kept = _kept(place)
    with kept.lock:
        if kept.jail is not None and not kept.jail.alive:
            kept.jail.close()
            kept.jail = None
        if kept.jail is None:
            kept.jail = _started(lambda: Jail(place.app, preload=place.preload, more=place.readable))
        try:
            with _watched(kept.jail, halted):
                yield kept.jail
        except JailError:
            kept.jail.close()
            kept.jail = None
            raise


def _kept(place: Place) -> _Kept:
    """The place's own; of too many, one that nobody uses goes."""
    with _all:
        if place not in _jails and len(_jails) >= _MOST:
            for other, kept in _jails.items():
                if kept.lock.acquire(blocking=False):
                    try:
                        if kept.jail is not None:
                            kept.jail.close()
                    finally:
                        kept.lock.release()
                    del _jails[other]
                    break
        found = _jails.setdefault(place, _Kept())
        _jails.move_to_end(place)
        return found


@contextmanager
def _watched(jail: Jail, halted: threading.Event | None) -> Iterator[None]:
    """Ends the jail when it is halted, while this lasts."""
    if halted is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            if halted.wait(_LOOK):
                if not done.is_set():
                    jail.kill()
                return

    thread = threading.Thread(target=watch, name="aegis-jail-halt", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _started(make: Callable[[], Jail]) -> Jail:
    return _starter.submit(make).result()


def close_jails(app: Path | None = None) -> None:
    """Ends the warm parents, of one app or of all. A task that runs is waited for."""
    with _all:
        chosen = {place: kept for place, kept in _jails.items() if app in (None, place.app)}
        for place in chosen:
            del _jails[place]
    for kept in chosen.values():
        with kept.lock:
            if kept.jail is not None:
                kept.jail.close()
                kept.jail = None

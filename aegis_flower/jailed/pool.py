"""Pool: jails that stay warm from round to round, one for each app and vault."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aegis_engine.errors import JailError

from aegis_flower.jail import Jail

_MOST = 64  # jails that are kept; each has a warm parent


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


_jails: dict[Place, _Kept] = {}
_all = threading.Lock()
# A jail dies with the thread that started it (PR_SET_PDEATHSIG), so all are started by one that lasts.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aegis-jails")


@contextmanager
def jail_of(place: Place) -> Iterator[Jail]:
    """The jail of an app at a vault, alone with it; started where there is none, or where it has failed.

    Raises:
        JailError: this machine does not give a layer of it.
    """
    with _all:
        if place not in _jails and len(_jails) >= _MOST:
            raise JailError(f"there are {_MOST} jails already; close some (close_jails)", "AEG-J004")
        kept = _jails.setdefault(place, _Kept())
    with kept.lock:
        if kept.jail is not None and not kept.jail.alive:
            kept.jail.close()
            kept.jail = None
        if kept.jail is None:
            kept.jail = _started(lambda: Jail(place.app, preload=place.preload, more=place.readable))
        try:
            yield kept.jail
        except JailError:
            kept.jail.close()
            kept.jail = None
            raise


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

"""Setup: what the warm parent of a jail is told when it starts."""

from __future__ import annotations

import dataclasses
import json
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Where programs find shared libraries and what those read of the machine's settings. No user's file is among them.
_SYSTEM: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/ld.so.conf")


@dataclass(frozen=True)
class Setup:
    """How a jail is put up.

    Attributes:
        control: number of the descriptor that frames come on.
        app: folder of the app's code, already unpacked and approved.
        readable: files and folders that tasks may read, `app` among them.
        path: where Python looks for modules, after `app`.
        preload: modules that the warm parent imports. Trusted: they see no row, but every task runs in what they leave.
        layers: of the engine's `jail_layers`. Without all of them the jail has a hole.
    """

    control: int
    app: str
    readable: tuple[str, ...]
    path: tuple[str, ...]
    preload: tuple[str, ...]
    layers: tuple[str, ...]

    def text(self) -> str:
        """For a command line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def read(cls, text: str) -> Setup:
        """From a command line."""
        told = json.loads(text)
        lists = {name: tuple(told[name]) for name in ("readable", "path", "preload", "layers")}
        return cls(control=told["control"], app=told["app"], **lists)


def readable(app: Path, more: tuple[Path, ...] = ()) -> tuple[str, ...]:
    """What a task must read to compute: Python, its packages, shared libraries, the app. Nothing of a user's.

    Of packages that are installed in place (`pip install -e`) their own folder is named, not the checkout around it.
    """
    import aegis_engine
    import aegis_flower

    own = [Path(str(module.__file__)).resolve().parent for module in (aegis_engine, aegis_flower)]
    python = [Path(p) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix, sysconfig.get_path("stdlib"))]
    system = [Path(p) for p in _SYSTEM]
    # `links` of the package lead beside it
    found = [p for p in (*python, *own, *_linked(own), *system, app, *more) if p.exists()]
    return tuple(dict.fromkeys(str(p.absolute()) for p in found))


def _linked(folders: list[Path]) -> list[Path]:
    return [p.resolve() for folder in folders for p in folder.iterdir() if p.is_symlink()]


def python_path() -> tuple[str, ...]:
    """Where this interpreter finds its modules, but for folders that are somebody's working place."""
    import aegis_engine
    import aegis_flower

    own = [str(Path(str(module.__file__)).resolve().parent.parent) for module in (aegis_flower, aegis_engine)]
    prefixes = (sys.prefix, sys.base_prefix)
    return tuple(dict.fromkeys([*own, *(p for p in sys.path if p.startswith(prefixes))]))

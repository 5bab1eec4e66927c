"""Suspects: what in a bundle no path may be, and what a person should look at before it is approved."""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

_PATH_MAX: Final = 512
_PLAIN_FILE: Final = (0, stat.S_IFREG, stat.S_IFDIR)
_NATIVE: Final = (b"\x7fELF", b"MZ", b"\xfe\xed\xfa", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\0asm")
_ENDINGS: Final = {
    ".pth": "Python runs its lines at every start",
    ".so": "native code, which nobody can read",
    ".dylib": "native code, which nobody can read",
    ".dll": "native code, which nobody can read",
    ".pyd": "native code, which nobody can read",
    ".pyc": "compiled Python, which nobody can read",
    ".pkl": "a pickle: reading it runs code",
    ".pickle": "a pickle: reading it runs code",
    ".joblib": "a pickle: reading it runs code",
    ".pt": "may hold a pickle: reading it runs code",
    ".pth.tar": "may hold a pickle: reading it runs code",
    ".whl": "a package inside the app",
    ".zip": "an archive inside the app",
}
_STARTED: Final = {"sitecustomize.py", "usercustomize.py"}
# Text that a reader sees in another order, or not at all (CVE-2021-42574).
_HIDDEN: Final = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_LONG_LINE: Final = 1000
_SHADOWED: Final = {"aegis", "aegis_engine", "aegis_flower", "flwr", "numpy", "torch", "sklearn", "pyarrow", "opacus"}
_MOST: Final = 200


def path_faults(name: str, mode: int) -> list[str]:
    """Why a path of an archive must not be unpacked: it leads elsewhere, or is no file."""
    parts = name.removesuffix("/").split("/")
    found = []
    if not name or name.startswith("/") or re.match(r"[A-Za-z]:", name):
        found.append(f"{name!r:.200}: an absolute path")
    elif ".." in parts:
        found.append(f"{name!r:.200}: leads out of the app's folder")
    elif "" in parts or "." in parts or "\\" in name or len(name) > _PATH_MAX or not name.isprintable():
        found.append(f"{name!r:.200}: no plain path")
    if stat.S_IFMT(mode) not in _PLAIN_FILE:
        found.append(f"{name!r:.200}: a link or a device, not a file")
    return found


def notes(contents: Mapping[str, bytes]) -> tuple[str, ...]:
    """What to look at, a line each; at most 200."""
    found: list[str] = []
    for name, data in contents.items():
        path = PurePosixPath(name)
        lower = path.name.lower()
        found += [f"{name}: {why}" for ending, why in _ENDINGS.items() if lower.endswith(ending)]
        if data.startswith(_NATIVE) and not lower.endswith((".so", ".dylib", ".dll", ".pyd")):
            found.append(f"{name}: native code under another name")
        if path.name in _STARTED:
            found.append(f"{name}: Python runs it at every start")
        top = path.parts[0].removesuffix(".py")
        if len(path.parts) <= 2 and (lower.endswith(".py")) and (top in _SHADOWED or top in sys.stdlib_module_names):  # noqa: PLR2004
            found.append(f"{name}: has the name of a module of others, and would be imported in its place")
        found += _text_notes(name, data) if lower.endswith((".py", ".toml", ".yaml", ".md")) else []
    if len({name.lower() for name in contents}) < len(contents):
        found.append("two paths differ in capital letters only")
    return tuple(dict.fromkeys(found))[:_MOST]


def _text_notes(name: str, data: bytes) -> list[str]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return [f"{name}: not UTF-8"]
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if _HIDDEN.search(line):
            found.append(f"{name}:{number}: characters that hide or turn round what is written")
        if len(line) > _LONG_LINE:
            found.append(f"{name}:{number}: a line of {len(line)} characters")
        if len(found) > 20:  # noqa: PLR2004 - nobody reads more of one file
            break
    return found

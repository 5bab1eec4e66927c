"""Names of projects: each is a package of Python, a Flower App and a folder, and hides none that is there."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
import unicodedata
from typing import Final

from aegis_flower.errors import ConfigError

_MOST: Final = 32  # Flower's, for an app
_GOOD: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9_]*[A-Za-z0-9])?", re.ASCII)


def check_name(name: str) -> None:
    """Refuses what cannot name a package.

    Raises:
        ConfigError: says why, and suggests another.
    """
    if not _GOOD.fullmatch(name) or len(name) > _MOST:
        raise ConfigError(
            "NAME",
            f"{name!r:.80} cannot name a project: letters of ASCII, digits and underscores, a letter first, no underscore last, "
            f"at most {_MOST}; take {suggestion(name)}",
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise ConfigError("NAME", f"{name!r} is a word of Python; take {name}_project")
    if name in sys.stdlib_module_names or _is_installed(name):
        raise ConfigError(
            "NAME", f"{name!r} is a module that is installed, which a project would hide; take {name}_project"
        )


def suggestion(name: str) -> str:
    """The nearest name that is one."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    made = re.sub(r"\W+", "_", plain, flags=re.ASCII).strip("_")[:_MOST].strip("_")
    if not made:
        return "my_project"
    return made if made[0].isalpha() else f"project_{made}"[:_MOST].strip("_")


def _is_installed(name: str) -> bool:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return True
    return found is not None and found.origin is not None  # a folder without code is no module

"""Which templates there are: one for each folder that has a ``template.toml``."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aegis_flower.errors import ConfigError

FOLDER: Final = Path(__file__).parent / "templates"
ABOUT: Final = "template.toml"
EXAMPLE: Final = "example"  # a file that is written into the project


@dataclass(frozen=True, kw_only=True)
class Template:
    """What a ``template.toml`` says.

    Attributes:
        name: of the folder.
        line: what it is, for ``aegis init --help``.
        data: the packaged data set that a project trains on without ``--data``; ``example`` writes a file of public rows into it.
        order: its place in lists.
        needs: modules that must be installed; of ``a or b`` one of the two.
        extra: the extra of aegis-flower that installs them.
    """

    name: str
    line: str
    data: str
    order: int = 100
    needs: tuple[str, ...] = ()
    extra: str = ""

    @property
    def lacking(self) -> list[str]:
        """What of `needs` is not installed."""
        return [one for one in self.needs if not any(importlib.util.find_spec(name) for name in one.split(" or "))]

    def check(self) -> None:
        """Refuses to make a project that could not run.

        Raises:
            ConfigError: a module is not installed; says what to install.
        """
        if lacking := self.lacking:
            how = f"aegis-flower[{self.extra}]" if self.extra else " ".join(lacking)
            raise ConfigError("--template", f"{self.name} needs {', '.join(lacking)}: pip install '{how}'")


@functools.cache
def templates(folder: Path = FOLDER) -> dict[str, Template]:
    """All templates by name, in their order."""
    found = []
    for file in folder.glob(f"*/{ABOUT}"):
        said = tomllib.loads(file.read_text("utf-8"))
        said["needs"] = tuple(said.get("needs", ()))
        found.append(Template(name=file.parent.name, **said))
    return {one.name: one for one in sorted(found, key=lambda one: (one.order, one.name))}


def template(name: str, folder: Path = FOLDER) -> Template:
    """The template of that name, which can run here.

    Raises:
        ConfigError: there is none, or what it needs is not installed.
    """
    known = templates(folder)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError("--template", f"there is no {name!r:.80}; take one of {', '.join(known)}{hint}")
    known[name].check()
    return known[name]

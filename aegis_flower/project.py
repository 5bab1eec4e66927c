"""Project: a folder with an ``aegis.toml``, which says where its experiments and its app are. `aegis init` makes one.

`aegis run`, `aegis model` and `compose` look for it in the current folder, an app by its own file. Nothing above the current
folder is searched: its app is code, and runs.
"""

from __future__ import annotations

import difflib
import importlib
import re
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aegis_flower.errors import AegisError, AppError, ConfigError

FILE: Final = "aegis.toml"
_KEYS: Final = ("experiment", "config", "app")
_APP: Final = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", re.ASCII)


@dataclass(frozen=True)
class Project:
    """What an ``aegis.toml`` says.

    Attributes:
        root: the folder it is in.
        experiment: the experiment of a run that names none; None for the defaults.
        config: folder of the project's own configuration, with ``experiment/NAME.yaml`` in it; None where there is none.
        app: ``PACKAGE.MODULE:NAME`` of the project's `aegis_app`; None where the packaged app runs.
    """

    root: Path
    experiment: str | None = None
    config: Path | None = None
    app: str | None = None

    def arguments(self, given: Sequence[str]) -> list[str]:
        """The arguments of `aegis run` with what the project says: its folder of configuration, its experiment."""
        whole = list(given)
        if self.config is not None and not any(a.startswith(("--config-dir", "-cd")) for a in given):
            whole.insert(0, f"--config-dir={self.config}")
        if self.experiment is not None and not any(a.lstrip("+~").startswith("experiment=") for a in given):
            # Beside the other overrides: Hydra's parser takes them in one piece alone, not with an option between them.
            first = next((at for at, a in enumerate(whole) if "=" in a and not a.startswith("-")), len(whole))
            whole.insert(first, f"experiment={self.experiment}")
        return whole

    def load(self) -> Any:
        """The project's app, imported from its folder; None where it names none.

        Raises:
            AppError: it cannot be imported; says where in the app it failed.
        """
        if self.app is None:
            return None
        module, _, name = self.app.partition(":")
        if str(self.root) not in sys.path:
            sys.path.insert(0, str(self.root))
        try:
            found = getattr(importlib.import_module(module), name, None)
        except AegisError:
            raise
        except Exception as error:
            raise AppError(
                f"{self.root / FILE}: app {self.app!r} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        if not all(hasattr(found, each) for each in ("client", "server", "model")):
            raise AppError(f"{self.root / FILE}: {self.app!r} is no app; make one: {name} = aegis_app(...)")
        return found

    def place(self, name: str | None) -> str | None:
        """A relative path of the project's, from its own folder; other texts as they are."""
        if name is None:
            return None
        file = self.root / name
        return str(file) if not Path(name).is_absolute() and file.exists() else name


def read(folder: Path) -> Project | None:
    """The project of a folder; None where it has no ``aegis.toml``.

    Raises:
        ConfigError: the file is no TOML, or has another key or a value that means nothing.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        said = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), f"is no TOML: {error}") from None
    for key, value in said.items():
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            raise ConfigError(f"{FILE}: {key}", f"no such key; did you mean {(close or _KEYS)[0]}?")
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{FILE}: {key}", f"{value!r:.80} is no text")
    app, config = said.get("app"), said.get("config")
    if app is not None and not _APP.fullmatch(app):
        raise ConfigError(f"{FILE}: app", f"{app!r:.80} is not PACKAGE.MODULE:NAME, such as clinics.app:app")
    if config is not None and not (folder / config).is_dir():
        raise ConfigError(f"{FILE}: config", f"there is no folder {folder / config}")
    root = folder.resolve()
    return Project(root, said.get("experiment"), root / config if config is not None else None, app)


def here() -> Project | None:
    """The project of the current folder."""
    return read(Path.cwd())


def around(file: str | Path) -> Project:
    """The project that a file of its app lies in: the nearest folder above it with an ``aegis.toml``.

    Raises:
        ConfigError: there is none.
    """
    for folder in Path(file).resolve().parents:
        if (found := read(folder)) is not None:
            return found
    raise ConfigError("project", f"no folder above {file} has an {FILE}; `aegis init` makes a project with one")

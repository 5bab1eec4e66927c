"""Plugins: code of the user's that a configuration names. It is loaded where it runs, and nowhere else."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from aegis_flower.errors import ConfigError


def load(key: str, text: str, otherwise: str = "") -> Any:
    """What a key names: ``FILE.py:NAME``, ``package.module:NAME`` or ``package.module.NAME``.

    Args:
        key: the key's path, for errors.
        text: its value.
        otherwise: the name in a file where none is given.

    Raises:
        ConfigError: there is no such file, module or name, or the code fails when it is loaded; says which.
    """
    where, _, name = text.rpartition(":") if ":" in text else (text, "", "")
    if where.endswith(".py"):
        module, name = _of_file(key, Path(where)), name or otherwise
    else:
        if not name:
            where, _, name = where.rpartition(".")
        module = _of_name(key, where)
    if not hasattr(module, name):
        raise ConfigError(key, f"{where} has no {name!r}")
    return getattr(module, name)


def _of_file(key: str, path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(key, f"there is no file {path}")
    # The whole path is in the name: two files of one name are two modules.
    name = f"aegis_plugin_{path.resolve().as_posix().replace('/', '_').removesuffix('.py')}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(key, f"{path} fails when it is loaded: {type(error).__name__}: {error}") from error
    return module


def _of_name(key: str, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(key, f"{name} cannot be imported: {error}") from error
        raise ConfigError(
            key, f"there is no module {error.name!r} on Python's path; install it, or write FILE.py:NAME"
        ) from None
    except Exception as error:
        raise ConfigError(key, f"{name} fails when it is imported: {type(error).__name__}: {error}") from error

"""Composition by Hydra: the same on the command line (`aegis run`) and inside a Flower App (`compose`)."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, cast, get_type_hints

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from aegis_flower import project
from aegis_flower.configs.config import Config, from_dict
from aegis_flower.errors import AegisError, ConfigError

CONFIG_MODULE = "aegis_flower.configs"


def _schema(cls: type) -> type:
    """A mutable twin of a frozen config class: OmegaConf makes frozen classes read-only before overrides apply."""
    hints = get_type_hints(cls)
    fields: list[Any] = []
    for f in dataclasses.fields(cls):
        kind = hints[f.name]
        if dataclasses.is_dataclass(kind):
            twin = _schema(cast("type", kind))
            fields.append((f.name, twin, field(default_factory=twin)))
        elif f.default_factory is not dataclasses.MISSING:
            fields.append((f.name, kind, field(default_factory=f.default_factory)))
        else:
            fields.append((f.name, kind, field(default=f.default)))
    return dataclasses.make_dataclass(f"{cls.__name__}Schema", fields)


def register_schema() -> None:
    """Registers the structured schema with Hydra's ConfigStore (idempotent)."""
    ConfigStore.instance().store(name="schema", node=_schema(Config), provider="aegis_flower")


def explain_hydra(error: Exception) -> ConfigError:
    """Turns an error of Hydra or OmegaConf into one that names the key."""
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    whole = "\n".join(texts)
    key = re.search(r"full_key: (\S+)", whole)
    path = key[1] if key else ""
    if (path and "not in struct" in whole) or ("Key '" in whole and "not in" in whole):
        return ConfigError(path, f"no such key{_suggest(path)}; `aegis run --help` lists them")
    if path and (bad := re.search(r"Value '(.*?)'.*?(?:could not be converted to|is not a valid|of type)", whole)):
        return ConfigError(path, f"{bad[1]!r} is not a value of the type that is needed there")
    options = r"Could not find '(\w+)/(.*?)'\s+Available options in '\w+':\s+(.*?)\s+Config search"
    if group := re.search(options, whole, re.DOTALL):
        return ConfigError(group[1], f"there is no {group[2]!r}; take one of {', '.join(group[3].split())}")
    first = texts[0].strip().splitlines()
    return ConfigError(path, " ".join(line.strip() for line in first if line.strip()) or "cannot be composed")


def _suggest(path: str) -> str:
    paths = []
    for group in dataclasses.fields(Config):
        kind = get_type_hints(Config)[group.name]
        if dataclasses.is_dataclass(kind):
            paths += [f"{group.name}.{f.name}" for f in dataclasses.fields(kind)]
        else:
            paths.append(group.name)
    close = difflib.get_close_matches(path, paths, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def from_hydra(cfg: Any) -> Config:
    """Validates a composed Hydra config."""
    values = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    return from_dict({k: v for k, v in values.items() if k != "hydra"})


def compose(
    experiment: str | None = None, overrides: Sequence[str] = (), config_dir: str | Path | None = None
) -> Config:
    """Composes a configuration as ``aegis run experiment=NAME KEY=VALUE ...`` does.

    Args:
        experiment: name of a file in ``configs/experiment``, or in ``experiment`` of `config_dir`; None for the defaults.
        overrides: Hydra overrides, such as ``privacy.epsilon=3``.
        config_dir: a folder of experiments and groups of one's own, as ``aegis run --config-dir``; None takes the one that an
            ``aegis.toml`` in the current folder names.

    Raises:
        ConfigError: unknown experiment or key, or an impossible value; there is no such folder.
    """
    register_schema()
    chosen = _searched(config_dir) + ([f"experiment={experiment}"] if experiment else []) + list(overrides)
    previous = GlobalHydra.instance().hydra  # a compose inside a running Hydra job must not end that job's Hydra
    try:
        GlobalHydra.instance().clear()
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            return from_hydra(hydra_compose("config", overrides=chosen))
    except AegisError:
        raise
    except (
        Exception
    ) as error:  # Hydra's own, OmegaConf's, and what their parsers let through: a bad value, not a bug of ours
        raise explain_hydra(error) from error
    finally:
        GlobalHydra.instance().hydra = previous


def _searched(config_dir: str | Path | None) -> list[str]:
    """The override by which Hydra looks into one more folder."""
    if config_dir is None:
        found = project.here()
        config_dir = found.config if found is not None else None
    if config_dir is None:
        return []
    folder = Path(config_dir).resolve()
    if not folder.is_dir():
        raise ConfigError("config_dir", f"there is no folder {folder}")
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return [f"hydra.searchpath=['file://{quoted}']"]

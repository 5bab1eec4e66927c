"""Asks: what a run asks of the data, by its configuration. The app's code is not run, so it is what is said, not what is done."""

from __future__ import annotations

import re
import shlex
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aegis_flower.approval.bundle import Bundle
from aegis_flower.configs import CARRIED, EXPERIMENT, OVERRIDES, Config, compose, from_run_config
from aegis_flower.errors import AegisError

_PROJECT: Final = "aegis.toml"
_TEXT_MAX: Final = 64 << 10
# Hydra's own keys name packages to import and folders to search; a reference reads the environment; an alias grows without end.
_NOT_RESOLVED: Final = re.compile(r"hydra|://|\$\{|(?:^|[\s,\[{:-])[&*]\w", re.MULTILINE)


@dataclass(frozen=True)
class Asks:
    """What a run asks.

    Attributes:
        experiment: its name; None where it names none.
        purpose: what for; None where nothing says it.
        columns: which columns; None for every approved one, or where nothing says it.
        epsilon: of the whole run; None without differential privacy, or where nothing says it.
        privacy: ``example``, ``update`` or ``off``; None where nothing says it.
        rounds: how many; None where nothing says it.
        problem: why it could not be told; None where it could.
    """

    experiment: str | None = None
    purpose: str | None = None
    columns: tuple[str, ...] | None = None
    epsilon: float | None = None
    privacy: str | None = None
    rounds: int | None = None
    problem: str | None = None

    def lines(self) -> list[str]:
        """The same for people."""
        if self.problem is not None:
            return [f"asks          cannot be told: {self.problem}"]
        columns = ", ".join(self.columns) if self.columns is not None else "every approved one"
        return [
            f"experiment    {self.experiment or 'none named'}",
            f"purpose       {self.purpose}",
            f"columns       {columns}",
            f"privacy       {self.privacy}" + (f", epsilon {self.epsilon:g}" if self.epsilon is not None else ""),
            f"rounds        {self.rounds}",
        ]


def asks(bundle: Bundle, run_config: Mapping[str, Any] | None = None) -> Asks:
    """What a run of the bundle asks: by a run config of its own, or by the one in its ``pyproject.toml``."""
    said = {**bundle.config, **(run_config or {})}
    ours = {key: str(said.get(key, "") or "") for key in (CARRIED, EXPERIMENT, OVERRIDES)}
    if not any(key in said for key in ours) and _PROJECT not in bundle.contents:
        return Asks(problem="its configuration is not that of an AEGIS experiment; its code decides")
    if any(len(text) > _TEXT_MAX for text in ours.values()):
        return Asks(problem="its configuration is too long")
    try:
        cfg, name = _composed(bundle, ours)
    except AegisError as error:
        return Asks(ours[EXPERIMENT] or None, problem=str(error)[:500])
    except (ValueError, OSError, RecursionError) as error:
        return Asks(ours[EXPERIMENT] or None, problem=f"{type(error).__name__}: {error}"[:500])
    columns = cfg.policy.columns
    private = cfg.privacy.mode != "off"
    return Asks(
        name,
        cfg.policy.purpose,
        None if columns is None else tuple(columns),
        cfg.privacy.epsilon if private else None,
        cfg.privacy.mode,
        cfg.strategy.rounds,
    )


def _composed(bundle: Bundle, ours: dict[str, str]) -> tuple[Config, str | None]:
    if ours[CARRIED]:
        cfg = from_run_config({CARRIED: ours[CARRIED]})[0]
        return cfg, ours[EXPERIMENT] or cfg.name
    project = _project(bundle)
    name = ours[EXPERIMENT] or project.get("experiment") or None
    overrides = shlex.split(ours[OVERRIDES])
    with tempfile.TemporaryDirectory(prefix="aegis-asks-") as folder:
        prefix = f"{project['config'].strip('/')}/" if project.get("config") else None
        texts = [ours[OVERRIDES], name or ""]
        for path, data in bundle.contents.items():
            if prefix is None or not path.startswith(prefix) or not path.endswith((".yaml", ".yml")):
                continue
            if len(data) > _TEXT_MAX:
                raise ValueError(f"{path} is too long")
            texts.append(data.decode("utf-8"))
            target = Path(folder) / path.removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        if any(_NOT_RESOLVED.search(text) for text in texts):
            raise ValueError("its configuration has references, aliases or settings of Hydra; read its files")
        # Always with a folder: without one, the project of the current folder would be taken.
        return compose(name, overrides, folder), name


def _project(bundle: Bundle) -> dict[str, str]:
    said = tomllib.loads(bundle.contents.get(_PROJECT, b"").decode("utf-8"))
    return {key: value for key, value in said.items() if isinstance(value, str)}

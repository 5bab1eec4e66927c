"""The app of a node whose training is somebody else's code in a jail: a `DoorApp` like that of `aegis_client_app`."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flwr.app import Context

from aegis_flower.client import aegis_client_app
from aegis_flower.configs import CARRIED, EXPERIMENT, OVERRIDES, Config, compose, from_run_config
from aegis_flower.door import DoorApp
from aegis_flower.errors import AppError, ConfigError
from aegis_flower.jailed import own
from aegis_flower.jailed.approved import MECHANISMS, Approved, Options
from aegis_flower.jailed.client import JailedClient
from aegis_flower.node.node import open_node

# What most apps import; a module that is not installed is left out.
_IMPORTED = ("numpy", "flwr.clientapp", "torch", "torch._dynamo", "sklearn.linear_model")
_PRELOAD = tuple(name for name in _IMPORTED if find_spec(name.partition(".")[0]))


def client_app(
    approval: Approved,
    app_folder: str | Path,
    node_options: Options | Mapping[str, Any] | None = None,
    *,
    config: Config | None = None,
    halted: threading.Event | None = None,
) -> DoorApp:
    """Makes the app of a node that runs an approved app in its jail. No byte of the approved app runs in this process.

    Args:
        approval: of the app, checked by the caller: its hash is that of `app_folder`, it has not expired and is not revoked.
        app_folder: the app, unpacked; its ``pyproject.toml`` names the ``ClientApp``, or ``entry`` of the options a function.
        node_options: what the operator lets the app have.
        halted: set when whatever runs must end at once.
        config: the experiment; None takes the options' ``overrides``, else what the run config says.

    Raises:
        AppError: the approval is for no mode of a jail, or the folder is not there.
        NodeError: an option that there is not.
    """
    options = Options.of(node_options or {})
    if not options.preload:
        options = dataclasses.replace(options, preload=_PRELOAD)
    folder = Path(app_folder).resolve()
    if approval.mode not in MECHANISMS:
        raise AppError(f"the approval's mode {approval.mode!r} is none of a jail; there are {', '.join(MECHANISMS)}")
    if not folder.is_dir():
        raise AppError(f"{folder}: there is no such folder of an app")

    def make(context: Context) -> JailedClient:
        cfg = config or _configured(options, context)
        made = JailedClient(
            open_node(context, cfg), cfg, context, approval=approval, app=folder, options=options, halted=halted
        )
        if cfg.privacy.on:
            made.default_sigma = _sigma(cfg)
        return made

    return aegis_client_app(make)


@dataclass(frozen=True)
class Tried:
    """An approval of an app that its author tries: nobody signed it. It is what `runtime=jailed` runs by."""

    fab_hash: str
    mode: str
    purpose: str
    dataset: str | None = None


def experiment_app(cfg: Config, node_options: Options | None = None) -> DoorApp:
    """The app of the nodes of an experiment with ``runtime=jailed``: that of ``runtime.app``, else AEGIS's own loop.

    Raises:
        ConfigError: ``runtime.app`` is no folder of an app, or ``privacy.mode`` is none of a jail.
    """
    mode = {mechanism: mode for mode, mechanism in MECHANISMS.items()}.get(cfg.privacy.mode)
    if mode is None:
        raise ConfigError("privacy.mode", f"{cfg.privacy.mode} is no mechanism of a jail; take update or blocks")
    none = cfg.runtime.app is None
    folder = Path(own.__file__).parent if none else Path(str(cfg.runtime.app))
    if not folder.is_dir():
        raise ConfigError("runtime.app", f"{folder} is no folder of an app")
    given = node_options or (Options(entry=own.ENTRY, preload=own.PRELOAD) if none else Options())
    options = dataclasses.replace(given, block_seconds=cfg.runtime.block_seconds)
    return client_app(Tried(hash_of(folder), mode, cfg.policy.purpose), folder, options, config=cfg)


def hash_of(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files; not that of Flower's bundle of them."""
    digest = hashlib.sha256()
    for file in sorted(each for each in folder.rglob("*") if each.is_file() and "__pycache__" not in each.parts):
        name, content = file.relative_to(folder).as_posix().encode(), file.read_bytes()
        digest.update(len(name).to_bytes(8, "little") + name + len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def _configured(options: Options, context: Context) -> Config:
    if options.overrides is not None:
        return compose(None, list(options.overrides))
    given = {key: str(context.run_config.get(key, "") or "") for key in (CARRIED, EXPERIMENT, OVERRIDES)}
    return from_run_config(given)[0]


def _sigma(cfg: Config) -> float:
    """The noise of this configuration, for servers that name none."""
    from aegis_flower.ledger import calibrate

    p = cfg.privacy
    return p.noise_multiplier or calibrate(p.epsilon, p.delta, 1.0 if p.whole else p.sample_rate, cfg.total_steps)

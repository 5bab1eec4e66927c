"""NODE.TOML: all that the operator of a node lays down, read once and checked before anything is opened."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flwr.app import Context, RecordDict

from aegis_flower.configs import Config, compose
from aegis_flower.errors import NodeError
from aegis_flower.jail.jail import LAYERS
from aegis_flower.node import keys as node_keys
from aegis_flower.node.keys import KEYS
from aegis_flower.node.settings import NodeConfig
from aegis_flower.service import keys
from aegis_flower.service.keys import SERVICE_KEYS

_PATHS: Final = (
    *(node_keys.VAULT, node_keys.KEY_FILE, node_keys.IDENTITY, node_keys.ROSTER),
    *(keys.SUPERNODE_SECRET, keys.CONTROL, keys.APPROVALS, keys.LOG),
)
_OF_APPS: Final = tuple(key for key in SERVICE_KEYS if key.startswith("aegis-app-"))
_MOST: Final = 1 << 20  # bytes of the file


@dataclass(frozen=True)
class Settings:
    """What NODE.TOML says.

    Attributes:
        file: the file itself.
        node: the keys of the node config, as an app's context has them; paths are whole.
        supernode: address of the Runtime API.
        secret: file with the SuperNode's secret.
        control: folder of the operator's orders.
        approvals: folder of approvals.
        signer: the key that must have signed them.
        layers: layers of the jail that must be there.
        health: host and port of the health endpoint.
        log: file of the JSON log; None is standard error.
        grid: seconds; replies leave at a multiple of it.
        app: what an app in the jail may have, by key.
    """

    file: Path
    node: Mapping[str, Any]
    supernode: str
    secret: Path | None
    control: Path
    approvals: Path
    signer: bytes
    layers: tuple[str, ...]
    health: tuple[str, int] | None
    log: Path | None
    grid: int
    app: Mapping[str, Any]

    @property
    def dataset(self) -> str | None:
        """The data set that the operator chose; None takes the run's."""
        return self.node.get(node_keys.DATASET)

    @property
    def name(self) -> str:
        """What the operator calls the node; the file's name where it says nothing."""
        return str(self.node[node_keys.NAME])

    def node_config(self, cfg: Config | None = None) -> NodeConfig:
        """The node config as every task has it.

        Raises:
            NodeError: a key of it is missing or wrong.
        """
        context = Context(run_id=0, node_id=0, node_config=dict(self.node), state=RecordDict(), run_config={})
        return NodeConfig.from_context(context, cfg or compose())

    def shared_secret(self) -> bytes | None:
        """What the SuperNode's ``--superexec-auth-secret-file`` holds.

        Raises:
            NodeError: the file cannot be read or is empty.
        """
        if self.secret is None:
            return None
        try:
            secret = self.secret.read_bytes()
        except OSError as error:
            raise NodeError(f"{keys.SUPERNODE_SECRET}: {self.secret} cannot be read ({error.strerror})") from None
        if not secret:
            raise NodeError(f"{keys.SUPERNODE_SECRET}: {self.secret} is empty; write some 32 random bytes into it")
        return secret


def read(file: Path) -> Settings:
    """Reads NODE.TOML. A path in it that is not absolute is meant from the file's own folder.

    Raises:
        NodeError: the file cannot be read, a key is unknown or missing, or a value is not what its key needs.
    """
    file = Path(file).absolute()
    try:
        with file.open("rb") as opened:
            given = tomllib.loads(opened.read(_MOST).decode())
    except OSError as error:
        raise NodeError(f"{file} cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise NodeError(f"{file} is no TOML: {error}") from None
    _check(file, given)
    for key in _PATHS:
        if key in given:
            given[key] = str(file.parent / given[key])

    def of(key: str) -> Any:
        return given.get(key, SERVICE_KEYS[key].default)

    for key, example in ((keys.APPROVALS, "/etc/aegis/approvals"), (keys.APPROVAL_SIGNER, "64 hex digits")):
        if key not in given:
            raise NodeError(f'{file.name} has no {key}; write {key} = "{example}": no app runs before it is approved')
    secret, log, health = of(keys.SUPERNODE_SECRET), of(keys.LOG), of(keys.HEALTH)
    return Settings(
        file=file,
        node={node_keys.NAME: file.stem, **{key: value for key, value in given.items() if key in KEYS}},
        supernode=of(keys.SUPERNODE),
        secret=Path(secret) if secret else None,
        control=Path(of(keys.CONTROL) or file.with_suffix(".control")),
        approvals=Path(of(keys.APPROVALS)),
        signer=bytes.fromhex(of(keys.APPROVAL_SIGNER)),
        layers=_layers(of(keys.REQUIRE_LAYERS)),
        health=keys.loopback(health) if health else None,
        log=Path(log) if log else None,
        grid=of(keys.QUANTIZE_TIME),
        app={key: of(key) for key in _OF_APPS},
    )


def _check(file: Path, given: Mapping[str, Any]) -> None:
    known = {**KEYS, **SERVICE_KEYS}
    for key, value in given.items():
        setting = known.get(key)
        if setting is None:
            close = difflib.get_close_matches(key.strip().lower().replace("_", "-"), known, n=1)
            hint = f"did you mean {close[0]}?" if close else "docs/NODE.md lists the keys"
            raise NodeError(f"{key!r} in {file.name} is no setting of a node, so it would protect nobody; {hint}")
        if not setting.fits(value):
            shown = f" = {value!r}" if setting.told else ""
            raise NodeError(f"{key}{shown} in {file.name} must be {setting.wanted}")


def _layers(text: str) -> tuple[str, ...]:
    if text == keys.ALL_LAYERS:
        return LAYERS
    wanted = keys.words(text)
    if unknown := [name for name in wanted if name not in LAYERS]:
        raise NodeError(f"{keys.REQUIRE_LAYERS}: there is no layer {unknown[0]!r}; there are {', '.join(LAYERS)}")
    return wanted

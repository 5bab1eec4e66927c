"""Settings: what a node's operator writes into the SuperNode's node config, each key with its type and bounds."""

from __future__ import annotations

import difflib
import math
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import Context

from aegis_flower.configs import Config
from aegis_flower.data import registry
from aegis_flower.errors import NodeError
from aegis_flower.node.trust import Trust

PREFIX = "aegis-"


@dataclass(frozen=True)
class Setting:
    """One key of the node config.

    Attributes:
        wanted: what a value must be, in words.
        fits: whether a value is that.
        told: whether an error may repeat a wrong value; not where somebody may have put a key.
    """

    wanted: str
    fits: Callable[[Any], bool]
    told: bool = True


def _text(most: int = 4096) -> Setting:
    def fits(value: Any) -> bool:
        return isinstance(value, str) and 0 < len(value) <= most and value.isprintable()

    return Setting(f"text of 1 to {most} printable characters, in quotes", fits)


def _whole(least: int, most: int) -> Setting:
    return Setting(f"a whole number from {least} to {most}", lambda v: type(v) is int and least <= v <= most)


def _number(most: float) -> Setting:
    def fits(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value) and 0 < value <= most

    return Setting(f"a number above 0 and at most {most:g}", fits)


def _is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False


_PLACE = Setting(
    "the place of a key, never the key itself: env:NAME, command:PROGRAM ARGS, keyring:SERVICE/USER or pkcs11:MODULE:TOKEN "
    "(the PIN is in AEGIS_PIN)",
    lambda v: (
        isinstance(v, str) and re.fullmatch(r"(env|command|keyring|pkcs11):\S.*", v) is not None and v.isprintable()
    ),
    told=False,
)
_FLAG = Setting("true or false, without quotes", lambda v: isinstance(v, bool))
_KEY = Setting(
    "64 hexadecimal digits", lambda v: isinstance(v, str) and re.fullmatch(r"[0-9a-fA-F]{64}", v) is not None
)

# Every key that a node knows. docs/CONFIG.md has a row for each; an `aegis-` key that is not here is refused.
KEYS: dict[str, Setting] = {
    "aegis-vault": _text(),
    "aegis-vault-id": Setting("the id that `aegis vault init` printed; vault.json has it", _is_uuid),
    "aegis-key-file": _text(),
    "aegis-key": _PLACE,
    "aegis-dataset": _text(1024),
    "aegis-name": _text(128),
    "aegis-min-cohort": _whole(2, 2**16),
    "aegis-min-threshold": _whole(2, 2**16),
    "aegis-max-norm": _number(1e6),
    "aegis-max-evaluations": _whole(0, 10_000),
    "aegis-colluding-percent": _whole(0, 100),
    "aegis-require-commit": _FLAG,
    "aegis-same-policy": _FLAG,
    "aegis-trust-server": _FLAG,
    "aegis-identity": _text(),
    "aegis-roster": _text(),
    "aegis-roster-signer": _KEY,
}


def check(given: Mapping[str, Any]) -> None:
    """Refuses a node config with a key that nobody reads, or a value that is not what its key needs.

    Raises:
        NodeError: names the key, and what was probably meant.
    """
    for key, value in given.items():
        setting = KEYS.get(key)
        if setting is None:
            if re.match(r"aegis([-_.]|$)", key.strip(), re.IGNORECASE):
                close = difflib.get_close_matches(key.strip().lower().replace("_", "-"), KEYS, n=1)
                hint = f"did you mean {close[0]}?" if close else "docs/CONFIG.md lists the keys"
                raise NodeError(
                    f"{key!r} in the node config is no setting of AEGIS, so it would protect nobody; {hint}"
                )
            continue  # another app's own key
        if not setting.fits(value):
            shown = f" = {value!r}" if setting.told else ""
            raise NodeError(f"{key}{shown} in the node config must be {setting.wanted}")


@dataclass(frozen=True)
class NodeConfig:
    """The operator's settings, from the SuperNode's node config.

    Attributes:
        vault: folder of the vault (``aegis-vault``).
        key_file: 32-byte key file (``aegis-key-file``); empty where `key` says another place.
        dataset: name of the data set in the vault (``aegis-dataset``).
        name: what the report calls this node (``aegis-name``).
        min_cohort: fewest clients this node masks with (``aegis-min-cohort``).
        min_threshold: fewest shares that may unmask one client (``aegis-min-threshold``), beside what the protocol asks of any
            threshold.
        max_norm: largest L2 norm of an update it releases (``aegis-max-norm``); None takes the run's, which can then
            only be checked, not narrowed.
        colluding_percent: share of the clients that may work with the server against it (``aegis-colluding-percent``).
        require_commit: it takes part only in rounds with a commit step (``aegis-require-commit``).
        same_policy: it takes part only where all data are under its own policy bundle (``aegis-same-policy``).
        trust: its identity and the roster it accepts (``aegis-identity``, ``aegis-roster``, ``aegis-roster-signer``); None
            takes the server's word for who the other clients are, which ``aegis-trust-server = true`` allows.
        max_evaluations: how often one run may evaluate on its held-out rows (``aegis-max-evaluations``).
        key: another place of the key (``aegis-key``).
        vault_id: the vault that must lie at `vault` (``aegis-vault-id``); None takes whichever does.
    """

    vault: Path
    key_file: Path
    dataset: str
    name: str
    min_cohort: int = 3
    min_threshold: int = 2
    max_norm: float | None = None
    colluding_percent: int = 10
    require_commit: bool = False
    same_policy: bool = False
    trust: Trust | None = None
    max_evaluations: int = 1
    vault_id: str | None = None
    key: str | None = None

    @classmethod
    def from_context(cls, context: Context, cfg: Config) -> NodeConfig:
        """Reads the node config; in Flower's own simulation, finds the vault of the partition.

        Raises:
            NodeError: a key is missing, with the line to add; or one is unknown, or its value is not what it needs.
        """
        given: dict[str, Any] = dict(context.node_config)
        if "aegis-vault" not in given and "partition-id" in given and cfg.vault.root:
            given = _of_simulation(given, cfg)
        check(given)
        if "aegis-key" in given and "aegis-key-file" in given:
            raise NodeError("the node config has aegis-key and aegis-key-file; a vault has one key, so leave one out")
        for key, example in (("aegis-vault", "/srv/vault"), ("aegis-key-file", "/run/keys/vault.key")):
            if key not in given and not (key == "aegis-key-file" and "aegis-key" in given):
                raise NodeError(
                    f'this node\'s operator has not set {key}; write {key} = "{example}" into the file that the SuperNode gets '
                    "by --node-config"
                )
        return cls(
            vault=Path(given["aegis-vault"]),
            key_file=Path(given.get("aegis-key-file", "")),
            dataset=given.get("aegis-dataset", cfg.data.name),
            name=given.get("aegis-name", f"node-{context.node_id}"),
            min_cohort=given.get("aegis-min-cohort", 3),
            min_threshold=given.get("aegis-min-threshold", 2),
            max_norm=float(given["aegis-max-norm"]) if "aegis-max-norm" in given else None,
            colluding_percent=given.get("aegis-colluding-percent", 10),
            require_commit=given.get("aegis-require-commit", False),
            same_policy=given.get("aegis-same-policy", False),
            trust=Trust.from_config(given),
            max_evaluations=given.get("aegis-max-evaluations", 1),
            vault_id=given["aegis-vault-id"].lower() if "aegis-vault-id" in given else None,
            key=given.get("aegis-key"),
        )


def _of_simulation(given: Mapping[str, Any], cfg: Config) -> dict[str, Any]:
    """Only Flower's simulation engine sets partition-id by itself; there, researcher and operator are one."""
    index = given["partition-id"]
    if type(index) is not int or not 0 <= index < 2**20:
        raise NodeError(f"partition-id = {index!r} in the node config must be a whole number from 0")
    name = f"{registry.noun(cfg.data.name)}-{index + 1}"
    root = Path(str(cfg.vault.root))
    own: dict[str, Any] = {
        "aegis-vault": str(root / name),
        "aegis-key-file": str(root / "keys" / f"{name}.key"),
        "aegis-dataset": cfg.data.name,
        "aegis-name": name,
        "aegis-min-cohort": cfg.secagg.min_cohort,
        "aegis-max-evaluations": cfg.evaluations,
        "aegis-trust-server": True,
    }
    return {**own, **given}

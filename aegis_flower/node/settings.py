"""Settings: the node config that a SuperNode's operator wrote, checked and read. `keys` has the keys."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import Context

from aegis_flower.configs import Config
from aegis_flower.data import registry
from aegis_flower.errors import NodeError
from aegis_flower.node import keys
from aegis_flower.node.keys import KEYS
from aegis_flower.node.trust import Trust


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
        features_sha256: the feature plan that apps may use here (``aegis-features-sha256``); None takes whichever the app brings.
        key: another place of the key (``aegis-key``).
        vault_id: the vault that must lie at `vault` (``aegis-vault-id``); None takes whichever does.
    """

    vault: Path
    key_file: Path
    dataset: str
    name: str
    min_cohort: int = KEYS[keys.MIN_COHORT].default
    min_threshold: int = KEYS[keys.MIN_THRESHOLD].default
    max_norm: float | None = KEYS[keys.MAX_NORM].default
    colluding_percent: int = KEYS[keys.COLLUDING_PERCENT].default
    require_commit: bool = KEYS[keys.REQUIRE_COMMIT].default
    same_policy: bool = KEYS[keys.SAME_POLICY].default
    trust: Trust | None = None
    max_evaluations: int = KEYS[keys.MAX_EVALUATIONS].default
    vault_id: str | None = KEYS[keys.VAULT_ID].default
    features_sha256: str | None = KEYS[keys.FEATURES_SHA256].default
    key: str | None = KEYS[keys.KEY].default

    @classmethod
    def from_context(cls, context: Context, cfg: Config) -> NodeConfig:
        """Reads the node config; in Flower's own simulation, finds the vault of the partition.

        Raises:
            NodeError: a key is missing, with the line to add; or one is unknown, or its value is not what it needs.
        """
        given: dict[str, Any] = dict(context.node_config)
        if keys.VAULT not in given and "partition-id" in given and cfg.vault.root:
            given = _of_simulation(given, cfg)
        check(given)
        if keys.KEY in given and keys.KEY_FILE in given:
            raise NodeError(
                f"the node config has {keys.KEY} and {keys.KEY_FILE}; a vault has one key, so leave one out"
            )
        for key, example in ((keys.VAULT, "/srv/vault"), (keys.KEY_FILE, "/run/keys/vault.key")):
            if key not in given and not (key == keys.KEY_FILE and keys.KEY in given):
                raise NodeError(
                    f'this node\'s operator has not set {key}; write {key} = "{example}" into the file that the SuperNode gets '
                    "by --node-config"
                )

        def of(key: str) -> Any:
            return given.get(key, KEYS[key].default)

        most, pinned, plan = of(keys.MAX_NORM), of(keys.VAULT_ID), of(keys.FEATURES_SHA256)
        return cls(
            vault=Path(given[keys.VAULT]),
            key_file=Path(given.get(keys.KEY_FILE, "")),
            dataset=given.get(keys.DATASET, cfg.data.name),
            name=given.get(keys.NAME, f"node-{context.node_id}"),
            min_cohort=of(keys.MIN_COHORT),
            min_threshold=of(keys.MIN_THRESHOLD),
            max_norm=None if most is None else float(most),
            colluding_percent=of(keys.COLLUDING_PERCENT),
            require_commit=of(keys.REQUIRE_COMMIT),
            same_policy=of(keys.SAME_POLICY),
            trust=Trust.from_config(given),
            max_evaluations=of(keys.MAX_EVALUATIONS),
            vault_id=None if pinned is None else pinned.lower(),
            features_sha256=None if plan is None else plan.lower(),
            key=of(keys.KEY),
        )


def _of_simulation(given: Mapping[str, Any], cfg: Config) -> dict[str, Any]:
    """Only Flower's simulation engine sets partition-id by itself; there, researcher and operator are one."""
    index = given["partition-id"]
    if type(index) is not int or not 0 <= index < 2**20:
        raise NodeError(f"partition-id = {index!r} in the node config must be a whole number from 0")
    name = f"{registry.noun(cfg.data.name)}-{index + 1}"
    root = Path(str(cfg.vault.root))
    own: dict[str, Any] = {
        keys.VAULT: str(root / name),
        keys.KEY_FILE: str(root / "keys" / f"{name}.key"),
        keys.DATASET: cfg.data.name,
        keys.NAME: name,
        keys.MIN_COHORT: cfg.secagg.min_cohort,
        keys.MAX_EVALUATIONS: cfg.evaluations,
        keys.TRUST_SERVER: True,
    }
    return {**own, **given}

"""The node config: every key of it, held to its type and bounds; no key that nobody reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from aegis_engine import Vault
from aegis_flower.configs import compose
from aegis_flower.errors import NodeError, WrongVault
from aegis_flower.node.keys import KEYS
from aegis_flower.node.node import Node, NodeConfig

CFG = compose("quickstart")
WHOLE = {"aegis-vault": "/srv/vault", "aegis-key-file": "/run/key", "aegis-trust-server": True}
GOOD: dict[str, list[Any]] = {
    "aegis-vault": ["/srv/vault"],
    "aegis-vault-id": ["6f1c1cbb-6f9f-4cf7-9f0e-6a5a3c0f2c11", "6F1C1CBB-6F9F-4CF7-9F0E-6A5A3C0F2C11"],
    "aegis-key-file": ["/run/key"],
    "aegis-key": [
        "env:VAULT_KEY",
        "command:/usr/bin/pass show vault",
        "keyring:aegis/vault",
        "pkcs11:/usr/lib/p11.so:vault",
    ],
    "aegis-dataset": ["patients", "ward/1"],
    "aegis-name": ["clinic-1"],
    "aegis-min-cohort": [2, 65536],
    "aegis-min-threshold": [2, 65536],
    "aegis-max-norm": [1, 0.5, 1e6],
    "aegis-max-evaluations": [0, 1, 10_000],
    "aegis-colluding-percent": [0, 100],
    "aegis-require-commit": [True, False],
    "aegis-same-policy": [True, False],
    "aegis-features-sha256": ["0a" * 32, "0A" * 32],
    "aegis-trust-server": [True],
    "aegis-identity": ["/run/identity"],
    "aegis-roster": ["/run/roster"],
    "aegis-roster-signer": ["0a" * 32],
}
NEVER = [
    b"x",
    None,
    [],
    {},
    float("nan"),
    float("inf"),
    float("-inf"),
    -1,
    1e300,
    -1e300,
    1e-320,
    2**64,
    "",
    " ",
    "\x1b[0m",
    "a\nb",
]
FITS_TEXT = [" "]  # a blank is text; the folder of that name will not be there


def config(**given: Any) -> NodeConfig:
    node_config = {key.replace("_", "-"): value for key, value in given.items()}
    return NodeConfig.from_context(Context(1, 2, node_config, RecordDict(), {}), CFG)


def with_key(key: str, value: Any) -> dict[str, Any]:
    given = {**WHOLE, key: value}
    if key == "aegis-key":
        del given["aegis-key-file"]
    if key in {"aegis-identity", "aegis-roster", "aegis-roster-signer"}:
        given = {
            **given,
            **{k: GOOD[k][0] for k in ("aegis-identity", "aegis-roster", "aegis-roster-signer") if k != key},
        }
    return given


def test_every_key_has_good_values_here_and_a_row_in_the_documents() -> None:
    assert GOOD.keys() == KEYS.keys()
    page = (Path(__file__).parents[2] / "docs" / "CONFIG.md").read_text()
    table = page[page.index("Node config (the operator's") :]
    for key in KEYS:
        assert f"`{key}`" in table, key


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in GOOD.items() for v in values])
def test_what_the_documents_allow_is_taken(key: str, value: Any) -> None:
    assert config(**with_key(key, value))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", NEVER, ids=repr)
def test_a_value_of_another_type_or_out_of_bounds_is_refused_by_name(key: str, value: Any) -> None:
    if KEYS[key].wanted.startswith("text") and value in FITS_TEXT:
        return
    if key == "aegis-max-norm" and value == 1e-320:
        return  # tiny, but above 0: nothing of an update is left
    with pytest.raises(NodeError, match=re.escape(key)):
        config(**with_key(key, value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(
            (key, value)
            for key in KEYS
            for value in (True, 0, 1, 1.5, "1", "true")
            if not (isinstance(value, str) and KEYS[key].wanted.startswith("text"))
            and not (key == "aegis-max-norm" and type(value) in (int, float) and value > 0)
            and not (key in {"aegis-max-evaluations", "aegis-colluding-percent"} and type(value) is int)
            and not (KEYS[key].wanted.startswith("true") and value is True)
        )
    ],
)
def test_numbers_truth_values_and_text_are_not_taken_for_each_other(key: str, value: Any) -> None:
    with pytest.raises(NodeError, match=re.escape(key)):
        config(**with_key(key, value))


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("aegis-max-nrom", "aegis-max-norm"),
        ("aegis_identity", "aegis-identity"),
        ("aegis-require-comit", "aegis-require-commit"),
        ("AEGIS-VAULT", "aegis-vault"),
        ("aegis-rooster", "aegis-roster"),
        (" aegis-max-norm", "aegis-max-norm"),
        ("aegis.min.cohort", "aegis-min-cohort"),
        ("aegis-0123456789-0123456789-0123", "docs/CONFIG.md"),
    ],
)
def test_a_key_that_nobody_reads_is_refused_with_what_was_meant(key: str, meant: str) -> None:
    with pytest.raises(NodeError, match=f"protect nobody.*{re.escape(meant)}"):
        NodeConfig.from_context(Context(1, 2, {**WHOLE, key: 1}, RecordDict(), {}), CFG)


def test_a_key_of_another_app_is_let_be() -> None:
    assert config(**WHOLE, number=3, partition="a")


def test_flowers_simulation_refuses_a_mistyped_key_too() -> None:
    cfg = compose("quickstart", ["vault.root=/srv/vaults"])
    plain = {"partition-id": 1, "num-partitions": 5}
    found = NodeConfig.from_context(Context(1, 2, plain, RecordDict(), {}), cfg)
    assert (found.name, found.trust) == ("hospital-2", None)
    found = NodeConfig.from_context(Context(1, 2, {**plain, "aegis-require-commit": True}, RecordDict(), {}), cfg)
    assert found.require_commit, "in a simulation, too, the operator's settings hold"
    with pytest.raises(NodeError, match="aegis-require-commit"):
        NodeConfig.from_context(Context(1, 2, {**plain, "aegis-require-comit": True}, RecordDict(), {}), cfg)


def test_without_a_roster_a_node_starts_only_where_its_operator_says_to_trust_the_server() -> None:
    for given in ({}, {"aegis-trust-server": False}):
        with pytest.raises(NodeError, match="aegis-trust-server = true"):
            config(**{**{k: WHOLE[k] for k in ("aegis-vault", "aegis-key-file")}, **given})
    assert config(**WHOLE).trust is None


def test_a_key_may_lie_elsewhere_than_in_a_file_and_an_error_never_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "5f" * 32
    vault = Vault.create(str(tmp_path / "a"), bytes.fromhex(secret))
    vault.govern("core")
    del vault
    monkeypatch.setenv("VAULT_KEY", secret)
    given = {"aegis-vault": str(tmp_path / "a"), "aegis-trust-server": True}
    for place in ("env:VAULT_KEY", f"command:/bin/echo {secret}"):
        assert Node(config(**given, **{"aegis-key": place})).vault.governed
    for wrong in (secret, f"key:{secret}", f"env:{secret}\n"):
        with pytest.raises(NodeError) as error:
            config(**given, **{"aegis-key": wrong})
        assert secret not in str(error.value)
    with pytest.raises(NodeError, match="leave one out"):
        config(**given, **{"aegis-key": "env:VAULT_KEY", "aegis-key-file": "/run/key"})
    with pytest.raises(NodeError, match="has not set aegis-key-file"):
        config(**given)


def test_a_vault_that_was_exchanged_for_another_is_found_by_its_id(tmp_path: Path) -> None:
    mine, theirs = (Vault.create(str(tmp_path / n), key_file=str(tmp_path / f"{n}.key"), make_key=True) for n in "ab")
    for vault in (mine, theirs):
        vault.govern("core")
    pinned = {**WHOLE, "aegis-vault": str(tmp_path / "b"), "aegis-key-file": str(tmp_path / "b.key")}
    ids = mine.id, theirs.id
    del mine, theirs
    Node(config(**pinned, **{"aegis-vault-id": ids[1]}))
    with pytest.raises(WrongVault, match=ids[0]):
        Node(config(**pinned, **{"aegis-vault-id": ids[0]}))

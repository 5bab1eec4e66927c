"""NODE.TOML: one vocabulary, every key checked, nothing that protects nobody."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w

from aegis_flower.errors import NodeError
from aegis_flower.jail.jail import LAYERS
from aegis_flower.service.settings import read

LEAST = {
    "aegis-vault": "vault",
    "aegis-key-file": "/keys/vault.key",
    "aegis-trust-server": True,
    "aegis-approvals": "approvals",
    "aegis-approval-signer": "ab" * 32,
}


@pytest.fixture
def write(tmp_path: Path):
    def one(**more):
        file = tmp_path / "north.toml"
        file.write_text(tomli_w.dumps({k: v for k, v in {**LEAST, **more}.items() if v is not None}))
        return file

    return one


def test_a_least_file_has_defaults_and_paths_from_its_own_folder(write, tmp_path):
    said = read(write())
    assert (said.supernode, said.secret, said.health, said.log, said.grid) == ("127.0.0.1:9094", None, None, None, 0)
    assert said.control == tmp_path / "north.control"
    assert said.approvals == tmp_path / "approvals"
    assert said.signer == b"\xab" * 32
    assert said.layers == LAYERS
    assert (said.name, said.dataset) == ("north", None)
    config = said.node_config()
    assert (config.vault, config.key_file, config.name) == (tmp_path / "vault", Path("/keys/vault.key"), "north")


def test_every_key_of_the_node_config_is_one_of_nodes_toml(write):
    config = read(
        write(**{"aegis-key-file": None, "aegis-key": "env:KEY", "aegis-min-cohort": 5, "aegis-max-norm": 2})
    ).node_config()
    assert (config.key, config.min_cohort, config.max_norm) == ("env:KEY", 5, 2.0)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"aegis-min-kohort": 3}, "did you mean aegis-min-cohort"),
        ({"aegis-helth": "127.0.0.1:1"}, "did you mean aegis-health"),
        ({"partition-id": 3}, "no setting of a node"),
        ({"table": {"aegis-name": "x"}}, "no setting of a node"),
        ({"aegis-supernode": "10.0.0.1:9094"}, "an address of this machine alone"),
        ({"aegis-supernode": "localhost:9094"}, "an address of this machine alone"),
        ({"aegis-supernode": "127.0.0.1:0"}, "an address of this machine alone"),
        ({"aegis-health": "0.0.0.0:9464"}, "an address of this machine alone"),
        ({"aegis-approval-signer": "ab"}, "64 hexadecimal digits"),
        ({"aegis-quantize-time": -1}, "from 0 to 3600"),
        ({"aegis-quantize-time": 1.5}, "from 0 to 3600"),
        ({"aegis-require-layers": "seccomp, moat"}, "there is no layer 'moat'"),
        ({"aegis-approvals": None}, "no app runs before it is approved"),
        ({"aegis-approval-signer": None}, "no app runs before it is approved"),
        ({"aegis-key": "a secret that somebody wrote there"}, "aegis-key in north.toml must be"),
    ],
)
def test_what_is_wrong_is_named(write, more, says):
    with pytest.raises(NodeError, match=says) as raised:
        read(write(**more))
    assert "a secret" not in str(raised.value)


def test_what_is_no_file_or_no_toml_is_said_so(tmp_path):
    with pytest.raises(NodeError, match="cannot be read"):
        read(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("aegis-vault = vault")
    with pytest.raises(NodeError, match="is no TOML"):
        read(tmp_path / "bad.toml")


def test_layers_are_all_some_or_none(write):
    assert read(write(**{"aegis-require-layers": "seccomp,landlock"})).layers == ("seccomp", "landlock")
    assert read(write(**{"aegis-require-layers": ""})).layers == ()


def test_a_secret_is_the_bytes_of_its_file(write, tmp_path):
    said = read(write(**{"aegis-supernode-secret": "secret"}))
    with pytest.raises(NodeError, match="cannot be read"):
        said.shared_secret()
    (tmp_path / "secret").write_bytes(b"")
    with pytest.raises(NodeError, match="is empty"):
        said.shared_secret()
    (tmp_path / "secret").write_bytes(b"x\n")
    assert said.shared_secret() == b"x\n"
    assert read(write()).shared_secret() is None


def test_ipv6_of_this_machine_is_an_address_of_it(write):
    assert read(write(**{"aegis-supernode": "[::1]:9094"})).supernode == "[::1]:9094"

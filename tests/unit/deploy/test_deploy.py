"""The folder of a federation: every file in it is held against the program that reads it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import ssl
import stat
import subprocess
import sys
import tempfile
import time
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main
import yaml
from aegis.cli import build
from typer.testing import CliRunner

from aegis_engine import Identity, Vault, roster_open
from aegis_flower.cli import register
from aegis_flower.deploy import Plan, write
from aegis_flower.errors import ConfigError
from aegis_flower.node.keys import KEYS
from aegis_flower.service import settings

BIN = Path(sys.executable).parent
app = build()
register(app)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("deploy") / "federation"
    words = [
        "deploy",
        "init",
        str(made),
        "--host",
        "link.example.org",
        "--host",
        "10.0.0.7",
        "--vaults",
        "--programs",
        str(BIN),
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return made


def nodes(folder: Path) -> list[Path]:
    return sorted(folder.glob("node-*"))


def test_private_halves_are_readable_by_their_owner_alone(folder: Path) -> None:
    private = {"operator.key", "identity", "server.key", "supernode.key", "vault.key", "epoch.key"}
    found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.rglob("*") if file.name in private}
    assert found == dict.fromkeys(private, 0o600)
    secrets = list(folder.rglob("superexec.secret"))
    assert [stat.S_IMODE(file.stat().st_mode) for file in secrets] == [0o640] * 3
    assert len({file.read_bytes() for file in secrets}) == 3
    assert not list(folder.rglob("ca.key"))
    assert not list(folder.parent.glob(".federation*"))


def test_the_certificate_holds_for_every_name_of_the_superlink_and_no_other(folder: Path) -> None:
    certs = folder / "superlink/certs"
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certs / "server.pem", certs / "server.key")
    for ca in (certs / "ca.crt", folder / "operator/ca.crt", *(node / "network/ca.crt" for node in nodes(folder))):
        for host, holds in (("link.example.org", True), ("10.0.0.7", True), ("localhost", True), ("other.org", False)):
            assert _meets(server, ca, host) is holds, host
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", certs / "ca.crt", certs / "server.pem"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def _meets(server: ssl.SSLContext, ca: Path, host: str) -> bool:
    """Whether a client that trusts `ca` and wants `host` shakes hands with the server, in memory."""
    client = ssl.create_default_context(cafile=str(ca))
    ends = [ssl.MemoryBIO() for _ in range(4)]
    one = client.wrap_bio(ends[0], ends[1], server_hostname=host)
    two = server.wrap_bio(ends[1], ends[0], server_side=True)
    done: set[Any] = set()
    for _ in range(10):
        for side in (one, two):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                return False
    return len(done) == 2


def test_the_roster_has_every_node_and_the_operators_signature(folder: Path) -> None:
    signer = bytes.fromhex((folder / "operator/operator.pub").read_text().strip())
    assert Identity.load(str(folder / "operator/operator.key")).public == signer
    roster = roster_open((folder / "operator/roster").read_text(), signer, now=int(time.time()))
    members = {Identity.load(str(node / "identity")).public: node.name for node in nodes(folder)}
    assert roster["members"] == members
    assert all((node / "roster").read_bytes() == (folder / "operator/roster").read_bytes() for node in nodes(folder))


def test_each_node_config_is_one_that_a_node_reads(folder: Path) -> None:
    runtime, health = set(), set()
    for node in nodes(folder):
        said = tomllib.loads((node / "node.toml").read_text())
        for key, value in said.items():
            assert key not in KEYS or KEYS[key].fits(value), key
        signer = (folder / "operator/operator.pub").read_text().strip()
        assert said["aegis-roster-signer"] == said["aegis-approval-signer"] == signer
        for key in (
            "aegis-vault",
            "aegis-key-file",
            "aegis-identity",
            "aegis-roster",
            "aegis-approvals",
            "aegis-supernode-secret",
        ):
            assert (node / said[key]).exists(), key
        vault = Vault.open(str(node / said["aegis-vault"]), key_file=str(node / said["aegis-key-file"]))
        assert vault.list() == []
        runtime.add(said["aegis-supernode"])
        health.add(said["aegis-health"])
        assert settings.read(node / "node.toml").name == node.name
    assert len(runtime | health) == 6


def test_each_unit_is_one_that_systemd_takes(folder: Path) -> None:
    units = sorted(folder.glob("*/systemd/*.service"))
    assert [unit.name for unit in units] == [
        *(f"aegis-{kind}-{n}.service" for n in (1, 2, 3) for kind in ("node", "supernode")),
        "aegis-superlink.service",
    ]
    tool = shutil.which("systemd-analyze")
    assert tool, "this test needs systemd-analyze (package systemd)"
    done = subprocess.run([tool, "verify", *units], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    broken = folder.parent / "aegis-broken.service"
    broken.write_text(units[0].read_text().replace("Restart=always", "Restrat=always"))
    done = subprocess.run([tool, "verify", broken], capture_output=True, text=True, check=False, timeout=120)
    assert "Restrat" in done.stderr


def test_each_unit_leaves_a_service_no_more_than_it_needs(folder: Path) -> None:
    """By systemd's own measure, 0 to 100: nothing beside Internet sockets for the network, the jail's namespaces for a node."""
    tool = shutil.which("systemd-analyze")
    assert tool, "this test needs systemd-analyze (package systemd)"
    for unit, most in (
        (folder / "superlink/systemd/aegis-superlink.service", 20),
        (folder / "node-1/systemd/aegis-supernode-1.service", 20),
        (folder / "node-1/systemd/aegis-node-1.service", 50),
    ):
        words = [tool, "security", "--offline=yes", "--no-pager", f"--threshold={most}", unit]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout[-300:] + done.stderr


@cache
def options_of(*command: str) -> set[str]:
    """The options that a program says it has."""
    done = subprocess.run(
        [BIN / command[0], *command[1:], "--help"], capture_output=True, text=True, check=True, timeout=120
    )
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)))


def check_line(words: list[str], place: Path) -> None:
    """Holds a command line of Flower's or of ours against the program's own help; files that it names are there."""
    name = Path(words[0]).name
    if name == "aegis":
        command: click.Command = typer.main.get_command(app)
        context = click.Context(command, info_name="aegis")
        rest = words[1:]
        while isinstance(command, click.Group):
            found = command.get_command(context, rest[0])
            assert found is not None, words
            command, rest = found, rest[1:]
        command.make_context(name, rest, resilient_parsing=False)
        return
    known = options_of(*([name, *words[1:3]] if name == "flwr" else [name]))
    used = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
    assert used <= known, used - known
    for word in words[1:]:
        path = Path(word.partition("=")[2] or word)
        if path.is_absolute() and place in path.parents:
            assert path.exists(), path


def _command_of(unit: Path) -> list[str]:
    text = unit.read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    return shlex.split(line)


def test_each_command_of_a_unit_is_one_that_its_program_takes(folder: Path) -> None:
    for unit in folder.glob("*/systemd/*.service"):
        words = _command_of(unit)
        assert Path(words[0]).parent == BIN
        assert Path(words[0]).is_file()
        check_line(words, folder)
    with pytest.raises(AssertionError):
        check_line([str(BIN / "flower-supernode"), "--no-such-option"], folder)


def test_the_jail_stands_under_what_the_nodes_unit_takes_away(folder: Path) -> None:
    """A user without capabilities that can gain none, as in the unit; systemd itself is not here to start it."""
    text = (folder / "node-1/systemd/aegis-node-1.service").read_text()
    assert "NoNewPrivileges=yes" in text
    assert "CapabilityBoundingSet=\n" in text
    for mounted in ("ProtectSystem", "PrivateDevices", "ProtectKernelTunables", "PrivateTmp"):
        assert f"{mounted}=" not in text
    check = [str(BIN / "aegis"), "jail", "check"]
    plain = subprocess.run(check, capture_output=True, text=True, check=False, timeout=120)
    # The files of the tests may be readable by root alone: this user is root's, under another number.
    user = ["unshare", "-U", "--map-user=1000", "--map-group=1000", "setpriv", "--no-new-privs"]
    done = subprocess.run([*user, *check], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (plain.returncode, plain.stdout)


def test_the_compose_file_starts_every_program_with_options_that_it_has(folder: Path) -> None:
    said = yaml.safe_load((folder / "compose.yaml").read_text())
    services = said["services"]
    assert sorted(services) == ["node-1", "node-2", "node-3", "superlink", "supernode-1", "supernode-2", "supernode-3"]
    for name, service in services.items():
        words = service["command"]
        check_line(
            [words[0], *(w for w in words[1:] if not w.startswith("/node/"))] if words[0] != "aegis" else words, folder
        )
        assert service["cap_drop"] == ["ALL"]
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in said["volumes"] or (folder / source).is_dir(), volume
        assert all(other in services for other in service.get("depends_on", []))
        inside = {v.split(":")[1]: folder / v.split(":")[0] for v in service["volumes"] if v.startswith("./")}
        for word in words:
            path = Path(word.partition("=")[2] or word)
            for mount, real in inside.items():
                if path.is_relative_to(mount):
                    assert (real / path.relative_to(mount)).exists(), word
        if name.startswith("node-"):
            assert service["network_mode"] == f"service:supernode-{name[5:]}"
        else:
            assert service["read_only"]
    assert [s for s in services if "ports" in services[s]] == ["superlink"]


def test_the_researchers_config_names_the_superlink_and_its_authority(folder: Path) -> None:
    said = tomllib.loads((folder / "operator/config.toml").read_text())["superlink"]
    assert said["default"] == "aegis"
    assert said["aegis"]["address"] == "link.example.org:8000"
    assert Path(said["aegis"]["root-certificates"]).read_bytes() == (folder / "superlink/certs/ca.crt").read_bytes()


def blocks(folder: Path, kind: str) -> list[str]:
    text = (folder / "README.md").read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_readmes_commands_run_where_they_need_no_other_machine(tmp_path: Path) -> None:
    made = tmp_path / "federation"
    write(made, Plan(("localhost",), place=made, programs=BIN, nodes=2))
    found = blocks(made, "sh")
    assert len(found) == 3
    for text in found:
        # Whether a jail stands is this machine's kernel's to say.
        script = text.replace(f"{BIN}/aegis jail check\n", f"{BIN}/aegis jail check || true\n")
        words = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, (text, done.stdout, done.stderr)
    assert (made / "node-2/vault/vault.json").exists()
    signer = bytes.fromhex((made / "operator/operator.pub").read_text())
    assert roster_open((made / "node-1/roster").read_text(), signer)["serial"] == 2


def test_the_readmes_other_commands_are_those_of_programs_that_are_there(folder: Path) -> None:
    known = {"useradd", "chown", "chmod", "cp", "systemctl", "flwr", "aegis"}
    seen = set()
    for text in (*blocks(folder, "sh machine"), *blocks(folder, "sh federation")):
        assert subprocess.run(["bash", "-n", "-c", text], check=False, timeout=60).returncode == 0
        for line in text.splitlines():
            words = shlex.split(line)
            name = Path(words[0]).name
            seen.add(name)
            assert name in known, line
            if name in ("flwr", "aegis"):
                check_line([str(BIN / name), *words[1:]], folder)
            for word in words[1:]:
                path = Path(word)
                if (
                    folder in path.parents
                    and "/approvals/approvals" not in word
                    and not word.endswith(("/inbox", "/operator/approvals"))
                ):
                    assert path.exists(), line
            if name == "systemctl" and "enable" in words:
                assert list(folder.glob(f"*/systemd/{words[-1]}")), line
    assert seen == known


def test_a_second_time_writes_over_nothing(folder: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(ConfigError, match="is not empty"):
        write(folder, Plan(("localhost",)))
    assert before == {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(ConfigError, match="there is no folder"):
        write(tmp_path / "none/deep", Plan(("localhost",)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users, as an operator does")
def test_after_the_readmes_commands_the_network_reads_no_vault_and_the_node_writes_no_approval() -> None:
    """`chown` and `chmod` of the README, run with numbers for the users that this machine does not have."""
    network, node = 61_990, 61_991
    with tempfile.TemporaryDirectory(prefix="aegis-deploy-") as name:
        root = Path(name)
        root.chmod(0o755)
        made = root / "federation"
        write(made, Plan(("localhost",), place=made, nodes=1, vaults=True))
        made.chmod(0o755)
        lines = [line for text in blocks(made, "sh machine") for line in text.splitlines()]
        own = [line for line in lines if line.startswith(("chown", "chmod"))]
        assert len(own) == 7
        numbers = {"aegis-net:": f"{network}:{network}", "aegis:": f"{node}:{node}", "root:": "0:0"}
        for line in own:
            subprocess.run([numbers.get(word, word) for word in shlex.split(line)], check=True, timeout=60)

        def can(user: int, groups: str, *command: str) -> bool:
            words = ["setpriv", f"--reuid={user}", f"--regid={user}", groups, *command]
            return subprocess.run(words, capture_output=True, check=False, timeout=60).returncode == 0

        home = made / "node-1"
        of_network, of_node = (network, "--clear-groups"), (node, f"--groups={network}")
        for file in ("vault.key", "vault/keystore.akv", "vault/epoch.key", "identity"):
            assert can(*of_node, "cat", str(home / file)), file
            assert not can(*of_network, "cat", str(home / file)), file
        for file in ("superexec.secret", "ca.crt"):
            assert can(*of_node, "cat", str(home / "network" / file)), file
            assert can(*of_network, "cat", str(home / "network" / file)), file
        assert can(*of_network, "cat", str(home / "network/supernode.key"))
        assert not can(*of_node, "cat", str(home / "network/supernode.key"))
        assert not can(*of_network, "ls", str(home))
        assert not can(*of_node, "touch", str(home / "approvals/approvals"))
        assert can(*of_node, "ls", str(home / "approvals"))
        assert can(*of_node, "touch", str(home / "log.txt"))
        for stranger in ((61_992, "--clear-groups"),):
            for file in ("vault.key", "identity", "network/superexec.secret", "network/supernode.key"):
                assert not can(*stranger, "cat", str(home / file)), file
        assert not can(*of_node, "cat", str(made / "operator/operator.key"))

"""The folder of ``aegis deploy init``, started by its own command lines: SuperLink with TLS, registered nodes, `aegis node`."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from aegis_flower.deploy import Plan, write
from aegis_flower.simulations.flower.processes import HOST, Process, Processes, free_port

BIN = Path(sys.executable).parent
SECONDS = 240.0

pytestmark = pytest.mark.deployment


def _free_pair() -> int:
    """A port with those of two nodes and their health pages behind it free: Flower's and ours are told them beforehand."""
    for _ in range(100):
        first = free_port()
        if first > 60_000:
            continue
        try:
            for port in (first, first + 1, first + 100, first + 101):
                with socket.socket() as one:
                    one.bind((HOST, port))
        except OSError:
            continue
        return first
    pytest.fail("no ports are free")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "federation"
    plan = Plan((HOST,), nodes=2, port=free_port(), loopback=_free_pair(), place=made, programs=BIN, vaults=True)
    write(made, plan)
    return made


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    (tmp_path / "run").mkdir()
    made = Processes(tmp_path / "run")
    yield made
    made.stop()


def _start(processes: Processes, unit: Path) -> Process:
    """Starts what a unit starts, with its environment; systemd's folders are the test's own, and it listens on loopback."""
    text = unit.read_text().replace("\\\n", " ")
    for letter, name in (("%S", "state"), ("%L", "logs")):
        place = processes.folder / name
        text = text.replace(letter, str(place))
    for kind in re.findall(rf"{re.escape(str(processes.folder))}/(?:state|logs)/[\w-]+", text):
        Path(kind).mkdir(parents=True, exist_ok=True)
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    extra = dict(
        pair.split("=", 1) for words in re.findall(r"^Environment=(.*)$", text, re.MULTILINE) for pair in words.split()
    )
    extra.pop("PATH", None)
    words = [HOST if word == "0.0.0.0" else word for word in shlex.split(line)]
    return processes.start(unit.stem, words, extra)


def _until(ready: object, what: str, *watched: Process) -> None:
    deadline = time.monotonic() + SECONDS
    while not ready():  # type: ignore[operator]
        for one in watched:
            assert one.popen.poll() is None, one.text()
        assert time.monotonic() < deadline, f"{what}: {[one.text()[-2000:] for one in watched]}"
        time.sleep(0.2)


def _healthy(port: str, ca: Path) -> bool:
    import ssl

    try:
        verify = ssl.create_default_context(cafile=str(ca))
        return httpx.get(f"https://{HOST}:{port}/health", verify=verify, trust_env=False, timeout=2.0).is_success
    except httpx.TransportError:
        return False


def test_the_federation_comes_up_by_the_folders_own_commands(folder: Path, processes: Processes) -> None:
    link = _start(processes, folder / "superlink/systemd/aegis-superlink.service")
    address = re.findall(r'address = "(.*)"', (folder / "operator/config.toml").read_text())[0]
    _until(lambda: _healthy(address.rpartition(":")[2], folder / "operator/ca.crt"), "the SuperLink", link)

    home = processes.folder / "researcher"
    home.mkdir()
    shutil.copy(folder / "operator/config.toml", home / "config.toml")
    lines = [line for line in (folder / "README.md").read_text().splitlines() if "/flwr supernode " in line]
    assert len(lines) == 3
    for line in lines[:2]:
        assert _flwr(line, home).returncode == 0
    nodes = [_start(processes, folder / f"node-{n}/systemd/aegis-supernode-{n}.service") for n in (1, 2)]
    for node in nodes:
        _until(lambda node=node: "SuperNode ID: " in node.text(), "a SuperNode", node)  # type: ignore[misc]
    listed = json.loads(_flwr(f"{lines[2]} --format json", home).stdout)
    assert [one["status"] for one in listed["nodes"]] == ["online", "online"], listed

    services = [_start(processes, folder / f"node-{n}/systemd/aegis-node-{n}.service") for n in (1, 2)]
    for number, service in enumerate(services, 1):
        said = folder / f"node-{number}/node.toml"
        _until(lambda said=said: _reached(said), f"node {number}", service, *nodes)  # type: ignore[misc]
        found = {one["topic"]: one for one in json.loads(_aegis("node", "check", str(said), "--json").stdout)}
        # What is still to be done says so, and nothing else is wrong.
        assert {topic for topic, one in found.items() if not one["well"]} <= {"approvals", "vault", "data"}, found
    for service in services:
        service.popen.terminate()
    assert [service.popen.wait(SECONDS) for service in services] == [0, 0]
    _upgraded(processes, folder / "node-1", nodes[0])


def _upgraded(processes: Processes, node: Path, supernode: Process) -> None:
    """What the page on upgrades says, from the stopped service to the started one; the environment is the same."""
    before = json.loads(_aegis("audit", "verify", str(node / "vault"), "--json").stdout)
    fsck = _aegis("vault", "fsck", str(node / "vault"), "--key-file", str(node / "vault.key"))
    assert fsck.returncode == 0, fsck.stdout + fsck.stderr
    again = _start(processes, node / "systemd/aegis-node-1.service")
    _until(lambda: _reached(node / "node.toml"), "the node that was started again", again, supernode)
    kept = _aegis("audit", "verify", str(node / "vault"), "--expect", f"{before['records']}:{before['head']}")
    assert kept.returncode == 0, kept.stdout + kept.stderr
    again.popen.terminate()
    assert again.popen.wait(SECONDS) == 0


def _reached(said: Path) -> bool:
    status = _aegis("node", "status", str(said), "--json").stdout
    found = json.loads(status) if status.startswith("{") else {}
    return bool(found.get("running") and (found.get("supernode") or {}).get("reached"))


def _flwr(line: str, home: Path) -> subprocess.CompletedProcess[str]:
    import os

    env = {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "NO_PROXY": HOST,
    }
    return subprocess.run(shlex.split(line), env=env, capture_output=True, text=True, check=False, timeout=SECONDS)


def _aegis(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / "aegis", *words], capture_output=True, text=True, check=False, timeout=SECONDS)

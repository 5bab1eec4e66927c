"""Nodes as operators run them: `aegis node run` beside a SuperNode in process isolation, each a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import tomli_w

from aegis_engine import Identity
from aegis_flower.approval import Desk
from aegis_flower.service.control import Control


def built(app: Path, folder: Path) -> bytes:
    """The bundle that `flwr run` makes of an app."""
    folder.mkdir(parents=True, exist_ok=True)
    flwr = Path(sys.executable).with_name("flwr")
    done = subprocess.run(
        [flwr, "build", "--app", app], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (fab,) = folder.glob("*.fab")
    return fab.read_bytes()


class Services:
    """`aegis node run` of each SuperNode of a deployment; a context manager that leaves no process behind."""

    def __init__(self, folder: Path, node_configs, **more):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._operator = folder / "operator.key"
        self.signer = Identity.create(str(self._operator)).public.hex()
        self.approvals = folder / "approvals"
        self.approvals.mkdir()
        self.desk = Desk(self.approvals, self._operator)
        self._configs, self._more = node_configs, more
        self._running: dict[int, subprocess.Popen] = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self._running.values():
            process.kill()
            process.wait()

    def file(self, index: int) -> Path:
        return self.folder / f"node-{index}.toml"

    def control(self, index: int) -> Control:
        return Control(self.file(index).with_suffix(".control"))

    def write(self, index: int, address: str, **more):
        """Writes NODE.TOML."""
        said = {
            **self._configs[index],
            "aegis-supernode": address,
            "aegis-approvals": str(self.approvals),
            "aegis-approval-signer": self.signer,
            "aegis-log": f"node-{index}.jsonl",
            **self._more,
            **more,
        }
        self.file(index).write_text(tomli_w.dumps(said))

    def start(self, index: int, *options: str) -> subprocess.Popen:
        log = (self.folder / f"node-{index}.log").open("ab")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("AEGIS_", "FLWR_"))}
        environment |= {"PYTHONUNBUFFERED": "1", "FLWR_TELEMETRY_ENABLED": "0"}
        process = subprocess.Popen(
            [sys.executable, "-m", "aegis", "node", "run", str(self.file(index)), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.folder,
            env=environment,
        )
        self._running[index] = process
        return process

    def kill(self, index: int) -> None:
        process = self._running.pop(index)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def lines(self, index: int, what: str | None = None) -> list[dict]:
        file = self.folder / f"node-{index}.jsonl"
        if not file.exists():
            return []
        found = [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]
        return [one for one in found if what in (None, one["what"])]

    def words(self, index: int) -> str:
        return (self.folder / f"node-{index}.log").read_text()


def wait(condition, timeout: float, what: str) -> None:
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, f"not in {timeout:g} s: {what}"
        time.sleep(0.1)

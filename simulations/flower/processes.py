"""Programs of a deployment: each in a group of its own, with a private FLWR_HOME and log, and ended for certain."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aegis_flower.errors import DeploymentError

HOST = "127.0.0.1"
REAPER = Path(__file__).with_name("reaper.py")
_MARK = "AEGIS_DEPLOYMENT"
# How often a SuperExec asks for a task (default 1 s): the one interval of Flower 1.41 that can be set. The SuperNode's
# own, 3 s between two looks for a message, is fixed and decides how long a round trip takes.
_TASK_POLL_SECONDS = "0.25"
_PORT_TRIES = 5
_PORT_TAKEN = re.compile(r"address already in use|Failed to bind to address", re.IGNORECASE)
_GRACE_SECONDS = 4.0
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Process:
    """A running program and its log."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        """Its log so far, without colours."""
        return _ANSI.sub("", self.log.read_text(encoding="utf-8", errors="replace"))

    def port_was_taken(self) -> bool:
        """Whether it ended because another program listens on its port."""
        return self.popen.poll() is not None and _PORT_TAKEN.search(self.text()) is not None

    def error(self, what: str) -> DeploymentError:
        """What went wrong, with the end of the log."""
        tail = "\n".join(self.text().splitlines()[-15:])
        return DeploymentError(f"{self.name} {what}; its log is {self.log}, ending in:\n{tail}")


class Processes:
    """Starts processes, each in a group of its own with its log in ``folder``, and ends them for certain."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[Process] = []
        self._mark = secrets.token_hex(16)
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(REAPER), f"{_MARK}={self._mark}"],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        atexit.register(self.stop)

    def start(self, name: str, command: Sequence[str], extra: Mapping[str, str] | None = None) -> Process:
        """Starts ``command`` with a working directory and a FLWR_HOME that no other process name shares."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        scripts = str(Path(sys.executable).parent)  # not resolved: a venv's interpreter is a link out of it
        path = os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])
        program = shutil.which(command[0], path=path)
        if program is None:
            message = f"{command[0]} is neither in {scripts} nor on PATH: install flwr>=1.41,<2 into this environment"
            raise DeploymentError(message)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("FLWR_")}
        private = {
            "PATH": path,
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), HOST, "localhost"])),
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": _TASK_POLL_SECONDS,
            "RAY_USAGE_STATS_ENABLED": "0",
            _MARK: self._mark,
        }
        log = self.folder / f"{name}.log"
        with log.open("ab") as stream:
            popen = subprocess.Popen(
                [program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=home,
                env=inherited | private | dict(extra or {}),
                start_new_session=True,
            )
        process = Process(name, popen, log)
        self._running.append(process)
        self._tell_reaper("+", process)
        return process

    def wait_until(self, ready: Callable[[], bool], process: Process, deadline: float) -> None:
        """Polls ``ready`` until it holds.

        Raises:
            DeploymentError: ``process`` ended, or the monotonic clock passed ``deadline``.
        """
        while not ready():
            if (code := process.popen.poll()) is not None:
                raise process.error(f"exited with code {code} before it was ready")
            if time.monotonic() > deadline:
                raise process.error("was not ready in time")
            time.sleep(0.1)

    def listen(
        self, start: Callable[[int], Process], ready: Callable[[Process], bool], deadline: float, first: Process
    ) -> Process:
        """Waits for ``first``; while another program took its port before it could, ``start`` it on another one.

        Between finding a port free and the process listening on it lie seconds, and anybody may take it in them.

        Raises:
            DeploymentError: as `wait_until`, or every one of ``_PORT_TRIES`` ports was taken meanwhile.
        """
        process = first
        for left in reversed(range(_PORT_TRIES)):
            try:
                self.wait_until(partial(ready, process), process, deadline)
            except DeploymentError:
                if left == 0 or not process.port_was_taken():
                    raise
                self.kill(process)
                process.log.rename(process.log.with_suffix(f".{process.popen.pid}.log"))
                process = start(free_port())
            else:
                break
        return process

    def kill(self, process: Process) -> None:
        """Ends the process and its group at once, as a crash or a power cut would."""
        if process in self._running:
            self._signal(process, signal.SIGKILL)
            process.popen.wait()
            self.forget(process)

    def forget(self, process: Process) -> None:
        """Lets go of a process that has ended and been waited for."""
        self._running.remove(process)
        self._tell_reaper("-", process)

    def stop(self) -> None:
        """Ends everything: politely, then by force. Does nothing the second time."""
        atexit.unregister(self.stop)
        for process in self._running:
            self._signal(process, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        while any(process.popen.poll() is None for process in self._running) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in reversed(self._running):
            self.kill(process)
        if self._reaper.stdin is not None and not self._reaper.stdin.closed:
            self._reaper.stdin.close()
            self._reaper.wait()

    @staticmethod
    def _signal(process: Process, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # the whole group has gone by itself
            os.killpg(process.popen.pid, number)

    def _tell_reaper(self, sign: str, process: Process) -> None:
        if self._reaper.stdin is not None:
            self._reaper.stdin.write(f"{sign}{process.popen.pid}\n".encode())
            self._reaper.stdin.flush()


def free_port() -> int:
    """A port that nobody listens on now, below those that the system gives to connections and to bind(0)."""
    for _ in range(100):
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    message = f"none of 100 ports of {HOST} between 10000 and 31999 was free"
    raise DeploymentError(message)

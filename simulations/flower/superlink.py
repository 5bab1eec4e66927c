"""A ``flower-superlink`` of this machine, the ``flwr`` command pointed at it, and what became of a run."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import httpx
import tomli_w

from aegis_flower.errors import ConfigError, DeploymentError
from aegis_flower.simulations.flower.certs import Certificates
from aegis_flower.simulations.flower.processes import HOST, Process, Processes, free_port

Value: TypeAlias = str | int | float | bool
"""What Flower lets a node config or a run config hold."""

CLI_SECONDS = 120.0


@dataclass(frozen=True)
class CompletedRun:
    """What became of a submitted run.

    Attributes:
        exit_code: exit code of ``flwr run``. It tells whether the run was accepted, not whether it succeeded: Flower
            1.41 exits 0 although the ServerApp raised. Use ``ok``.
        log: what ``flwr run --stream`` printed, the ServerApp's log included, without colours.
        run_id: Flower's number of the run; None when it was not accepted.
        status: ``finished:completed``, ``finished:failed``, ``finished:stopped``, or ``rejected``.
        details: Flower's explanation of the status, often empty.
        seconds: wall-clock time of ``flwr run``.
    """

    exit_code: int
    log: str
    run_id: int | None
    status: str
    details: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the ServerApp returned without an error."""
        return self.status == "finished:completed"


class SuperLink:
    """A ``flower-superlink`` process, and the ``flwr`` command pointed at it."""

    def __init__(self, processes: Processes, certificates: Certificates | None) -> None:
        self._processes = processes
        self._certificates = certificates
        self._runs = 0
        self.port = free_port()

    def start(self, *options: str, extra: Mapping[str, str] | None = None) -> None:
        """Starts the SuperLink and wait until its HTTP API answers (TLS verified)."""
        if self._certificates is None:
            security, scheme, verify = ["--insecure"], "http", ssl.create_default_context()
        else:
            files = self._certificates
            security = ["--ssl-ca-certfile", str(files.ca), "--ssl-certfile", str(files.certificate)]
            security += ["--ssl-keyfile", str(files.key)]
            scheme, verify = "https", ssl.create_default_context(cafile=str(files.ca))

        def at(port: int) -> Process:
            self.port = port
            command = ["flower-superlink", "--host", HOST, "--port", str(port)]
            command += ["--disable-runtime-dependency-installation", *security, *options]
            return self._processes.start("superlink", command, extra)

        def answers(process: Process) -> bool:
            url = f"{scheme}://{HOST}:{self.port}/health"
            try:
                healthy = httpx.get(url, verify=verify, trust_env=False, timeout=1.0).is_success
            except httpx.TransportError:
                return False
            return healthy and process.popen.poll() is None  # who has the port may answer like a SuperLink

        self._processes.listen(at, answers, time.monotonic() + CLI_SECONDS, at(self.port))

    def _connection(self) -> str:
        connection: dict[str, str | bool] = {"address": f"{HOST}:{self.port}"}
        if self._certificates is None:
            connection["insecure"] = True
        else:
            connection["root-certificates"] = str(self._certificates.ca)
        return tomli_w.dumps({"superlink": {"default": "aegis", "aegis": connection}})

    def flwr(self, name: str, *arguments: str, timeout: float = CLI_SECONDS) -> tuple[int, str]:
        """Runs one ``flwr`` command to its end; return its exit code and output.

        Raises:
            DeploymentError: it took longer than ``timeout`` seconds.
        """
        home = self._processes.folder / name
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(self._connection(), encoding="utf-8")
        process = self._processes.start(name, ["flwr", *arguments])
        try:
            code = process.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise process.error(f"took longer than {timeout:g} s and was stopped") from None
        finally:
            self._processes.kill(process)
        return code, process.text()

    def run(
        self,
        app_dir: str | os.PathLike[str],
        run_config: Mapping[str, Value] | str | None,
        timeout: float,
        *options: str,
    ) -> CompletedRun:
        """Submits an app, stream its log until it ends, and ask how it ended."""
        self._runs += 1
        name = f"run-{self._runs}"
        if isinstance(run_config, str):
            options += ("--run-config", run_config)
        elif run_config:
            options += ("--run-config", toml_file(self._processes.folder / f"{name}.toml", run_config))
        start = time.monotonic()
        try:
            code, log = self.flwr(
                name, "run", str(Path(app_dir).resolve()), "aegis", "--stream", *options, timeout=timeout
            )
        except DeploymentError:
            # The run itself goes on without its log stream: it would keep the nodes busy.
            if started := _started_run((self._processes.folder / f"{name}.log").read_text(encoding="utf-8")):
                self.flwr(f"{name}-stop", "stop", str(started), "aegis")
            raise
        seconds = time.monotonic() - start
        run_id = _started_run(log)
        if run_id is None:
            return CompletedRun(code, log, None, "rejected", "", seconds)
        status, details = self._status(name, run_id)
        return CompletedRun(code, log, run_id, status, details, seconds)

    def _status(self, name: str, run_id: int) -> tuple[str, str]:
        _, text = self.flwr(f"{name}-status", "list", "aegis", "--run-id", str(run_id), "--format", "json")
        try:
            found = json.loads(text[text.index("{") : text.rindex("}") + 1])["runs"][0]
            return str(found["status"]), str(found["status-details"])
        except (ValueError, KeyError, IndexError) as error:
            log = self._processes.folder / f"{name}-status.log"
            message = f"the status of run {run_id} could not be read; the answer of flwr list is in {log}"
            raise DeploymentError(message) from error


def _started_run(log: str) -> int | None:
    found = re.search(r"Successfully started run (\d+)", log)
    return int(found[1]) if found else None


def toml_file(file: Path, config: Mapping[str, Value]) -> str:
    """Writes a node or run config where Flower's ``--node-config`` and ``--run-config`` can read it."""
    check_values(config, "run_config")
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        tomli_w.dump(config, stream)
    return str(file)


def check_values(config: Mapping[str, Value], what: str) -> None:
    """Refuses what Flower does not carry."""
    for key, value in config.items():
        if not isinstance(value, str | int | float | bool):
            problem = f"is a {type(value).__name__}; Flower carries str, int, float and bool only"
            raise ConfigError(f"{what}.{key}", problem)

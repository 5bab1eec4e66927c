"""Flower's own processes on this machine: a SuperLink with its SuperNodes, or Flower's simulation engine.

:class:`Deployment` starts one ``flower-superlink`` and one ``flower-supernode`` for each :class:`NodeSpec` on
loopback, as an operator would, and submits Flower Apps to them with ``flwr run``. :func:`ray_run` submits an app to
a SuperLink that simulates its nodes with Ray. Both are for tests and for trying an app out before a real deployment;
they measure what the network, TLS and process borders do, not what a real federation's operators do.

Guarantees, tested under these names:

- *nothing outlives the deployment*: every process, and whatever those started, is gone after :meth:`Deployment.stop`,
  after an exception, and after this very process was killed;
- *nothing of the user's is touched*: ports, ``FLWR_HOME``, working directories and logs are private, no telemetry or
  update check leaves the machine, and no app dependency is installed.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import httpx
import tomli_w

from aegis_flower.errors import ConfigError, DeploymentError
from aegis_flower.simulations.flower.certs import Certificates, NodeKey, make_certificates, make_node_keys

Value: TypeAlias = str | int | float | bool
"""What Flower lets a node config or a run config hold."""

_HOST = "127.0.0.1"
_MARK = "AEGIS_DEPLOYMENT"
# How often a SuperExec asks for a task (default 1 s): the one interval of Flower 1.41 that can be set. The SuperNode's
# own, 3 s between two looks for a message, is fixed and decides how long a round trip takes.
_TASK_POLL_SECONDS = "0.25"
_CLI_SECONDS = 120.0
_PORT_TRIES = 5
_PORT_TAKEN = re.compile(r"address already in use|Failed to bind to address", re.IGNORECASE)
_GRACE_SECONDS = 4.0
_ANSI = re.compile(r"\x1b\[[0-9;]*m")

# Runs beside the deployment, in a session of its own. Its input ends when the deployment closes it or dies, however it
# dies; then it kills what is left. On Linux it finds descendants that left their group (a SuperLink's SuperExec, Ray)
# by the mark in their environment; elsewhere those watch their parent and go by themselves.
_REAPER = """
import os, signal, sys, time
mark, groups = sys.argv[1].encode(), set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
def marked():
    for pid in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc/self") else ()):
        try:
            with open(f"/proc/{pid}/environ", "rb") as stream:
                if mark in stream.read().split(b"\\0"):
                    yield int(pid)
        except OSError:
            pass
def kill(how, whom):
    try:
        how(whom, signal.SIGKILL)
    except OSError:
        pass
for group in groups:
    kill(os.killpg, group)
for _ in range(50):
    left = list(marked())
    if not left:
        break
    for pid in left:
        kill(os.kill, pid)
    time.sleep(0.1)
"""


@dataclass(frozen=True)
class NodeSpec:
    """One SuperNode.

    Attributes:
        node_config: what the node's operator tells every ClientApp on it (``Context.node_config``).
    """

    node_config: Mapping[str, Value] = field(default_factory=dict)


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


@dataclass
class _Process:
    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        return _ANSI.sub("", self.log.read_text(encoding="utf-8", errors="replace"))

    def port_was_taken(self) -> bool:
        """Whether it ended because another program listens on its port."""
        return self.popen.poll() is not None and _PORT_TAKEN.search(self.text()) is not None

    def error(self, what: str) -> DeploymentError:
        tail = "\n".join(self.text().splitlines()[-15:])
        return DeploymentError(f"{self.name} {what}; its log is {self.log}, ending in:\n{tail}")


class _Processes:
    """Starts processes, each in a group of its own with its log in ``folder``, and ends them for certain."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[_Process] = []
        self._mark = secrets.token_hex(16)
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _REAPER, f"{_MARK}={self._mark}"],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        atexit.register(self.stop)

    def start(self, name: str, command: Sequence[str], extra: Mapping[str, str] | None = None) -> _Process:
        """Start ``command`` with a working directory and a FLWR_HOME that no other process name shares."""
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
            "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), _HOST, "localhost"])),
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
        process = _Process(name, popen, log)
        self._running.append(process)
        self._tell_reaper("+", process)
        return process

    def wait_until(self, ready: Callable[[], bool], process: _Process, deadline: float) -> None:
        """Poll ``ready`` until it holds.

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
        self, start: Callable[[int], _Process], ready: Callable[[_Process], bool], deadline: float, first: _Process
    ) -> _Process:
        """Wait for ``first``; while another program took its port before it could, ``start`` it on another one.

        Between finding a port free and the process listening on it lie seconds, and anybody may take it in them.

        Raises:
            DeploymentError: as :meth:`wait_until`, or every one of ``_PORT_TRIES`` ports was taken meanwhile.
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
                process = start(_free_port())
            else:
                break
        return process

    def kill(self, process: _Process) -> None:
        """End the process and its group at once, as a crash or a power cut would."""
        if process in self._running:
            self._signal(process, signal.SIGKILL)
            process.popen.wait()
            self.forget(process)

    def forget(self, process: _Process) -> None:
        """Let go of a process that has ended and been waited for."""
        self._running.remove(process)
        self._tell_reaper("-", process)

    def stop(self) -> None:
        """End everything: politely, then by force. Does nothing the second time."""
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
    def _signal(process: _Process, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # the whole group has gone by itself
            os.killpg(process.popen.pid, number)

    def _tell_reaper(self, sign: str, process: _Process) -> None:
        if self._reaper.stdin is not None:
            self._reaper.stdin.write(f"{sign}{process.popen.pid}\n".encode())
            self._reaper.stdin.flush()


class _SuperLink:
    """A ``flower-superlink`` process, and the ``flwr`` command pointed at it."""

    def __init__(self, processes: _Processes, certificates: Certificates | None) -> None:
        self._processes = processes
        self._certificates = certificates
        self._runs = 0
        self.port = _free_port()

    def start(self, *options: str, extra: Mapping[str, str] | None = None) -> None:
        """Start the SuperLink and wait until its HTTP API answers (TLS verified)."""
        if self._certificates is None:
            security, scheme, verify = ["--insecure"], "http", ssl.create_default_context()
        else:
            files = self._certificates
            security = ["--ssl-ca-certfile", str(files.ca), "--ssl-certfile", str(files.certificate)]
            security += ["--ssl-keyfile", str(files.key)]
            scheme, verify = "https", ssl.create_default_context(cafile=str(files.ca))

        def at(port: int) -> _Process:
            self.port = port
            command = ["flower-superlink", "--host", _HOST, "--port", str(port)]
            command += ["--disable-runtime-dependency-installation", *security, *options]
            return self._processes.start("superlink", command, extra)

        def answers(process: _Process) -> bool:
            url = f"{scheme}://{_HOST}:{self.port}/health"
            try:
                healthy = httpx.get(url, verify=verify, trust_env=False, timeout=1.0).is_success
            except httpx.TransportError:
                return False
            return healthy and process.popen.poll() is None  # who has the port may answer like a SuperLink

        self._processes.listen(at, answers, time.monotonic() + _CLI_SECONDS, at(self.port))

    def _connection(self) -> str:
        connection: dict[str, str | bool] = {"address": f"{_HOST}:{self.port}"}
        if self._certificates is None:
            connection["insecure"] = True
        else:
            connection["root-certificates"] = str(self._certificates.ca)
        return tomli_w.dumps({"superlink": {"default": "aegis", "aegis": connection}})

    def flwr(self, name: str, *arguments: str, timeout: float = _CLI_SECONDS) -> tuple[int, str]:
        """Run one ``flwr`` command to its end; return its exit code and output.

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
        """Submit an app, stream its log until it ends, and ask how it ended."""
        self._runs += 1
        name = f"run-{self._runs}"
        if isinstance(run_config, str):
            options += ("--run-config", run_config)
        elif run_config:
            options += ("--run-config", _toml_file(self._processes.folder / f"{name}.toml", run_config))
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


class Deployment:
    """One SuperLink and its SuperNodes as processes of this machine; a context manager.

    ``folder`` receives a log for each process (``superlink.log``, ``node-0.log``, ``run-1.log``), each one's
    FLWR_HOME and working directory of the same name, and, where asked for, certificates and node keys.

    Args:
        folder: made when missing; a deployment needs one of its own.
        nodes: one entry for each SuperNode.
        tls: encrypt, under a local authority made for this deployment.
        node_auth: let only registered node keys in; Flower wants TLS for it.
        startup_timeout: seconds for all nodes to be online; by default 30, and 10 more for each node.

    Raises:
        ConfigError: no node, node_auth without tls, or a config value of a type that Flower does not carry.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        nodes: Sequence[NodeSpec],
        tls: bool = False,
        node_auth: bool = False,
        startup_timeout: float | None = None,
    ) -> None:
        if not nodes:
            raise ConfigError("nodes", "a deployment needs at least one NodeSpec")
        if node_auth and not tls:
            raise ConfigError("node_auth", "needs tls=True: Flower refuses node keys over an unencrypted connection")
        for index, node in enumerate(nodes):
            _check_values(node.node_config, f"nodes[{index}].node_config")
        self.folder = Path(folder).resolve()
        self.nodes = tuple(nodes)
        self.node_ids: list[int] = []
        """Flower's number of each node, in the order of ``nodes``; empty until they are online."""
        self._tls = tls
        self._node_auth = node_auth
        self._startup_timeout = 30.0 + 10.0 * len(nodes) if startup_timeout is None else startup_timeout
        self._processes: _Processes | None = None
        self._superlink: _SuperLink | None = None
        self._supernodes: list[_Process] = []

    def __enter__(self) -> Self:
        """Start everything and wait until all nodes are online."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        self.stop()

    def start(self) -> None:
        """Start the SuperLink, register node keys, start the SuperNodes, and wait until they are online.

        Raises:
            DeploymentError: something did not come up (everything has been stopped again), or a deployment has used
                the folder before.
        """
        if self._processes is not None or (self.folder / "superlink").exists():
            message = f"{self.folder} has been used by a deployment: name a new folder"
            raise DeploymentError(message)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._processes = _Processes(self.folder)
        try:
            self._start(self._processes)
        except BaseException:
            self.stop()
            raise

    def _start(self, processes: _Processes) -> None:
        certificates = make_certificates(self.folder / "certs") if self._tls else None
        keys = make_node_keys(self.folder / "keys", len(self.nodes)) if self._node_auth else None
        self._superlink = superlink = _SuperLink(processes, certificates)
        superlink.start(*(["--enable-supernode-auth"] if self._node_auth else []))
        for index, key in enumerate(keys or []):
            code, text = superlink.flwr(f"register-{index}", "supernode", "register", str(key.public), "aegis")
            if code != 0:
                log = self.folder / f"register-{index}.log"
                message = f"the key of node {index} was not registered (exit code {code}, log {log}): {text}"
                raise DeploymentError(message)
        deadline = time.monotonic() + self._startup_timeout

        def at(index: int, port: int) -> _Process:
            key = keys[index] if keys else None
            command = self._supernode_command(index, port, superlink.port, certificates, key)
            return processes.start(f"node-{index}", command)

        starts = [partial(at, index) for index in range(len(self.nodes))]
        self._supernodes = [start(_free_port()) for start in starts]
        for index, (start, process) in enumerate(zip(starts, self._supernodes, strict=True)):
            self._supernodes[index] = processes.listen(start, _is_online, deadline, process)
        self.node_ids = [_node_id(process) for process in self._supernodes]

    def _supernode_command(
        self, index: int, port: int, superlink: int, certificates: Certificates | None, key: NodeKey | None
    ) -> list[str]:
        node = self.nodes[index]
        command = ["flower-supernode", "--superlink", f"{_HOST}:{superlink}", "--host", _HOST, "--port", str(port)]
        command += ["--insecure"] if certificates is None else ["--root-certificates", str(certificates.ca)]
        if key is not None:
            command += ["--auth-supernode-private-key", str(key.private)]
        if node.node_config:
            # As a file: Flower splits the textual form at spaces and cannot carry a double quote in it.
            command += ["--node-config", _toml_file(self.folder / f"node-{index}.toml", node.node_config)]
        return command

    def run(
        self,
        app_dir: str | os.PathLike[str],
        run_config: Mapping[str, Value] | str | None = None,
        timeout: float = 300.0,
    ) -> CompletedRun:
        """Submit the Flower App in ``app_dir`` with ``flwr run --stream`` and wait for its end.

        A failing app is no exception here: look at :attr:`CompletedRun.ok`. May be called from several threads one
        after another, and from another thread than :meth:`kill`.

        Args:
            app_dir: folder of the app's ``pyproject.toml``.
            run_config: overrides of the app's ``[tool.flwr.app.config]``; a string is handed to ``--run-config``
                as it is (it cannot hold a double quote within a value; a mapping can).
            timeout: seconds for the whole run.

        Raises:
            ConfigError: a run config value is of a type that Flower does not carry.
            DeploymentError: the run did not end in time (it has been stopped then), or there is no deployment.
        """
        if self._superlink is None:
            message = "the deployment is not running: use it as a context manager, or call start() first"
            raise DeploymentError(message)
        return self._superlink.run(app_dir, run_config, timeout)

    def kill(self, node_index: int) -> None:
        """End a SuperNode and the ClientApp in it by SIGKILL: it says goodbye to nobody."""
        if self._processes is not None:
            self._processes.kill(self._supernodes[node_index])

    def stop(self) -> None:
        """End all processes of the deployment; may be called again, and before :meth:`start`."""
        self._superlink = None
        if self._processes is not None:
            self._processes.stop()


def ray_run(
    app_dir: str | os.PathLike[str],
    run_config: Mapping[str, Value] | str | None,
    nodes: int,
    timeout: float = 600.0,
    *,
    cpus_per_node: int = 1,
) -> CompletedRun:
    """Run a Flower App with ``nodes`` simulated SuperNodes on Flower's own simulation engine (Ray).

    The SuperLink is started as ``flwr run`` starts its local daemon (``flower-superlink --simulation``), but on a
    private port with a private FLWR_HOME, and ends with the run. Each node's ``node_config`` is Flower's:
    ``partition-id`` and ``num-partitions``.

    Args:
        app_dir: folder of the app's ``pyproject.toml``.
        run_config: as in :meth:`Deployment.run`.
        nodes: number of simulated SuperNodes.
        timeout: seconds for the whole run.
        cpus_per_node: cores that Ray sets aside for each ClientApp; cores / this many run at a time.

    Raises:
        ConfigError: no node, or a run config value of a type that Flower does not carry.
        DeploymentError: the run did not end in time, or the engine did not start.
    """
    if nodes < 1:
        raise ConfigError("nodes", f"a simulation needs at least one node, not {nodes}")
    # A short path of its own: Ray's sockets lie under it, and a socket's path ends at 107 bytes.
    with tempfile.TemporaryDirectory(prefix="aegis-", ignore_cleanup_errors=True) as folder:
        processes = _Processes(Path(folder))
        try:
            superlink = _SuperLink(processes, None)
            superlink.start("--simulation", extra={"RAY_TMPDIR": folder})
            size = f"num-supernodes={nodes} client-resources-num-cpus={cpus_per_node}"
            return superlink.run(app_dir, run_config, timeout, "--federation-config", size)
        finally:
            processes.stop()


def _free_port() -> int:
    """A port that nobody listens on now, below those that the system gives to connections and to bind(0)."""
    for _ in range(100):
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((_HOST, port))
            return port
    message = f"none of 100 ports of {_HOST} between 10000 and 31999 was free"
    raise DeploymentError(message)


def _is_online(process: _Process) -> bool:
    return "SuperNode ID: " in process.text()


def _node_id(process: _Process) -> int:
    """Read the number that a SuperNode logs once the SuperLink has activated it."""
    return int(process.text().partition("SuperNode ID: ")[2].split(maxsplit=1)[0])


def _started_run(log: str) -> int | None:
    found = re.search(r"Successfully started run (\d+)", log)
    return int(found[1]) if found else None


def _toml_file(file: Path, config: Mapping[str, Value]) -> str:
    """Write a node or run config where Flower's ``--node-config`` and ``--run-config`` can read it."""
    _check_values(config, "run_config")
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        tomli_w.dump(config, stream)
    return str(file)


def _check_values(config: Mapping[str, Value], what: str) -> None:
    for key, value in config.items():
        if not isinstance(value, str | int | float | bool):
            problem = f"is a {type(value).__name__}; Flower carries str, int, float and bool only"
            raise ConfigError(f"{what}.{key}", problem)

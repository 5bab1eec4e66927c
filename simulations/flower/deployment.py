"""Flower's own processes on this machine: a SuperLink with its SuperNodes.

`Deployment` starts one ``flower-superlink`` and one ``flower-supernode`` for each `NodeSpec` on
loopback, as an operator would, and submits Flower Apps to them with ``flwr run``. It is for tests and for trying an app out
before a real deployment; it measures what the network, TLS and process borders do, not what a real federation's operators do.

Guarantees, tested under these names:

- *nothing outlives the deployment*: every process, and whatever those started, is gone after `Deployment.stop`,
  after an exception, and after this very process was killed;
- *nothing of the user's is touched*: ports, ``FLWR_HOME``, working directories and logs are private, no telemetry or
  update check leaves the machine, and no app dependency is installed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from aegis_flower.errors import ConfigError, DeploymentError
from aegis_flower.simulations.flower.certs import Certificates, NodeKey, make_certificates, make_node_keys
from aegis_flower.simulations.flower.processes import HOST, Process, Processes, free_port
from aegis_flower.simulations.flower.ray import ray_run
from aegis_flower.simulations.flower.superlink import CompletedRun, SuperLink, Value, check_values, toml_file

_AGAIN = 3.0  # seconds before a SuperNode that was not let in is tried anew

__all__ = ["CompletedRun", "Deployment", "NodeSpec", "ray_run"]


@dataclass(frozen=True)
class NodeSpec:
    """One SuperNode.

    Attributes:
        node_config: what the node's operator tells every ClientApp on it (``Context.node_config``).
        isolated: it starts no app itself (``--isolation process``): another process claims its tasks at
            `Deployment.addresses`, as ``aegis node run`` does.
        secret: file that whoever claims must know (``--superexec-auth-secret-file``).
    """

    node_config: Mapping[str, Value] = field(default_factory=dict)
    isolated: bool = False
    secret: Path | None = None


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
            check_values(node.node_config, f"nodes[{index}].node_config")
        self.folder = Path(folder).resolve()
        self.nodes = tuple(nodes)
        self.node_ids: list[int] = []
        """Flower's number of each node, in the order of ``nodes``; empty until they are online."""
        self.addresses: list[str] = [""] * len(self.nodes)
        """Where each node's Runtime API listens, once it is online."""
        self._tls = tls
        self._node_auth = node_auth
        self._startup_timeout = 30.0 + 10.0 * len(nodes) if startup_timeout is None else startup_timeout
        self._processes: Processes | None = None
        self._superlink: SuperLink | None = None
        self._supernodes: list[Process] = []
        self._starts: list[Callable[[int], Process]] = []

    def __enter__(self) -> Self:
        """Starts everything and wait until all nodes are online."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops everything."""
        self.stop()

    def start(self) -> None:
        """Starts the SuperLink, register node keys, start the SuperNodes, and wait until they are online.

        Raises:
            DeploymentError: something did not come up (everything has been stopped again), or a deployment has used
                the folder before.
        """
        if self._processes is not None or (self.folder / "superlink").exists():
            message = f"{self.folder} has been used by a deployment: name a new folder"
            raise DeploymentError(message)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._processes = Processes(self.folder)
        try:
            self._start(self._processes)
        except BaseException:
            self.stop()
            raise

    def _start(self, processes: Processes) -> None:
        certificates = make_certificates(self.folder / "certs") if self._tls else None
        keys = make_node_keys(self.folder / "keys", len(self.nodes)) if self._node_auth else None
        self._superlink = superlink = SuperLink(processes, certificates)
        superlink.start(*(["--enable-supernode-auth"] if self._node_auth else []))
        for index, key in enumerate(keys or []):
            code, text = superlink.flwr(f"register-{index}", "supernode", "register", str(key.public), "aegis")
            if code != 0:
                log = self.folder / f"register-{index}.log"
                message = f"the key of node {index} was not registered (exit code {code}, log {log}): {text}"
                raise DeploymentError(message)
        deadline = time.monotonic() + self._startup_timeout

        def at(index: int, port: int) -> Process:
            key = keys[index] if keys else None
            self.addresses[index] = f"{HOST}:{port}"
            command = self._supernode_command(index, port, superlink.port, certificates, key)
            return processes.start(f"node-{index}", command)

        starts = self._starts = [partial(at, index) for index in range(len(self.nodes))]
        self._supernodes = [start(free_port()) for start in starts]
        for index, (start, process) in enumerate(zip(starts, self._supernodes, strict=True)):
            self._supernodes[index] = processes.listen(start, _is_online, deadline, process)
        self.node_ids = [_node_id(process) for process in self._supernodes]

    def _supernode_command(
        self, index: int, port: int, superlink: int, certificates: Certificates | None, key: NodeKey | None
    ) -> list[str]:
        node = self.nodes[index]
        command = ["flower-supernode", "--superlink", f"{HOST}:{superlink}", "--host", HOST, "--port", str(port)]
        command += ["--insecure"] if certificates is None else ["--root-certificates", str(certificates.ca)]
        if key is not None:
            command += ["--auth-supernode-private-key", str(key.private)]
        if node.isolated:
            command += ["--isolation", "process"]
        if node.secret is not None:
            command += ["--superexec-auth-secret-file", str(node.secret)]
        if node.node_config:
            # As a file: Flower splits the textual form at spaces and cannot carry a double quote in it.
            command += ["--node-config", toml_file(self.folder / f"node-{index}.toml", node.node_config)]
        return command

    def run(
        self,
        app_dir: str | os.PathLike[str],
        run_config: Mapping[str, Value] | str | None = None,
        timeout: float = 300.0,
    ) -> CompletedRun:
        """Submits the Flower App in ``app_dir`` with ``flwr run --stream`` and wait for its end.

        A failing app is no exception here: look at `CompletedRun.ok`. May be called from several threads one
        after another, and from another thread than `kill`.

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
        """Ends a SuperNode and the ClientApp in it by SIGKILL: it says goodbye to nobody."""
        if self._processes is not None:
            self._processes.kill(self._supernodes[node_index])

    def start_again(self, node_index: int) -> None:
        """Starts a killed SuperNode once more, with the same key and, if nobody took it, at the same port. A SuperLink lets a key
        in again once it has noticed that the node is gone: until then it is tried anew, as a supervisor would.

        Raises:
            DeploymentError: it is not online in time.
        """
        if self._processes is None:
            raise DeploymentError("the deployment is not running: use it as a context manager, or call start() first")
        start, process = self._starts[node_index], self._supernodes[node_index]
        deadline = time.monotonic() + self._startup_timeout
        while True:
            process.log.rename(process.log.with_suffix(f".{process.popen.pid}.log"))
            process = start(int(self.addresses[node_index].rpartition(":")[2]))
            try:
                process = self._processes.listen(start, _is_online, deadline, process)
                break
            except DeploymentError:
                self._processes.kill(process)
                if time.monotonic() > deadline:
                    raise
                time.sleep(_AGAIN)
        self._supernodes[node_index] = process
        self.node_ids[node_index] = _node_id(process)

    def stop(self) -> None:
        """Ends all processes of the deployment; may be called again, and before `start`."""
        self._superlink = None
        if self._processes is not None:
            self._processes.stop()


def _is_online(process: Process) -> bool:
    return "SuperNode ID: " in process.text()


def _node_id(process: Process) -> int:
    """Reads the number that a SuperNode logs once the SuperLink has activated it."""
    return int(process.text().partition("SuperNode ID: ")[2].split(maxsplit=1)[0])

"""Flower's own simulation engine (Ray) on this machine, for one run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from aegis_flower.errors import ConfigError
from aegis_flower.simulations.flower.processes import Processes
from aegis_flower.simulations.flower.superlink import CompletedRun, SuperLink, Value


def ray_run(
    app_dir: str | os.PathLike[str],
    run_config: Mapping[str, Value] | str | None,
    nodes: int,
    timeout: float = 600.0,
    *,
    cpus_per_node: int = 1,
) -> CompletedRun:
    """Runs a Flower App with ``nodes`` simulated SuperNodes on Flower's own simulation engine (Ray).

    The SuperLink is started as ``flwr run`` starts its local daemon (``flower-superlink --simulation``), but on a
    private port with a private FLWR_HOME, and ends with the run. Each node's ``node_config`` is Flower's:
    ``partition-id`` and ``num-partitions``.

    Args:
        app_dir: folder of the app's ``pyproject.toml``.
        run_config: as in `aegis_flower.simulations.flower.deployment.Deployment.run`.
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
        processes = Processes(Path(folder))
        try:
            superlink = SuperLink(processes, None)
            superlink.start("--simulation", extra={"RAY_TMPDIR": folder})
            size = f"num-supernodes={nodes} client-resources-num-cpus={cpus_per_node}"
            return superlink.run(app_dir, run_config, timeout, "--federation-config", size)
        finally:
            processes.stop()

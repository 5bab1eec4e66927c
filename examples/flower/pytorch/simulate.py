"""The example on one machine: fills three vaults with digits, and runs both apps in this process. Run: `python simulate.py`."""

import tempfile
import tomllib
from pathlib import Path

from pytorchexample import client_app, server_app

from aegis_flower import run_inprocess
from aegis_flower.configs import from_run_config
from aegis_flower.simulations.provision import provision

if __name__ == "__main__":
    said = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text("utf-8"))
    run_config = said["tool"]["flwr"]["app"]["config"]
    with tempfile.TemporaryDirectory() as vaults:
        nodes = provision(
            from_run_config(run_config)[0], Path(vaults)
        )  # what each data steward does, on a real federation
        run_inprocess(server_app.app, client_app.app, [node.node_config for node in nodes], run_config=run_config)

"""A hospital that notes its plain update beside its own vault before it is masked: the test's ground truth.

Where a test put a file into ``hold``, the answer to that message is ready and does not leave until the file is gone: the
time at which the test ends the node, or another one.
"""

import time
from pathlib import Path

import numpy as np
from flwr.clientapp import ClientApp

from aegis_flower import VaultClient, aegis_client_app

HOLD_SECONDS = 300  # a test that died holds nobody for ever


class RecordingClient(VaultClient):
    def train_round(self, parameters, round_, noise_multiplier):
        trained = super().train_round(parameters, round_, noise_multiplier)
        folder = self.node.config.vault.parent / "updates"
        folder.mkdir(exist_ok=True)
        np.savez(
            folder / f"{self.node.config.name}.round-{round_}.npz",
            update=trained.update,
            node=self.context.node_id,
            rows=trained.permit.rows,
        )
        return trained


hospital = aegis_client_app(RecordingClient)


class HeldApp(ClientApp):
    """The hospital's app; the place between its answer and Flower is the test's."""

    def __call__(self, message, context):
        reply = hospital(message, context)
        step = message.metadata.message_type.rpartition("_")[2]
        record = message.content.config_records.get("aegis", {"round": 0})
        root = Path(str(context.node_config["aegis-vault"])).parent
        name = f"{context.node_config['aegis-name']}.{step}-{record['round']}"
        hold = root / "hold" / name
        if hold.exists():
            (root / "ready").mkdir(exist_ok=True)
            (root / "ready" / name).touch()
            until = time.monotonic() + HOLD_SECONDS
            while hold.exists() and time.monotonic() < until:
                time.sleep(0.1)
        return reply


app = HeldApp()

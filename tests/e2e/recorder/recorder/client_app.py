"""A hospital that notes its plain update beside its own vault before it is masked: the test's ground truth."""

import numpy as np

from aegis_flower import VaultClient, aegis_client_app


class RecordingClient(VaultClient):
    def train_round(self, parameters, round_, noise_multiplier):
        trained = super().train_round(parameters, round_, noise_multiplier)
        folder = self.node.config.vault.parent / "updates"
        folder.mkdir(exist_ok=True)
        np.savez(
            folder / f"{self.node.config.name}.round-{round_}.npz", update=trained.update, node=self.context.node_id
        )
        return trained


app = aegis_client_app(RecordingClient)

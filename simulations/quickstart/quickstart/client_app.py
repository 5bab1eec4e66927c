"""The app every hospital runs."""

from aegis_flower import VaultClient, aegis_client_app


class HospitalClient(VaultClient):
    """Trains the configured model on the hospital's vault.

    Override `model`, `loss` or `optimizer` to bring your own; build the same model in the server app.
    """


app = aegis_client_app(HospitalClient)

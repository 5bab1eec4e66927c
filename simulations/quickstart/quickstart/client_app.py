"""The app every hospital runs."""

from aegis_flower import VaultClient, aegis_client_app
from quickstart.model import model


class HospitalClient(VaultClient):
    """Trains the app's model (``model.py``) on the hospital's vault.

    Override `loss` or `optimizer` to bring your own.
    """


app = aegis_client_app(HospitalClient, model=model)

"""The app the server runs."""

from aegis_flower import aegis_server_app
from quickstart.model import model

app = aegis_server_app(model=model)

"""The app the server runs."""

from aegis_flower import aegis_server_app

app = aegis_server_app()

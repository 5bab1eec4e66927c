"""jaxexample: the app of the nodes."""

from aegis_flower import aegis_client_app
from jaxexample.task import create_model

app = aegis_client_app(model=create_model)

"""tfexample: the app of the nodes."""

from aegis_flower import aegis_client_app
from tfexample.task import load_model

app = aegis_client_app(model=load_model)

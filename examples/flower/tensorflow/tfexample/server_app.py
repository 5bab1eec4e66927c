"""tfexample: the app of the server. It starts from the model, runs the rounds, and leaves report, card and last model."""

from aegis_flower import aegis_server_app
from tfexample.task import load_model

app = aegis_server_app(model=load_model)

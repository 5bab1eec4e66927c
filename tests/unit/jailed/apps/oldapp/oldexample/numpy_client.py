"""oldexample: a ClientApp made of a client_fn, as Flower had them before the Message API."""

import numpy as np
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp


class FlowerClient(NumPyClient):
    def __init__(self, data_path, epochs):
        data = np.load(data_path)
        self.x, self.y, self.epochs = data["features"], data["malignant"], epochs

    def fit(self, parameters, config):
        w, b = (np.array(a, np.float64) for a in parameters)
        for _ in range(self.epochs):
            p = 1 / (1 + np.exp(-np.clip(self.x @ w[0] + b[0], -30, 30)))
            w -= config["lr"] * ((p - self.y) @ self.x)[None] / len(self.y)
            b -= config["lr"] * (p - self.y).mean()
        return [w.astype(np.float32), b.astype(np.float32)], len(self.x), {}


def client_fn(context):
    return FlowerClient(context.node_config["data-path"], context.run_config["local-epochs"]).to_client()


app = ClientApp(client_fn=client_fn)

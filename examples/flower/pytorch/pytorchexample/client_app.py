"""pytorchexample: the app of the nodes."""

import torch

from aegis_flower import aegis_client_app
from pytorchexample.task import Net


def optimizer(parameters, config):
    """Made anew in each round; the gradients that it sees are clipped and noised."""
    return torch.optim.SGD(parameters, lr=config["lr"], momentum=0.9)


app = aegis_client_app(model=Net, optimizer=optimizer)

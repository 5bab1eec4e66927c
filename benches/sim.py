"""The ``inprocess`` runtime beside a bare torch loop doing the same training, in one run.

The loop runs with each number of torch's threads, and the fastest counts: on a busy machine its own threads wait for each other.

100 clients x 3 rounds, logistic regression 784 -> 10, 50 examples each, batches of 10, no DP, no masking. Prints the
median ratio; `make bench-sim`.
"""

import logging
import os
import statistics
import time

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from flwr.client import NumPyClient
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from torch import nn

from aegis_flower import aegis_client_app, run_inprocess
from aegis_flower.client import load, weights

CLIENTS, ROUNDS, ROWS, BATCH, REPEATS = 100, 3, 50, 10, 7

torch.manual_seed(0)
logging.getLogger("flwr").setLevel(logging.ERROR)
DATA = [(torch.randn(ROWS, 784), torch.randint(0, 10, (ROWS,))) for _ in range(CLIENTS)]
START = weights(nn.Linear(784, 10))


def train(model, x, y):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for at in range(0, ROWS, BATCH):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[at : at + BATCH]), y[at : at + BATCH]).backward()
        optimizer.step()


def bare():
    current = START
    for _ in range(ROUNDS):
        total = [np.zeros_like(a) for a in current]
        for x, y in DATA:
            model = nn.Linear(784, 10)
            load(model, current)
            train(model, x, y)
            for t, a in zip(total, weights(model), strict=True):
                t += a
        current = [t / CLIENTS for t in total]
    return current


class Client(NumPyClient):
    def __init__(self, context):
        self.x, self.y = DATA[int(context.node_config["partition-id"])]

    def fit(self, parameters, config):
        model = nn.Linear(784, 10)
        load(model, parameters)
        train(model, self.x, self.y)
        return weights(model), ROWS, {}


def federated(workers=0):
    result = {}
    server = ServerApp()

    @server.main()
    def main(grid, context):
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=CLIENTS, min_available_nodes=CLIENTS)
        start = ArrayRecord({str(i): Array(a) for i, a in enumerate(START)})
        result["arrays"] = strategy.start(grid, start, num_rounds=ROUNDS, timeout=60).arrays

    nodes = [{"partition-id": i} for i in range(CLIENTS)]
    run_inprocess(server, aegis_client_app(lambda context: Client(context)), nodes, workers=workers)
    return result["arrays"].to_numpy_ndarrays()


def timed(work):
    start = time.perf_counter()
    out = work()
    return time.perf_counter() - start, out


if __name__ == "__main__":
    bare(), federated()  # imports, thread pools, allocator
    loops, default, single = [], [], []
    threads = range(1, (os.cpu_count() or 1) + 1)
    for _ in range(REPEATS):
        tried = []
        for count in threads:
            torch.set_num_threads(count)
            tried.append(timed(bare))
        loop, expected = min(tried, key=lambda one: one[0])
        for seconds, workers in ((default, 0), (single, 1)):
            run, got = timed(lambda w=workers: federated(w))
            seconds.append((run, run / loop))
            for a, b in zip(expected, got, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-5)  # the same training, or the ratio means nothing
        loops.append(loop)
    print(f"{CLIENTS} clients x {ROUNDS} rounds, logistic regression 784 -> 10, {ROWS} examples, batches of {BATCH}")
    print(f"bare torch loop, best threads {statistics.median(loops):.3f} s")
    for name, taken in (("workers: auto (a core each)", default), ("workers: 1", single)):
        seconds, ratios = zip(*taken, strict=True)
        spread = f"min {min(ratios):.2f}, max {max(ratios):.2f}"
        print(f"{name:<29} {statistics.median(seconds):.3f} s  {statistics.median(ratios):.2f} x ({spread}; goal 2)")

"""The jail's cost: start of a task, and training in it beside training outside, in turn in one run.

    python benches/jail.py [--repeats 15]

Both sides train the same torch model on one thread, since that is what a task of a busy node has.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from aegis_flower.jail import Jail, Work

APP = """
import time


def nothing(parameters, rows, settings):
    return list(parameters.values())


def train(parameters, rows, settings):
    import torch

    torch.set_num_threads(1)
    model = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.Tanh(), torch.nn.Linear(128, 10))
    with torch.no_grad():
        for p, start in zip(model.parameters(), parameters.values(), strict=True):
            p.copy_(torch.from_numpy(start))
    x, y = torch.from_numpy(rows["x"].copy()), torch.from_numpy(rows["y"].copy())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    since = time.perf_counter()
    for at in range(0, len(x), 64):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[at : at + 64]), y[at : at + 64]).backward()
        optimizer.step()
    print(time.perf_counter() - since)
    return [p.detach().numpy() for p in model.parameters()]
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="tasks of each kind")
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(0)
    shapes = {"w": (128, 784), "b": (128,), "v": (10, 128), "c": (10,)}
    start = {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    rows = {"x": rng.normal(size=(6000, 784)).astype(np.float32), "y": rng.integers(0, 10, 6000)}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "app.py").write_text(APP)
        sys.path.insert(0, folder)
        import app
        import torch  # noqa: F401 - outside has it loaded, too

        small = {"w": np.zeros(1, np.float32)}
        with Jail(folder, preload=["torch"]) as jail:
            empty, whole, inside, outside = [], [], [], []
            for _ in range(repeats):
                since = time.perf_counter()
                jail.run(Work("app:nothing", small))
                empty.append(time.perf_counter() - since)
                since = time.perf_counter()
                result = jail.run(Work("app:train", start, rows))
                whole.append(time.perf_counter() - since)
                inside.append(float(result.log.splitlines()[-1]))
                outside.append(trained(app, start, rows))
    print(f"a task that computes nothing, torch loaded   {1000 * statistics.median(empty):6.1f} ms   (goal: 25)")
    print(f"a task of training, all of it                {1000 * statistics.median(whole):6.1f} ms")
    ratio = statistics.median(o / i for o, i in zip(outside, inside, strict=True))
    print(f"training outside / in the jail               {ratio:6.3f}      (goal: 0.97; {repeats} pairs in turn)")


def trained(app, start, rows):
    import contextlib
    import io

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        app.train(start, rows, {})
    return float(said.getvalue().splitlines()[-1])


if __name__ == "__main__":
    main()

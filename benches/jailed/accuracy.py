"""Apps in jails on two real tables: accuracy with DP beside the same without, for torch and scikit-learn, in `any` and `blocks`.

    python benches/jailed/accuracy.py [--rounds 5] [--epsilon 8] [--seconds 2]

One node has all rows of a table, one row a person. The tasks run in a real jail. Clip and noise are those of the engine's
mechanism, drawn by numpy, as only accuracy is measured here. ε is per node in `any`, per person in `blocks`. Without DP: the
same tasks, without clip and noise.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.preprocessing import scale

from aegis_flower.accountant import calibrate
from aegis_flower.jail import Jail, Limits, Work
from aegis_flower.jailed import suggested_blocks

APP = """
import numpy as np


def sklearn(parameters, rows, settings):
    from sklearn.linear_model import SGDClassifier

    classes = np.arange(settings["classes"])
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=settings["rate"], alpha=0.0, random_state=0)
    x = rows["x"].astype(np.float64)
    model.partial_fit(x[:1], rows["y"][:1], classes=classes)
    w, b = (np.array(p, np.float64) for p in parameters.values())
    model.coef_, model.intercept_ = (w, b) if len(classes) > 2 else (w[1:], b[1:])
    for _ in range(settings["epochs"]):
        model.partial_fit(x, rows["y"])
    if len(classes) > 2:
        return [model.coef_, model.intercept_]
    return [np.concatenate([w[:1], model.coef_]), np.concatenate([b[:1], model.intercept_])]


def torch(parameters, rows, settings):
    import torch

    torch.set_num_threads(1)
    w, b = (torch.tensor(p, requires_grad=True) for p in parameters.values())
    x, y = torch.tensor(rows["x"]), torch.tensor(rows["y"])
    optimizer = torch.optim.SGD([w, b], settings["rate"] * 10)
    for _ in range(settings["epochs"] * 4):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(x @ w.T + b, y).backward()
        optimizer.step()
    return [w.detach().numpy(), b.detach().numpy()]
"""


def tables():
    cancer, digits = load_breast_cancer(return_X_y=True), load_digits(return_X_y=True)
    for name, (x, y) in (("breast_cancer", cancer), ("digits", digits)):
        order = np.random.default_rng(0).permutation(len(y))
        x = np.nan_to_num(scale(x))[order].astype(np.float32) / np.float32(np.sqrt(x.shape[1]))
        y, split = y[order].astype(np.int64), len(y) // 5
        yield name, (x[split:], y[split:]), (x[:split], y[:split])


def trained(jail, entry, train, clip, sigma, blocks, rounds, seconds):
    """Weights after some rounds, as `aegis_flower.jailed` does them; σ None: without clip and noise."""
    rng = np.random.default_rng(1)
    x, y = train
    classes = int(y.max()) + 1
    model = [np.zeros((classes, x.shape[1]), np.float32), np.zeros(classes, np.float32)]
    places = np.array_split(rng.permutation(len(y)), blocks)
    took = []
    for _ in range(rounds):
        total = [np.zeros(a.shape) for a in model]
        for at in places:
            since = time.perf_counter()
            settings = {"classes": classes, "rate": 0.05, "epochs": 3}
            names = dict(zip(("w", "b"), model, strict=True))
            result = jail.run(Work(f"app:{entry}", names, {"x": x[at], "y": y[at]}, settings), Limits(seconds=seconds))
            took.append(time.perf_counter() - since)
            if result.update is None:
                raise SystemExit(f"a task failed, so this measures nothing:\n{result.log}")
            w = result.update[: model[0].size].reshape(model[0].shape) - model[0]
            b = result.update[model[0].size :] - model[1]
            norm = float(np.sqrt((w**2).sum() + (b**2).sum()))
            share = 1.0 if sigma is None else min(1.0, clip / max(norm, 1e-12))
            total = [t + share * u for t, u in zip(total, (w, b), strict=True)]
        noise = 0.0 if sigma is None else sigma * 2 * clip
        model = [
            (a + (t + rng.normal(size=t.shape) * noise) / blocks).astype(np.float32)
            for a, t in zip(model, total, strict=True)
        ]
    return model, float(np.median(took))


def accuracy(model, test):
    return float(((test[0] @ model[0].T + model[1]).argmax(1) == test[1]).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--seconds", type=float, default=20.0, help="that a task may take")
    asked = parser.parse_args()
    sigma = calibrate(asked.epsilon, 1e-5, 1.0, asked.rounds)
    print(f"ε = {asked.epsilon:g} at δ = 1e-5 over {asked.rounds} rounds: σ = {sigma:.2f}")
    print("| table | people | app | mode | blocks | clip | without DP | with DP | a task, median |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "app.py").write_text(APP)
        preload = ["numpy", "torch", "torch._dynamo", "sklearn.linear_model"]
        with Jail(folder, preload=preload) as jail:
            for name, train, test in tables():
                for entry in ("torch", "sklearn"):
                    for mode, blocks in (("any", 1), ("blocks", suggested_blocks(len(train[1])))):
                        clip = 1.0
                        plain, _ = trained(jail, entry, train, clip, None, blocks, asked.rounds, asked.seconds)
                        noised, took = trained(jail, entry, train, clip, sigma, blocks, asked.rounds, asked.seconds)
                        print(
                            f"| {name} | {len(train[1])} | {entry} | {mode} | {blocks} | {clip:g} | "
                            f"{accuracy(plain, test):.3f} | {accuracy(noised, test):.3f} | {1000 * took:.0f} ms |",
                            flush=True,
                        )


if __name__ == "__main__":
    main()

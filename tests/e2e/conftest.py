"""What the end-to-end tests share: runs in this process, real deployments, and the `aegis` command as a process of its own."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from aegis_engine import clip_l2, encode_update
from aegis_flower import VaultClient, aegis_client_app, compose, run_experiment
from aegis_flower import data as datasets
from aegis_flower.gate import METRIC_MAX, METRICS
from aegis_flower.server import initial_arrays
from aegis_flower.simulations.flower.deployment import Deployment, NodeSpec
from aegis_flower.simulations.provision import provision

RECORDER = Path(__file__).parent / "recorder"


@dataclass
class Seen:
    """Every row that a model was shown, by node and by whether it was training."""

    train: dict = field(default_factory=lambda: defaultdict(set))
    evaluate: dict = field(default_factory=lambda: defaultdict(set))

    @property
    def nothing(self):
        return not any(self.train.values()) and not any(self.evaluate.values())


def watched_app(cfg, seen):
    """The experiment's ClientApp with a forward hook on the model that notes each row of the data that it is given.

    The made-up rows that a node tries a model on are no data.
    """
    lock = threading.Lock()
    source, _ = datasets.load(cfg.data)
    features = np.concatenate([source.columns[c] for c in source.spec.columns], axis=1).astype(np.float32)
    data = {row.tobytes() for row in features}

    class WatchedClient(VaultClient):
        def model(self):
            model = super().model()

            def note(module, inputs):
                rows = {row.tobytes() for row in inputs[0].detach().cpu().numpy().astype(np.float32)} & data
                with lock:
                    (seen.train if module.training else seen.evaluate)[self.node.config.name] |= rows

            model.register_forward_pre_hook(note)
            return model

    return aegis_client_app(WatchedClient, config=cfg)


@pytest.fixture
def run(tmp_path):
    """Runs the quickstart in this process with overrides; returns report, folder, and what the models saw."""

    def start(*overrides, experiment="quickstart", name="run", **options):
        cfg = compose(experiment, ["tracking.html=false", "strategy.rounds=2", *overrides])
        seen = Seen()
        report = run_experiment(cfg, tmp_path / name, client_app=watched_app(cfg, seen), **options)
        return report, tmp_path / name, seen

    return start


@dataclass(frozen=True)
class Noted:
    """What a node noted of its training of one round: the update, clipped as the engine clips, and the rows."""

    update: np.ndarray
    rows: int


class Recorded:
    """A deployment of the `recorder` app: nodes that note their plain updates, and stop where the test wants to end one.

    Attributes:
        cfg: the experiment.
        rounds: after the run, what the strategy says of its rounds (`RoundRecord`s as dictionaries).
        trips: after the run, each batch of messages that left the server: round, task, step, number of messages.
        report: after the run, the server's report.
        node_ids: Flower's numbers of the nodes, in order.
    """

    def __init__(self, folder, overrides):
        self._folder, self._overrides = folder, overrides
        self.cfg = compose("quickstart", overrides)
        self._nodes = provision(self.cfg, folder / "vaults")
        self.rounds, self.trips, self.report, self.node_ids = [], [], {}, []

    def _held(self, node, step):
        return self._folder / "vaults" / "hold" / f"{self._nodes[node].name}.{step}"

    def hold(self, node, step):
        """Lets a node's answer to a step (``masked-2``: of round 2) wait until it is let go."""
        self._held(node, step).parent.mkdir(exist_ok=True)
        self._held(node, step).touch()

    def let_go(self, node, step):
        self._held(node, step).unlink()

    def is_ready(self, node, step):
        """Whether the answer that waits is made."""
        return (self._folder / "vaults" / "ready" / self._held(node, step).name).exists()

    def has_arrived(self, node, step):
        """Whether the server has a node's answer."""
        return (self._folder / "out" / "received" / f"{step}.{self.node_ids[node]}").exists()

    def noted(self, round_):
        """Who trained in a round and came to what, by Flower's number of the node."""
        found = {}
        for path in (self._folder / "vaults" / "updates").glob(f"*.round-{round_}.npz"):
            with np.load(path) as saved:
                update = saved["update"].copy()
                clip_l2(update, self.cfg.strategy.max_norm)
                found[int(saved["node"])] = Noted(update, int(saved["rows"]))
        return found

    def run(self, script, timeout):
        """Starts everything, runs the app with `script(deployment, wait)` beside it, and stops everything.

        `wait(condition)` is for the script: it returns when the condition holds, and raises when it did not within `timeout`.
        """
        failures = []
        until = time.monotonic() + timeout

        def wait(condition):
            while not condition():
                if time.monotonic() > until:
                    pytest.fail("what the test's script waits for did not happen")
                time.sleep(0.1)

        def act():
            try:
                script(deployment, wait)
            except BaseException as error:  # noqa: BLE001 - told below, by the thread pytest listens to
                failures.append(error)

        run_config = {
            "aegis-experiment": "quickstart",
            "aegis-overrides": " ".join(self._overrides),
            "aegis-output": str(self._folder / "out"),
        }
        nodes = [NodeSpec(n.node_config) for n in self._nodes]
        with Deployment(self._folder / "deployment", nodes, startup_timeout=180) as deployment:
            self.node_ids = deployment.node_ids
            thread = threading.Thread(target=act, daemon=True)
            thread.start()
            done = deployment.run(RECORDER, run_config, timeout=timeout)
            thread.join(timeout=5)
        assert done.ok, done.log[-3000:]
        assert not failures, failures
        assert not thread.is_alive(), "the script has not come to its end"
        self.report = json.loads((self._folder / "out" / "report.json").read_text())
        kept = json.loads((self._folder / "out" / "records.json").read_text())
        self.rounds, self.trips = kept["rounds"], kept["trips"]

    @property
    def model(self):
        """The final model, flat."""
        with np.load(self._folder / "out" / "model.npz") as saved:
            return np.concatenate([saved[k].ravel() for k in saved.files])

    def predicted(self):
        """The start plus the plain means of those whom each round names, twice.

        First bit for bit as the encoding rounds (the sum is exact, so nothing else may differ); then in float64 without
        any encoding, with the largest distance to it that the encoding allows: half a quantisation step for each round that
        gave a model, and one float32 rounding of the model.
        """
        start = np.concatenate([a.ravel() for a in initial_arrays(self.cfg).to_numpy_ndarrays()])
        encoding = {
            "clip": self.cfg.strategy.max_norm,
            "value_bits": self.cfg.secagg.value_bits,
            "weight_max": self.cfg.secagg.weight_max,
            "metric_max": METRIC_MAX,
            "max_clients": self.cfg.data.clients,
        }
        steps = 2 ** (self.cfg.secagg.value_bits - 1) - 1
        exact, plain, bound = start, start.astype(np.float64), np.zeros(start.size)
        for record in self.rounds:
            if record["task"] != "train" or record["failed"]:
                continue
            takers = [self.noted(record["round"])[node] for node in record["participants"]]
            weights = [n.rows if self.cfg.secagg.weighting == "rows" else 1 for n in takers]
            coded = [
                encode_update(n.update, w, [0] * len(METRICS), names=METRICS, **encoding)
                for n, w in zip(takers, weights, strict=True)
            ]
            total = np.sum(coded, axis=0)[: start.size]
            exact = (exact + total * (1.0 / (steps / encoding["clip"] * sum(weights)))).astype(np.float32)
            plain = plain + np.average([n.update.astype(np.float64) for n in takers], axis=0, weights=weights)
            bound = bound + encoding["clip"] / steps / 2 + np.spacing(np.abs(exact)) / 2
        return exact, plain, bound * (1 + 1e-6)  # what float64 itself rounds


@pytest.fixture
def recorded(tmp_path):
    """Makes a deployment of recording nodes from overrides of the quickstart."""
    return lambda *overrides: Recorded(tmp_path, list(overrides))


@pytest.fixture
def aegis(tmp_path):
    """Runs `python -m aegis ARGUMENTS` in a folder outside the repository."""

    def call(*arguments, cwd=None, key_file=None, text=None, timeout=240):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("AEGIS_", "FLWR_", "HYDRA_"))}
        environment |= {"COLUMNS": "200", "FLWR_TELEMETRY_ENABLED": "0", "NO_COLOR": "1"}
        if key_file is not None:
            environment["AEGIS_KEY_FILE"] = str(key_file)
        return subprocess.run(
            [sys.executable, "-m", "aegis", *map(str, arguments)],
            cwd=cwd or tmp_path,
            env=environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    return call

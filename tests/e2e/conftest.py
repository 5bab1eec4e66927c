"""What the end-to-end tests share: runs in this process, and the `aegis` command as a process of its own."""

import os
import subprocess
import sys
import threading
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest

from aegis_flower import VaultClient, aegis_client_app, compose, run_experiment


@dataclass
class Seen:
    """Every row that a model was shown, by node and by whether it was training."""

    train: dict = field(default_factory=lambda: defaultdict(set))
    evaluate: dict = field(default_factory=lambda: defaultdict(set))

    @property
    def nothing(self):
        return not self.train and not self.evaluate


def watched_app(cfg, seen):
    """The experiment's ClientApp with a forward hook on the model that notes each row it is given."""
    lock = threading.Lock()

    class WatchedClient(VaultClient):
        def model(self):
            model = super().model()

            def note(module, inputs):
                rows = {row.tobytes() for row in inputs[0].detach().cpu().numpy().astype(np.float32)}
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

"""The quickstart's hospitals, their vaults and logs, and the model of a run."""

import numpy as np

from aegis_engine import Vault, audit_read
from aegis_flower import (
    compose,
)
from aegis_flower.server import initial_arrays

HOSPITALS = [f"hospital-{i}" for i in range(1, 6)]


def decided(folder, node, run=None):
    records = audit_read(str(folder / "vaults" / node / "audit"))
    return [r for r in records if r["event"] == "authorize" and run in (None, r["run"])]


def opened(root, node):
    return Vault.open(str(root / node), key_file=str(root / "keys" / f"{node}.key"))


def model_of(folder):
    with np.load(folder / "model.npz") as saved:
        return [saved[k] for k in saved.files]


def is_initial(folder, *overrides):
    start = initial_arrays(compose("quickstart", list(overrides))).to_numpy_ndarrays()
    return all(np.array_equal(a, b) for a, b in zip(model_of(folder), start, strict=True))


def deterministic(steps):
    """Test noise from the config's seed, so that two runs can be compared."""
    return [
        "privacy.noise=insecure_test",
        "policy.require_dp=false",
        "privacy.noise_multiplier=1.0",
        "policy.budget_epsilon=100",
        f"privacy.steps_per_round={steps}",
    ]

"""The kinds of node that a hostile server meets: models of torch, of JAX and of one's own, under both kinds of noise."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from by_hand import SPEC, START

from aegis_flower import VaultClient
from aegis_flower.learners import Settings


class Softmax:
    """A classifier in numpy that nobody has gradients of single records of: its whole update is noised."""

    framework, modes, reads = "numpy", ("update", "off"), frozenset({"learning_rate"})

    def __init__(self) -> None:
        self._weight, self._bias = (a.copy() for a in START)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"weight": self._weight.copy(), "zero": self._bias.copy()}

    def load(self, arrays: Sequence[np.ndarray]) -> None:
        self._weight, self._bias = (np.array(a, np.float32) for a in arrays)

    def train(self, batches: Iterable[Iterable[tuple[Any, np.ndarray]]], settings: Settings) -> None:
        with np.errstate(all="ignore"):
            for batch in batches:
                for x, y in batch:
                    off = np.exp(self.outputs(x)) - np.eye(2)[y]
                    self._weight -= (settings.learning_rate * off.T @ x).astype(np.float32)
                    self._bias -= (settings.learning_rate * off.sum(0)).astype(np.float32)

    def outputs(self, x: Any) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(x @ self._weight.T + self._bias)

    def losses(self, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(np.log(np.exp(outputs).sum(1)) - outputs[np.arange(len(y)), y])


class OwnClient(VaultClient):
    def model(self) -> Softmax:
        return Softmax()


def _start(key: Any) -> dict[str, Any]:
    import jax.numpy as jnp

    return {"weight": jnp.zeros(START[0].shape), "zero": jnp.zeros(START[1].shape)}


def _linear(params: Any, x: Any) -> Any:
    return x @ params["weight"].T + params["zero"]


class JaxClient(VaultClient):
    def model(self) -> Any:
        from aegis_flower.learners import Jax

        return Jax(_start, _linear, SPEC)


@dataclass(frozen=True)
class Kind:
    """A kind of node: its app, and what its experiment and its operator ask for."""

    overrides: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    commit: bool = False
    holdout: bool = True
    client: type[VaultClient] = VaultClient


UPDATE = ("privacy.mode=update", "privacy.sample_rate=0.5")
KINDS = (
    Kind(),
    Kind(settings={"aegis-require-commit": True}, commit=True),
    # so many steps that the server's own learning rate and proximal term make the weights overflow
    Kind(overrides=("privacy.steps_per_round=12",), settings={"aegis-same-policy": True}, holdout=False),
    Kind(overrides=("privacy.noise_multiplier=1.2", "privacy.sample_rate=1.0"), commit=True),
    Kind(overrides=(*UPDATE, "privacy.steps_per_round=12")),
    Kind(overrides=UPDATE, client=OwnClient, commit=True),
    *([Kind(client=JaxClient)] if importlib.util.find_spec("jax") else []),
)

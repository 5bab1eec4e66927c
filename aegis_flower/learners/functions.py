"""JAX: a model as two pure functions, ``init`` and ``apply``, with gradients of single records by vmap."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from aegis_flower.data import Spec
from aegis_flower.errors import AppError
from aegis_flower.learners.losses import CLASSES, task_of
from aegis_flower.learners.protocol import Array, Batch, Floats, Settings, X

Params = Any
_LEAST = 8  # rows that a batch is filled up to: each size of a batch is compiled by itself


class Jax:
    """A JAX model as a learner, by the functions that Flax, Haiku and plain JAX have.

    A record's gradient is that of its own loss, by ``vmap`` over a batch of one, so records cannot mix in it. The engine's
    session clips and noises as for torch.

    Args:
        init: gives the parameters (a pytree of float32 arrays) from a key of ``jax.random``.
        apply: (params, x) to outputs of shape (rows, outputs); pure. x is an array, or arrays by name. It is compiled once in a
            process where it is a function of a module, and for each message where it is made with the model.
        spec: the shape of the data.
        loss: (outputs, labels) to the loss of each row, shape (rows,); by default cross-entropy of classes, the squared error of
            a number.
        optimizer: an object with ``init(params)`` and ``update(gradients, state, params)``, as Optax's are; by default SGD with
            the round's learning rate and momentum. It is made anew in every round.
        seed: of the start.

    Raises:
        AppError: parameters that are no float32 arrays, or a task without a default loss.
    """

    framework = "JAX"
    modes: tuple[str, ...] = ("example", "update", "off")

    def __init__(
        self,
        init: Callable[[Any], Params],
        apply: Callable[[Params, Any], Any],
        spec: Spec,
        *,
        loss: Callable[[Any, Any], Any] | None = None,
        optimizer: Any = None,
        seed: int = 0,
    ) -> None:
        import jax

        self._apply, self._loss = apply, loss or _default(spec)
        self._optimizer = optimizer
        self.reads = frozenset(
            {"proximal_mu"} if optimizer is not None else {"learning_rate", "momentum", "proximal_mu"}
        )
        named, self._tree = jax.tree_util.tree_flatten_with_path(init(jax.random.key(seed)))
        self._names = ["/".join(_named(part) for part in path) or "params" for path, _ in named]
        self._set([np.asarray(leaf) for _, leaf in named])
        wrong = [name for name, a in zip(self._names, self._leaves, strict=True) if a.dtype != np.float32]
        if wrong or not self._names:
            raise AppError(
                f"init gives {', '.join(wrong) or 'nothing'} that is no float32 array; parameters are float32, in which clip and "
                "noise are exact enough"
            )
        if len(set(self._names)) < len(self._names):
            raise AppError("init gives two parameters of one name")
        self._by_record = _by_record(self._tree, apply, self._loss)
        self._summed = _sum(self._tree, apply, self._loss)

    def _set(self, leaves: Sequence[Array]) -> None:
        """Parameters from now on, and an optimiser that has seen nothing."""
        self._leaves = [np.array(a) for a in leaves]
        self._start = [a.copy() for a in self._leaves]
        self._velocity: Floats | None = None
        self._state: Any = None

    def arrays(self) -> dict[str, Floats]:
        """The leaves of the parameters, by their paths."""
        return {name: np.array(a, dtype=np.float32) for name, a in zip(self._names, self._leaves, strict=True)}

    def load(self, arrays: Sequence[Array]) -> None:
        """Takes leaves in the order of the tree."""
        self._set(
            [np.asarray(a, dtype=np.float32).reshape(own.shape) for a, own in zip(arrays, self._leaves, strict=True)]
        )

    def train(self, batches: Iterable[Batch], settings: Settings) -> None:
        """A step a batch, by the sum of its rows' gradients over ``settings.expected_batch``."""
        for batch in batches:
            total = np.zeros(sum(a.size for a in self._leaves), dtype=np.float32)
            for x, y in batch:
                if len(y):
                    filled, labels, weights = _filled(x, y)
                    total += np.asarray(self._summed(self._leaves, filled, labels, weights))
            self.step(total / np.float32(settings.expected_batch), settings)

    def gradients(self, x: X, y: Array) -> Floats:
        """See `PerRecord.gradients`."""
        if not len(y):
            return np.zeros((0, sum(a.size for a in self._leaves)), np.float32)
        filled, labels, _ = _filled(x, y)
        return np.array(self._by_record(self._leaves, filled, labels), dtype=np.float32)[: len(y)]

    def step(self, gradient: Floats, settings: Settings) -> None:
        """One step of the optimiser; with FedProx, a pull to the round's start after it."""
        parts, at = [], 0
        for a in self._leaves:
            parts.append(np.asarray(gradient[at : at + a.size], dtype=np.float32).reshape(a.shape))
            at += a.size
        moves = self._moves(parts, settings)
        pull = np.float32(settings.learning_rate * settings.proximal_mu)
        self._leaves = [
            np.asarray(a + move, dtype=np.float32).reshape(a.shape) for a, move in zip(self._leaves, moves, strict=True)
        ]
        if settings.proximal_mu:
            self._leaves = [
                np.asarray(a - pull * (a - start), dtype=np.float32).reshape(a.shape)
                for a, start in zip(self._leaves, self._start, strict=True)
            ]

    def _moves(self, parts: list[Floats], settings: Settings) -> list[Array]:
        if self._optimizer is not None:
            import jax

            params = jax.tree_util.tree_unflatten(self._tree, self._leaves)
            if self._state is None:
                self._state = self._optimizer.init(params)
            gradients = jax.tree_util.tree_unflatten(self._tree, parts)
            moves, self._state = self._optimizer.update(gradients, self._state, params)
            return [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(moves)]
        flat = np.concatenate([part.ravel() for part in parts])
        # torch's SGD: v = μ v + g
        self._velocity = flat if self._velocity is None else np.float32(settings.momentum) * self._velocity + flat
        rate, moves, at = np.float32(settings.learning_rate), [], 0
        for part in parts:
            moves.append(-rate * self._velocity[at : at + part.size].reshape(part.shape))
            at += part.size
        return moves

    def outputs(self, x: X) -> Array:
        """See `Learner.outputs`."""
        import jax

        params = jax.tree_util.tree_unflatten(self._tree, self._leaves)
        return np.asarray(self._apply(params, x))

    def losses(self, outputs: Array, y: Array) -> Array:
        """See `Learner.losses`."""
        found = np.asarray(self._loss(np.asarray(outputs, dtype=np.float32), y))
        if found.shape != (len(y),):
            raise AppError(f"the loss gives shape {found.shape} for {len(y)} records; return one number for each")
        known = (y >= 0) & (y < np.shape(outputs)[-1]) if y.dtype.kind in "iu" and y.ndim == 1 else np.True_
        return np.where(known, found, np.nan)  # JAX takes another label where there is no such class


def _named(part: Any) -> str:
    """A step of a path of a pytree, in words."""
    return str(getattr(part, "key", getattr(part, "idx", getattr(part, "name", part))))


def _filled(x: X, y: Array) -> tuple[X, Array, Floats]:
    """Rows of zeros up to a power of two, and which rows are real: else each size of a batch would be compiled."""
    rows = len(y)
    size = max(_LEAST, 1 << (rows - 1).bit_length())

    def more(a: Array) -> Array:
        return np.concatenate([a, np.zeros((size - rows, *a.shape[1:]), a.dtype)])

    weights = (np.arange(size) < rows).astype(np.float32)
    return ({name: more(a) for name, a in x.items()} if isinstance(x, dict) else more(x)), more(y), weights


@functools.lru_cache(maxsize=32)  # a learner is made for each message, and its functions are those of the app's module
def _by_record(tree: Any, apply: Any, loss: Any) -> Any:
    """Gradients of single records: (leaves, x, y) to shape (rows, values)."""
    import jax
    import jax.numpy as jnp

    def one(leaves: Any, x: Any, y: Any) -> Any:
        alone = jax.tree_util.tree_map(lambda a: a[None], x)
        return loss(apply(jax.tree_util.tree_unflatten(tree, leaves), alone), y[None]).reshape(())

    def flat(leaves: Any, x: Any, y: Any) -> Any:
        return jnp.concatenate([g.ravel() for g in jax.grad(one)(leaves, x, y)])

    return jax.jit(jax.vmap(flat, in_axes=(None, 0, 0)))


@functools.lru_cache(maxsize=32)
def _sum(tree: Any, apply: Any, loss: Any) -> Any:
    """The sum of the rows' gradients: (leaves, x, y, weights) to shape (values,)."""
    import jax
    import jax.numpy as jnp

    def total(leaves: Any, x: Any, y: Any, weights: Any) -> Any:
        each = loss(apply(jax.tree_util.tree_unflatten(tree, leaves), x), y)
        return jnp.sum(jnp.where(weights > 0, each, 0.0))

    def flat(leaves: Any, x: Any, y: Any, weights: Any) -> Any:
        return jnp.concatenate([g.ravel() for g in jax.grad(total)(leaves, x, y, weights)])

    return jax.jit(flat)


def _default(spec: Spec) -> Callable[[Any, Any], Any]:
    """The loss of the task, as torch's default has it.

    Raises:
        AppError: a task without one here.
    """
    task = task_of(spec)
    if task == CLASSES:
        return cross_entropy
    if task == "regression":
        return squared
    raise AppError(f"there is no default loss of {task} labels in JAX; give one: Jax(init, apply, spec, loss=...)")


def cross_entropy(outputs: Any, y: Any) -> Any:
    """The cross-entropy of each row's softmax."""
    import jax

    logs = jax.nn.log_softmax(outputs, axis=1)
    return -jax.numpy.take_along_axis(logs, y[:, None], axis=1)[:, 0]


def squared(outputs: Any, y: Any) -> Any:
    """The squared error of each row."""
    return ((outputs.reshape(y.shape) - y) ** 2).reshape(len(y), -1).mean(axis=1)

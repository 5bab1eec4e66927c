"""JAX: a model as two pure functions, ``init`` and ``apply``, with gradients of single records by vmap."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aegis_flower.data import Spec
from aegis_flower.errors import AppError
from aegis_flower.learners.losses import CLASSES, task_of
from aegis_flower.learners.protocol import Array, Floats, Settings, X
from aegis_flower.learners.stepped import Leaves, Stepped

Params = Any
_LEAST = 8  # rows that a batch is filled up to: each size of a batch is compiled by itself


class Jax(Stepped):
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

        self._optimizer = optimizer
        if optimizer is not None:
            self.reads = frozenset({"proximal_mu"})
        named, self._tree = jax.tree_util.tree_flatten_with_path(init(jax.random.key(seed)))
        super().__init__(
            [("/".join(_named(part) for part in path) or "params", np.asarray(leaf)) for path, leaf in named],
            JaxFunctions(self._tree, apply, loss or _default(spec)),
            "init gives",
        )

    def _set(self, leaves: Sequence[Array]) -> None:
        super()._set(leaves)
        self._state: Any = None

    def _moves(self, parts: list[Floats], settings: Settings) -> list[Array]:
        if self._optimizer is None:
            return super()._moves(parts, settings)
        import jax

        params = jax.tree_util.tree_unflatten(self._tree, self._leaves)
        if self._state is None:
            self._state = self._optimizer.init(params)
        gradients = jax.tree_util.tree_unflatten(self._tree, parts)
        moves, self._state = self._optimizer.update(gradients, self._state, params)
        return [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(moves)]


class JaxFunctions:
    """`Functions` of JAX.

    Args:
        tree: of the parameters.
        apply: (params, x) to outputs.
        loss: (outputs, labels) to the loss of each row.
    """

    def __init__(self, tree: Any, apply: Callable[[Params, Any], Any], loss: Callable[[Any, Any], Any]) -> None:
        self._tree, self._apply, self._loss = tree, apply, loss
        self._by_record, self._summed = _by_record(tree, apply, loss), _sum(tree, apply, loss)

    def outputs(self, leaves: Leaves, x: X) -> Array:
        """See `Functions.outputs`."""
        import jax

        return np.asarray(self._apply(jax.tree_util.tree_unflatten(self._tree, leaves), x))

    def losses(self, outputs: Array, y: Array) -> Array:
        """See `Functions.losses`."""
        return np.asarray(self._loss(outputs, y))

    def by_record(self, leaves: Leaves, x: X, y: Array) -> Floats:
        """See `Functions.by_record`."""
        filled, labels, _ = _filled(x, y)
        return np.array(self._by_record(leaves, filled, labels), dtype=np.float32)[: len(y)]

    def summed(self, leaves: Leaves, x: X, y: Array) -> Floats:
        """See `Functions.summed`."""
        filled, labels, weights = _filled(x, y)
        return np.asarray(self._summed(leaves, filled, labels, weights))


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
    if task == "next-token":
        return next_token
    raise AppError(f"there is no default loss of {task} labels in JAX; give one: Jax(init, apply, spec, loss=...)")


def cross_entropy(outputs: Any, y: Any) -> Any:
    """The cross-entropy of each row's softmax."""
    import jax

    logs = jax.nn.log_softmax(outputs, axis=1)
    return -jax.numpy.take_along_axis(logs, y[:, None], axis=1)[:, 0]


def next_token(outputs: Any, y: Any) -> Any:
    """The mean cross-entropy of each row over the places that have a next token: outputs of shape (rows, tokens, places)."""
    import jax

    known = y >= 0
    logs = jax.nn.log_softmax(outputs, axis=1)
    each = -jax.numpy.take_along_axis(logs, jax.numpy.where(known, y, 0)[:, None, :], axis=1)[:, 0, :]
    return jax.numpy.where(known, each, 0.0).sum(axis=1) / jax.numpy.maximum(1, known.sum(axis=1))


def squared(outputs: Any, y: Any) -> Any:
    """The squared error of each row."""
    return ((outputs.reshape(y.shape) - y) ** 2).reshape(len(y), -1).mean(axis=1)

"""Keras 3 on TensorFlow: gradients of single records by a map over batches of one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from aegis_flower.learners.protocol import Array, Floats, X
from aegis_flower.learners.stepped import Leaves


class TensorflowFunctions:
    """`Functions` of TensorFlow. Each is traced once for all sizes of a batch.

    A record's gradient is that of its own loss: the map's function sees a batch of one, so records cannot mix in it.

    Args:
        apply: (parameters, x) to outputs of shape (rows, outputs); pure.
        loss: (outputs, labels) to the loss of each row, shape (rows,).
    """

    def __init__(self, apply: Callable[[Any, Any], Any], loss: Callable[[Any, Any], Any]) -> None:
        self._apply, self._loss = apply, loss
        self._traced: dict[Any, Any] = {}
        # torch loads triton with its first optimiser, and a process in which TensorFlow is loaded ends there: both bring LLVM
        # and register its options. Without triton torch lacks nothing but its compiler for GPUs.
        sys.modules.setdefault("triton", None)  # type: ignore[arg-type]

    def outputs(self, leaves: Leaves, x: X) -> Array:
        """See `Functions.outputs`."""
        return np.array(self._call(self._forward, leaves, x))

    def losses(self, outputs: Array, y: Array) -> Array:
        """See `Functions.losses`."""
        return np.array(self._loss(outputs, y))

    def by_record(self, leaves: Leaves, x: X, y: Array) -> Floats:
        """See `Functions.by_record`."""
        return np.array(self._call(self._each, leaves, x, y), dtype=np.float32)

    def summed(self, leaves: Leaves, x: X, y: Array) -> Floats:
        """See `Functions.summed`."""
        return np.array(self._call(self._sum, leaves, x, y), dtype=np.float32)

    def _forward(self, leaves: Any, x: Any) -> Any:
        return self._apply(leaves, x)

    def _each(self, leaves: Any, x: Any, y: Any) -> Any:
        import tensorflow as tf

        def one(row: Any) -> Any:
            alone, label = tf.nest.map_structure(lambda a: a[None], row)
            return self._gradient(leaves, alone, label)

        # Not tf.vectorized_map: its operations of a higher rank end the process in oneDNN's kernels, as those of attention do
        # (TensorFlow 2.21). This is a batch of one by one, with the kernels of any training.
        return tf.map_fn(one, (x, y), fn_output_signature=tf.float32)

    def _sum(self, leaves: Any, x: Any, y: Any) -> Any:
        return self._gradient(leaves, x, y)

    def _gradient(self, leaves: Any, x: Any, y: Any) -> Any:
        """Of the sum of the rows' losses: shape (values,)."""
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(leaves)
            loss = tf.reduce_sum(self._loss(self._apply(leaves, x), y))
        found = tape.gradient(loss, leaves, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # Of an embedding the gradient comes as the rows that were looked up.
        return tf.concat([tf.reshape(tf.convert_to_tensor(each), [-1]) for each in found], axis=0)

    def _call(self, function: Callable[..., Any], leaves: Leaves, *rows: Any) -> Any:
        """A function on rows, traced for any number of them. A concrete function is never traced again by itself."""
        import tensorflow as tf

        def spec(a: Array) -> Any:
            return tf.TensorSpec((None, *a.shape[1:]), a.dtype)

        wanted = tf.nest.map_structure(spec, rows)
        key = (function.__name__, str(wanted))
        if key not in self._traced:
            sizes = [tf.TensorSpec(a.shape, a.dtype) for a in leaves]
            self._traced[key] = tf.function(function).get_concrete_function(sizes, *wanted)
        given = tf.nest.map_structure(tf.constant, (leaves, *rows))
        return self._traced[key](*given)

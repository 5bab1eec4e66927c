"""Keras 3 on its JAX or TensorFlow backend: a model as a pure function of its variables, so that it has all that `Jax` has."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from aegis_flower.data import Spec
from aegis_flower.errors import AppError
from aegis_flower.learners.losses import CLASSES, task_of
from aegis_flower.learners.protocol import Array, X
from aegis_flower.learners.stepped import Functions, Stepped

# The privacy that models can have, by Keras's backend. Both give gradients of single records.
MODES: Final[dict[str, tuple[str, ...]]] = {
    "jax": ("example", "update", "off"),
    "tensorflow": ("example", "update", "off"),
}
_NAMES: Final = {"jax": "JAX", "tensorflow": "TensorFlow"}


class Keras(Stepped):
    """A Keras model as a learner: gradients of single records, clip and noise by the engine's session.

    Of a compiled model the loss is taken, row by row, and nothing else: an optimiser of Keras keeps its state in variables,
    which pure functions have not. The steps are SGD with the round's learning rate and momentum.

    Args:
        model: built, by an `Input`; it gives logits, or ends in a softmax whose logarithm is taken for the metrics.
        spec: the shape of the data.
        loss: (labels, outputs) to the loss of each row, a function of ``keras.losses`` or a `Loss` object; by default that of
            the compiled model, else cross-entropy of classes, or the squared error of a number.

    Raises:
        AppError: another backend, a model that is not built, or one with variables that are not trained (frozen layers,
            BatchNorm, Dropout), regularisers or an optimiser of its own; says what to do.
    """

    def __init__(self, model: Any, spec: Spec, *, loss: Any = None) -> None:
        import keras

        backend = keras.backend.backend()
        _check(model, backend)
        self.framework, self.modes = f"Keras on {_NAMES[backend]}", MODES[backend]
        if loss is None and getattr(model, "compiled", False):
            loss = model.loss
        self._model, self._softmax = model, _ends_in_softmax(model, keras)
        each = _by_row(keras, _default(keras, spec, logits=not self._softmax) if loss is None else loss)
        trained = model.trainable_variables
        super().__init__(
            # Keras numbers layers by how many were made in the process, so its own names differ from build to build.
            [(f"{at}.{one.name}", keras.ops.convert_to_numpy(one)) for at, one in enumerate(trained)],
            _functions(backend, model, each),
            "the Keras model has",
        )

    def outputs(self, x: X) -> Array:
        """Logits: of a model that ends in a softmax, the logarithms of its probabilities."""
        found = super().outputs(x)
        return np.log(np.maximum(found, np.finfo(np.float32).tiny)) if self._softmax else found

    def losses(self, outputs: Array, y: Array) -> Array:
        """See `Learner.losses`."""
        return super().losses(np.exp(outputs) if self._softmax else outputs, y)


def _functions(backend: str, model: Any, loss: Any) -> Functions:
    def apply(params: Any, x: Any) -> Any:
        return model.stateless_call(params, [], x)[0]

    if backend == "tensorflow":
        from aegis_flower.learners.keras_tensorflow import TensorflowFunctions

        return TensorflowFunctions(apply, loss)
    import jax

    from aegis_flower.learners.functions import JaxFunctions

    tree = jax.tree_util.tree_structure([0] * len(model.trainable_variables))
    return JaxFunctions(tree, apply, loss)


def _by_row(keras: Any, loss: Any) -> Any:
    """A loss of Keras as one of (outputs, labels) that gives one number per row."""
    found = keras.losses.get(loss)
    call = getattr(found, "call", found)  # a Loss object's call() does not reduce

    def each(outputs: Any, y: Any) -> Any:
        values = call(y, outputs)
        return keras.ops.mean(keras.ops.reshape(values, (keras.ops.shape(outputs)[0], -1)), axis=1)

    return each


def _default(keras: Any, spec: Spec, *, logits: bool) -> Any:
    """The loss of the task, as torch's default has it.

    Raises:
        AppError: a task without one here.
    """
    task = task_of(spec)
    if task == CLASSES:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    if task == "regression":
        return keras.losses.MeanSquaredError()
    raise AppError(f"there is no default loss of {task} labels in Keras; give one: Keras(model, spec, loss=...)")


def _ends_in_softmax(model: Any, keras: Any) -> bool:
    last = model.layers[-1] if model.layers else model
    return getattr(last, "activation", None) is keras.activations.softmax or isinstance(last, keras.layers.Softmax)


def _check(model: Any, backend: str) -> None:
    if backend not in MODES:
        raise AppError(
            f"Keras runs on {backend}, and a learner on JAX or TensorFlow: set KERAS_BACKEND=jax or KERAS_BACKEND=tensorflow "
            "before Keras is imported"
        )
    if not getattr(model, "built", False):
        raise AppError("the Keras model is not built: begin it with keras.Input((spec.features,)), or call build()")
    trained = {id(v) for v in model.trainable_variables}
    stays = [v.path for layer in model.layers for v in layer.variables if id(v) not in trained]
    if stays:
        raise AppError(
            f"the Keras model has {', '.join(stays[:5])}, which is not trained and would not travel. Leave Dropout and BatchNorm "
            "out (LayerNormalization keeps no statistics), and train all layers"
        )
    if model.losses:
        raise AppError("the Keras model has regularisers, which are no part of a record's loss; leave them out")
    optimizer = getattr(model, "optimizer", None) if getattr(model, "compiled", False) else None
    if optimizer is not None and type(optimizer).__name__ != "SGD":
        raise AppError(
            f"the Keras model is compiled with {type(optimizer).__name__}, and steps here are SGD with model.learning_rate; "
            "compile it with a loss alone, optimizer='sgd', or give Keras(model, spec, loss=...)"
        )

"""Made: what an app's model function gave, as a learner."""

from __future__ import annotations

from typing import Any

from aegis_flower.data import Spec
from aegis_flower.errors import AppError
from aegis_flower.learners.keras_models import Keras
from aegis_flower.learners.protocol import Learner
from aegis_flower.learners.scikit import Scikit


def is_torch(made: object) -> bool:
    """Whether it is a module of torch, told without importing torch."""
    return any(cls.__module__ == "torch.nn.modules.module" and cls.__name__ == "Module" for cls in type(made).__mro__)


def learner_of(made: Any, spec: Spec) -> Learner:
    """What an app's model function made, as a learner: itself, or a model of scikit-learn or Keras wrapped as one.

    Args:
        made: what the function made; no module of torch.
        spec: the shape of the data.

    Raises:
        AppError: nothing that can be trained; says what can.
    """
    if isinstance(made, Learner) and not isinstance(made, type):
        return made
    if any(cls.__module__.partition(".")[0] == "keras" for cls in type(made).__mro__):
        return Keras(made, spec)
    if callable(getattr(made, "get_params", None)) and callable(getattr(made, "fit", None)):
        return Scikit(made, spec)
    raise AppError(
        f"the model function gives a {type(made).__name__}; return a torch.nn.Module, an estimator of scikit-learn, a model of "
        "Keras, or a learner of aegis_flower.learners (Scikit, Jax, Keras, or a class of your own with their methods)"
    )

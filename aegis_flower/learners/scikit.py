"""scikit-learn: linear models by ``partial_fit``, logistic regression by warm starts, estimators of one's own by declaration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from aegis_flower.data import Spec
from aegis_flower.errors import AppError
from aegis_flower.features import plan_of
from aegis_flower.learners import losses as told
from aegis_flower.learners.protocol import Array, Batch, Floats, Settings, X

_LINEAR: Final = ("coef_", "intercept_")


class Scikit:
    """A scikit-learn estimator as a learner. It has no gradients of single records: `modes` are ``update`` and ``off``.

    `SGDClassifier`, `SGDRegressor` and other linear models take one ``partial_fit`` per part of a batch, at their own learning
    rate (``eta0``), which begins anew in each round. `LogisticRegression` fits all rows of the round once, from the server's
    weights on (``warm_start``), for ``max_iter`` iterations.

    Args:
        estimator: the estimator; it is cloned.
        spec: the shape of the data.
        arrays: attributes that hold what is learned, with their shapes. By default ``coef_`` and ``intercept_`` of a linear
            model.

    Raises:
        AppError: an estimator that cannot learn in rounds, or a task that it has no outputs for.
    """

    framework = "scikit-learn"
    modes: tuple[str, ...] = ("update", "off")
    reads: frozenset[str] = frozenset()

    def __init__(self, estimator: Any, spec: Spec, *, arrays: Mapping[str, tuple[int, ...]] | None = None) -> None:
        from sklearn.base import clone, is_classifier

        self._name = type(estimator).__name__
        self._classifies = bool(is_classifier(estimator))
        self._spec, self._task = spec, told.task_of(spec)
        _check(self._name, estimator, spec, self._task, classifies=self._classifies, declared=arrays is not None)
        self._partial = hasattr(estimator, "partial_fit")
        self._estimator = clone(estimator)
        if not self._partial:
            self._estimator.set_params(warm_start=True)
        rows = spec.classes if spec.classes > 2 else 1  # noqa: PLR2004 - two classes have one score
        linear = {"coef_": (rows, spec.features), "intercept_": (rows,)}
        if not self._classifies:
            linear["coef_"] = (spec.features,)
        self._shapes = dict(arrays) if arrays is not None else linear
        self._classes = np.arange(spec.classes)
        self._form()
        self.load([np.zeros(shape, np.float32) for shape in self._shapes.values()])

    def _form(self) -> None:
        """One fit on zeros, so that the estimator has every attribute of one that was trained, its own included."""
        x = np.zeros((max(2, self._spec.classes), self._spec.features))
        y = self._classes if self._classifies else np.zeros(len(x))
        self._fit(x, y)
        found = {name: np.shape(getattr(self._estimator, name, ())) for name in self._shapes}
        if found != self._shapes:
            raise AppError(
                f"{self._name} has {found} after a fit, and {self._shapes} are to travel; declare what it learns: "
                "Scikit(estimator, spec, arrays={'coef_': (outputs, features), ...})"
            )

    def arrays(self) -> dict[str, Floats]:
        """The declared attributes, without the underscore at their end."""
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite; the engine makes zeros of it
            return {
                name.removesuffix("_"): np.array(getattr(self._estimator, name), dtype=np.float32)
                for name in self._shapes
            }

    def load(self, arrays: Sequence[Array]) -> None:
        """Takes the declared attributes; the counter of a decaying rate begins anew."""
        for (name, shape), values in zip(self._shapes.items(), arrays, strict=True):
            setattr(self._estimator, name, np.array(values, dtype=np.float64).reshape(shape))
        if hasattr(self._estimator, "t_"):
            self._estimator.t_ = 1.0

    def train(self, batches: Iterable[Batch], settings: Settings) -> None:
        """``partial_fit`` on each part; without it, one fit on all rows."""
        if self._partial:
            for batch in batches:
                for x, y in batch:
                    if len(y):
                        rows = _plain(x)
                        self._fit(rows, y)
                        rows[...] = 0
            return
        parts = [(_plain(x), y.copy()) for batch in batches for x, y in batch if len(y)]
        if parts:
            x, y = (np.concatenate(each) for each in zip(*parts, strict=True))
            self._fit(x, y)
            x[...] = 0

    def _fit(self, x: Array, y: Array) -> None:
        if self._partial:
            self._estimator.partial_fit(x, y, **({"classes": self._classes} if self._classifies else {}))
            return
        # A node need not have rows of every class: those of no weight make the estimator know them all.
        weights = np.concatenate([np.ones(len(y)), np.zeros(len(self._classes))])
        x = np.concatenate([x, np.zeros((len(self._classes), x.shape[1]), x.dtype)])
        self._estimator.fit(x, np.concatenate([y, self._classes]), sample_weight=weights)

    def outputs(self, x: X) -> Array:
        """Scores of each class, or the predicted number. Of two classes ∓ half of the one score: a softmax is its sigmoid."""
        if not self._classifies:
            return np.asarray(self._estimator.predict(_plain(x)), dtype=np.float64).reshape(len(_plain(x)), -1)
        scores = np.asarray(self._estimator.decision_function(_plain(x)), dtype=np.float64)
        return np.stack([-scores / 2, scores / 2], axis=1) if scores.ndim == 1 else scores

    def losses(self, outputs: Array, y: Array) -> Array:
        """Cross-entropy of the scores' softmax, or the squared error; the estimator's own loss may be another."""
        return told.losses(self._task, outputs, y)


def _check(name: str, estimator: Any, spec: Spec, task: str, *, classifies: bool, declared: bool) -> None:
    params = estimator.get_params()
    if not hasattr(estimator, "partial_fit") and not (name == "LogisticRegression" and "warm_start" in params):
        raise AppError(
            f"{name} learns by one fit alone, so it cannot go on from the model of the round before; take SGDClassifier, "
            "SGDRegressor, another estimator with partial_fit, or LogisticRegression"
        )
    if params.get("average"):
        raise AppError(f"{name}(average={params['average']!r}) keeps a mean that does not travel; take average=False")
    if params.get("early_stopping"):
        raise AppError(f"{name}(early_stopping=True) would hold out rows of a batch; take False")
    if not declared and not all(hasattr(type(estimator), each) or name.startswith(("SGD", "Log")) for each in _LINEAR):
        raise AppError(
            f"what {name} learns is not known; declare it: Scikit(estimator, spec, arrays={{'coef_': (outputs, features), ...}})"
        )
    fits = {"classes": classifies, "regression": not classifies}
    if not fits.get(task, False):
        raise AppError(
            f"{name} is a {'classifier' if classifies else 'regressor'}, and the label is {task}: take "
            + ("an estimator of the other kind" if task in fits else "a model of torch or JAX")
        )
    if len(spec.columns) > 1 and (plan := plan_of(spec)) is not None and plan.inputs:
        raise AppError(f"{name} takes one input, the feature plan has {', '.join(spec.columns)}")


def _plain(x: X) -> Array:
    """The one input, as rows of values: a copy."""
    if isinstance(x, dict):
        raise AppError(f"an estimator takes one input, there are {', '.join(x)}")
    return x.reshape(len(x), -1).astype(np.float64)  # as the attributes are

"""Own: AEGIS's own training loop for the configured model, as an app in a jail. For ``runtime=jailed`` without an app."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]
ENTRY = "aegis_flower.jailed.own:train"
PRELOAD = (
    "numpy",
    "torch",
    "torch._dynamo",
    "aegis_flower.models",
)  # an optimiser of torch imports dynamo at its first step


def train(parameters: Arrays, rows: Arrays, settings: Mapping[str, Any]) -> list[npt.NDArray[Any]]:
    """Some steps of SGD on all rows of the task, as ``model``, ``privacy.steps_per_round`` and the data set's `Spec` say."""
    import torch

    from aegis_flower import models
    from aegis_flower.data import Spec

    torch.set_num_threads(1)
    spec = Spec(dict(settings["columns"]), settings["label"], settings["classes"], image=_image(settings))
    # ModelConfig by its fields alone: to compose a configuration would take longer than the training
    model = models.build(SimpleNamespace(**settings["model"]), spec, settings["seed"])  # type: ignore[arg-type]
    with torch.no_grad():
        for p, start in zip(model.parameters(), parameters.values(), strict=True):
            p.copy_(torch.from_numpy(start))
    y = torch.from_numpy(np.array(rows[spec.label]))
    wide = [np.asarray(rows[name], np.float32).reshape(len(y), -1) for name in spec.columns]
    x = torch.from_numpy(np.concatenate(wide, axis=1))
    optimizer = torch.optim.SGD(model.parameters(), lr=settings["learning_rate"], momentum=settings["momentum"])
    model.train()
    for _ in range(settings["steps"]):
        optimizer.zero_grad()
        out = model(x)
        loss = (
            torch.nn.functional.cross_entropy(out, y)
            if spec.classes > 1
            else torch.nn.functional.mse_loss(out[:, 0], y.to(out.dtype))
        )
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return [p.detach().numpy() for p in model.parameters()]


def _image(settings: Mapping[str, Any]) -> tuple[int, int] | None:
    found = settings["image"]
    return None if found is None else (int(found[0]), int(found[1]))

"""Inference: the model of a run on new rows, by the plan it was trained with. Nothing of a vault is opened here."""

from __future__ import annotations

import functools
import io
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aegis_flower import features, model_files
from aegis_flower.configs import Config, from_dict
from aegis_flower.data.spec import Spec, built
from aegis_flower.errors import ConfigError, DataError, ModelMismatch
from aegis_flower.features import Plan
from aegis_flower.files import write_atomically
from aegis_flower.learners import Learner, is_torch, learner_of
from aegis_flower.report import JSON_NAME, RunReport, load_report
from aegis_flower.report.artifacts import FEATURES, card
from aegis_flower.weights import BASE, base_sha256, travelling

TORCH: Final = "model.pt"
ABOUT: Final = "model.json"  # in an export, in place of the run's report, which names nodes and paths
_VERSION: Final = 1
FORMATS: Final = {"safetensors": model_files.SAFETENSORS, "npz": model_files.NPZ, "torch": TORCH}


@dataclass(frozen=True, kw_only=True)
class About:
    """What a run came to, as far as it goes where its model goes: no node, no path.

    Attributes:
        run, name, status, private: of the run, as its report has them.
        config_sha256: of its configuration.
        accuracy, accuracy_sd: on held-out rows; the deviation is that of the noise.
        epsilon, epsilon_person: the largest of a node, for a record and for the person with most rows.
        base_sha256: of what its adapters sit on; None without adapters.
    """

    run: str
    name: str
    status: str
    private: bool
    config_sha256: str
    accuracy: float | None = None
    accuracy_sd: float | None = None
    epsilon: float | None = None
    epsilon_person: float | None = None
    base_sha256: str | None = None

    @classmethod
    def of(cls, report: RunReport) -> About:
        """What a report says."""
        r = report.results
        return cls(
            run=report.run.id,
            name=report.run.name,
            status=report.run.status,
            private=report.run.private,
            config_sha256=report.config.sha256,
            accuracy=r.accuracy,
            accuracy_sd=r.accuracy_sd,
            epsilon=r.epsilon_max,
            epsilon_person=r.epsilon_person_max,
        )


@dataclass(frozen=True)
class TrainedModel:
    """The model of a run, and what has to be known to use it.

    Attributes:
        weights: arrays by name, in the model's order.
        config: the run's; of an export, what builds the model and no more.
        about: what the run came to.
        report: the run's; None of an export.
        plan: how columns become inputs; None for a built-in data set.
        build: builds the app's own model; None where it is the configured one.
    """

    weights: dict[str, npt.NDArray[Any]]
    config: Config
    about: About
    plan: Plan | None
    report: RunReport | None = None
    build: Callable[..., Any] | None = None

    @functools.cached_property
    def module(self) -> Any:
        """The torch model with the weights: the app's own where it is told, else the configured one.

        Raises:
            ModelMismatch: the weights are another model's.
        """
        import torch

        from aegis_flower import models

        if self.build is not None:
            model = built(self.build, self._spec)
        else:
            model = models.build(self.config.model, self._spec(), self.config.seed)
        own = {name: tuple(value.shape) for name, value in travelling(model).items()}
        mine = {name: tuple(value.shape) for name, value in self.weights.items()}
        if own != mine:
            whose = "the app's model" if self.build is not None else f"model.kind={self.config.model.kind}"
            raise ModelMismatch(
                f"the run's weights {list(mine.values())} are not those of {whose} {list(own.values())}; an app builds a model "
                "of its own: run this in the folder of its project, or take app.load(RUN)"
            )
        base, trained_on = base_sha256(model), self.about.base_sha256
        if base is not None and trained_on is None:
            raise ModelMismatch(
                "the app's model has adapters, and nothing in the folder says what they sat on when they were trained: "
                f"{model_files.NPZ} and {TORCH} have no place for its hash. Put the run's {model_files.SAFETENSORS} back, or "
                f"take what `aegis model export` writes with its {ABOUT}; both have the hash"
            )
        if base != trained_on:
            raise ModelMismatch(
                f"the run's adapters sit on frozen parameters with the hash {trained_on}, and "
                + (f"those of the app's model have {base}" if base is not None else "the app's model has no adapters")
                + "; load the checkpoint that the run was trained on"
            )
        with torch.no_grad():
            for name, parameter in travelling(model).items():
                parameter.copy_(torch.from_numpy(self.weights[name].copy()))
        return model.eval()

    @functools.cached_property
    def learner(self) -> Learner | None:
        """The app's own model as a learner with the weights; None where it is one of torch.

        Raises:
            ModelMismatch: the weights are another model's.
        """
        if self.build is None:
            return None
        made = built(self.build, self._spec)
        if is_torch(made):
            return None
        learner = learner_of(made, self._spec())
        own = {name: a.shape for name, a in learner.arrays().items()}
        mine = {name: tuple(value.shape) for name, value in self.weights.items()}
        if own != mine:
            raise ModelMismatch(
                f"the run's weights {mine} are not those of the app's model of {learner.framework} {own}; run this in the folder "
                "of its project, or take app.load(RUN)"
            )
        learner.load([self.weights[name] for name in own])
        return learner

    def _spec(self) -> Spec:
        return self.plan.spec if self.plan is not None else features.spec_of(self.config.data)

    def outputs(self, batch: Any) -> npt.NDArray[np.float32]:
        """What the model gives for rows, before a softmax: shape (rows, outputs).

        Args:
            batch: what `features.Plan.apply` takes.

        Raises:
            DataError: the run had no feature plan.
        """
        if self.plan is None:
            raise DataError(
                f"the run trained on {self.config.data.name} without a feature plan, so nothing says what columns mean"
            )
        inputs = self.plan.apply(batch, label=False).inputs
        alone = next(iter(inputs.values())) if len(inputs) == 1 and not self.plan.inputs else None
        if self.learner is not None:
            return np.asarray(self.learner.outputs(inputs if alone is None else alone), dtype=np.float32)
        import torch

        made = {name: torch.from_numpy(values) for name, values in inputs.items()}
        with torch.no_grad():
            out = self.module(next(iter(made.values())) if len(made) == 1 and not self.plan.inputs else made)
        return np.asarray(out.numpy(), dtype=np.float32)

    def predict(self, batch: Any) -> dict[str, npt.NDArray[Any]]:
        """Predictions in the words of the plan; see `features.Label.decode`."""
        outputs = self.outputs(batch)
        assert self.plan is not None
        return self.plan.label.decode(outputs)

    def export(self, folder: str | Path, to: str = "safetensors") -> list[Path]:
        """Writes the model for use elsewhere, with its card and the plan of its inputs. No node and no path is named there.

        Args:
            folder: a new one.
            to: ``safetensors``, ``npz`` or ``torch`` (a state dict that ``torch.load(weights_only=True)`` reads).

        Returns:
            The files.

        Raises:
            ConfigError: another form.
            DataError: the folder holds something, or this is an export already.
        """
        folder = Path(folder)
        if to not in FORMATS:
            raise ConfigError("to", f"{to!r} is not one of {', '.join(FORMATS)}")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder} is there already; name a new folder")
        if self.report is None:
            raise DataError("this model was exported before; export it from the folder of its run")
        shapes = {name: tuple(value.shape) for name, value in self.weights.items()}
        made = {
            FORMATS[to]: self._bytes(to),
            card.NAME: card.text(self.report, shapes, self.plan).encode(),
            ABOUT: self._told(),
        }
        if self.plan is not None:
            made[FEATURES] = features.write(self.plan).encode()
        write_atomically({folder / name: data for name, data in made.items()})
        return [folder / name for name in made]

    def _bytes(self, to: str) -> bytes:
        if to == "npz":
            return model_files.npz(self.weights)
        if to == "safetensors":
            about = {"aegis.config_sha256": self.about.config_sha256}
            about |= {"aegis.features_sha256": self.plan.sha256} if self.plan is not None else {}
            about |= {BASE: self.about.base_sha256} if self.about.base_sha256 is not None else {}
            return model_files.safetensors(self.weights, about)
        import torch

        data = io.BytesIO()
        torch.save({name: torch.from_numpy(value.copy()) for name, value in self.weights.items()}, data)
        return data.getvalue()

    def _told(self) -> bytes:
        whole = self.config.to_dict()
        builds = {key: whole["model"][key] for key in ("kind", "hidden")}
        named = {"name": self.config.data.name, "features": FEATURES if self.plan is not None else None}
        config = {"name": self.config.name, "seed": self.config.seed, "model": builds, "data": named}
        said = {"version": _VERSION, "about": asdict(self.about), "config": config}
        return (json.dumps(said, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def load(folder: str | Path, model: Callable[..., Any] | None = None) -> TrainedModel:
    """The model that a run left in its folder, or that was exported from it.

    Args:
        folder: with the model and the run's ``report.json``.
        model: builds the app's own model, where it is not the configured one; takes nothing, or the `Spec` of the data.

    Raises:
        DataError: there is none, or it is no file of arrays.
        ReportError: there is no report beside it, and it is no export.
        ConfigError: the plan beside it means nothing.
    """
    folder = Path(folder)
    file = model_files.in_folder(folder)
    if file is not None:
        weights = model_files.read(file)
    elif (folder / TORCH).is_file():
        weights = _of_torch(folder / TORCH)
    else:
        raise DataError(
            f"{folder}: there is no {model_files.SAFETENSORS} and no {model_files.NPZ}; give the folder of a run that ended with "
            "a model"
        )
    plan = features.load(os.fspath((folder / FEATURES).absolute())) if (folder / FEATURES).is_file() else None
    if not (folder / JSON_NAME).is_file() and (folder / ABOUT).is_file():
        about, config = _exported(folder / ABOUT)
        return TrainedModel(weights, config, about, plan, build=model)
    report = load_report(folder / JSON_NAME)
    told = model_files.about(file) if file is not None and file.name == model_files.SAFETENSORS else {}
    about = replace(About.of(report), base_sha256=told.get(BASE))
    return TrainedModel(weights, from_dict(report.config.resolved), about, plan, report, model)


def _exported(file: Path) -> tuple[About, Config]:
    """What an export says of itself."""
    try:
        said = json.loads(file.read_text("utf-8"))
        if said["version"] != _VERSION:
            raise ValueError("version")
        return _about(said["about"]), from_dict(said["config"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise DataError(f"{file}: it is not what an export of AEGIS says ({type(error).__name__})") from None


def _about(said: Any) -> About:
    """What a file says of a run, each value of the type that it must have.

    Raises:
        ValueError, TypeError: it is not.
    """
    kinds: dict[str, Any] = {"str": str, "bool": bool, "float | None": float | None, "str | None": str | None}
    for one in fields(About):
        if not isinstance(said.get(one.name), kinds[str(one.type)]):
            raise TypeError(one.name)
    return About(**said)


def _of_torch(file: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a state dict; nothing but tensors is unpickled."""
    import torch

    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
        return {str(name): value.numpy() for name, value in found.items()}
    except Exception as error:  # noqa: BLE001 - whatever the unpickler meets in a file from anybody
        raise DataError(f"{file}: it is no state dict of tensors ({type(error).__name__})") from None

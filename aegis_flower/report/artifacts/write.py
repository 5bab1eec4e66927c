"""What a run leaves beside its report: the model in two forms, the plan of its inputs, and its card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from aegis_flower import features, model_files
from aegis_flower.configs import Config
from aegis_flower.files import write_atomically
from aegis_flower.report.artifacts import card
from aegis_flower.report.model import RunReport
from aegis_flower.report.write import write_reports
from aegis_flower.weights import BASE

if TYPE_CHECKING:
    from flwr.app import ArrayRecord

FEATURES: Final = "features.yaml"
_FILES: Final = {
    "model": model_files.NPZ,
    "safetensors": model_files.SAFETENSORS,
    "features": FEATURES,
    "card": card.NAME,
}


def write_model(cfg: Config, arrays: ArrayRecord, folder: Path, base: str | None = None) -> list[str]:
    """Writes the newest model; gives what a reader must know of it, and what hindered it: the report may still fit.

    `base` is the hash of what its adapters sit on.
    """
    if not len(arrays):
        return []
    weights = {name: array.numpy() for name, array in arrays.items()}
    plan = features.chosen(cfg.data)
    about = {"aegis.config_sha256": cfg.sha256, **({"aegis.features_sha256": plan.sha256} if plan else {})}
    about |= {BASE: base} if base is not None else {}
    wanted = {
        folder / model_files.NPZ: model_files.npz(weights),
        folder / model_files.SAFETENSORS: model_files.safetensors(weights, about),
    }
    if plan is not None:
        # The model is worth nothing without it: the same plan makes the inputs of whoever uses the model.
        wanted[folder / FEATURES] = features.write(plan).encode()
    told = []
    if plan is not None and plan.weight is not None:
        told.append(
            f"records counted in training by their weight (column {plan.weight.column}, at most {plan.weight.high:g}); the "
            "metrics count each record once"
        )
    try:
        write_atomically(wanted)
    except OSError as error:
        told.append(f"the model could not be written: {error.strerror or error}")
    return told


def files(arrays: ArrayRecord, folder: Path) -> dict[str, str]:
    """What there is beside the report, by what it is; the card is written last, when the report is made."""
    there = {what: name for what, name in _FILES.items() if (folder / name).exists()}
    return {**there, "card": card.NAME} if len(arrays) else there


def write_card(report: RunReport, cfg: Config, arrays: ArrayRecord, folder: Path) -> None:
    """Writes the card of the model.

    Raises:
        ReportError: it cannot be written.
    """
    if len(arrays):
        shapes = {name: tuple(array.shape) for name, array in arrays.items()}
        write_reports({folder / card.NAME: card.text(report, shapes, features.chosen(cfg.data)).encode()})

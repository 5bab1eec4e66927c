"""Checkpoints: the model after each round, and what a run needs to go on from there when it was stopped or killed.

What was spent is in the nodes' ledgers and nowhere else. A resumed run is charged like any other, and has the same noise.
"""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from aegis_flower import model_files
from aegis_flower.configs import Config, from_dict
from aegis_flower.errors import ConfigError, DataError
from aegis_flower.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

Arrays = dict[str, npt.NDArray[Any]]
CHECKPOINT: Final = "checkpoint.npz"
VERSION: Final = 1
# In the archive beside the arrays; no parameter of torch has such a name.
_ABOUT: Final = "aegis.checkpoint"
# Server optimisers that keep moments between rounds.
STATEFUL: Final = ("fedavgm", "fedadam", "fedyogi")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Where a run stood.

    Attributes:
        round: rounds that gave a model so far, by the number of the last.
        config: the run's.
        noise_multiplier: σ of its rounds.
        overrides: what the user wrote.
        arrays: the model.
    """

    round: int
    config: Config
    noise_multiplier: float
    overrides: tuple[str, ...]
    arrays: Arrays

    @property
    def left(self) -> int:
        """Rounds that were not done."""
        return self.config.strategy.rounds - self.round

    def write(self, folder: Path) -> None:
        """Writes the checkpoint in place of the last one: whole, or not at all.

        Raises:
            OSError: it cannot be written; the last one is still there.
        """
        about = {
            "version": VERSION,
            "round": self.round,
            "noise_multiplier": self.noise_multiplier,
            "config": self.config.to_dict(),
            "overrides": list(self.overrides),
        }
        data = io.BytesIO()
        arrays: dict[str, Any] = {_ABOUT: np.frombuffer(json.dumps(about).encode(), dtype=np.uint8), **self.arrays}
        np.savez(data, **arrays)
        write_atomically({folder / CHECKPOINT: data.getvalue()})


def read(folder: Path) -> Checkpoint:
    """The checkpoint of a run.

    Raises:
        DataError: there is none, or it is none.
    """
    path = folder / CHECKPOINT if folder.is_dir() else folder
    if not path.is_file():
        raise DataError(f"{folder}: there is no {CHECKPOINT}; a run writes one after each round")
    found = model_files.read(path)
    raw = found.pop(_ABOUT, None)
    try:
        about = json.loads(raw.tobytes()) if raw is not None else {}
        if about.get("version") != VERSION:
            raise DataError(f"{path}: it is no checkpoint of this version of AEGIS ({about.get('version')!r})")
        config = from_dict(about["config"])
        return Checkpoint(
            int(about["round"]), config, float(about["noise_multiplier"]), tuple(about["overrides"]), found
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: it is no checkpoint: {type(error).__name__}") from None


def resumed(folder: Path) -> Config:
    """The configuration of the rounds that a run did not do: the same noise, vaults and data, from its last model on.

    Raises:
        DataError: there is no checkpoint, or no round is left.
    """
    found = read(folder)
    if found.left < 1:
        raise DataError(f"{folder}: the run did all of its {found.config.strategy.rounds} rounds; its model is there")
    cfg = found.config
    privacy = cfg.privacy
    if privacy.on:
        privacy = dataclasses.replace(privacy, noise_multiplier=found.noise_multiplier)
    return dataclasses.replace(
        cfg,
        compare=False,
        privacy=privacy,
        strategy=dataclasses.replace(
            cfg.strategy, rounds=found.left, rounds_before=cfg.strategy.rounds_before + found.round
        ),
        model=dataclasses.replace(cfg.model, init=str((folder / CHECKPOINT).resolve())),
        runtime=dataclasses.replace(cfg.runtime, lose=[]),
    )


def initial(path: str, own: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """The arrays of `model.init` for a model whose own arrays are these.

    Args:
        path: a file with arrays by name (``.safetensors``, ``.npz``), or the folder of a run: its model, or else its checkpoint.
        own: the model's arrays, by name.

    Raises:
        ConfigError: there is no such file, or it is of another model; names the array.
    """
    file = Path(path)
    if file.is_dir():
        file = model_files.in_folder(file) or file / CHECKPOINT
    if not file.is_file():
        raise ConfigError("model.init", f"there is no file {file}")
    try:
        shapes = {name: array.shape for name, array in own.items()}
        found = model_files.read(file, shapes, besides=(_ABOUT,))
    except DataError as error:
        raise ConfigError("model.init", str(error)) from None
    arrays = {}
    for name in own:
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite then
            arrays[name] = np.ascontiguousarray(found[name], dtype=np.float32)
        if not np.isfinite(arrays[name]).all():
            raise ConfigError("model.init", f"{file}: array {name!r} has values that are not finite")
    return arrays

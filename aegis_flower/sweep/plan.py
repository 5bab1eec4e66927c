"""The plan of a sweep: the command that made it, when it began, and what it will cost; known before a trial starts.

``sweep-plan.json`` lies in the sweep's folder, so that ``aegis run --resume`` can go on with it and its page can name it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from aegis_flower.configs import Config, compose
from aegis_flower.errors import ConfigError
from aegis_flower.files import write_atomically

FILE: Final = "sweep-plan.json"
_MOST = 64  # configurations that are composed to tell a cost
_OPTUNA: Final = "hydra/sweeper=optuna"
_TRIALS: Final = 20  # Optuna's own number of trials in Hydra


@dataclass(frozen=True)
class Plan:
    """What a sweep was started with.

    Attributes:
        arguments: of `aegis run`.
        started: when, RFC 3339; of a resumed sweep, when it began first.
        resumed: whether it goes on in its folder: trials that finished are not run again.
    """

    arguments: list[str]
    started: str = ""
    resumed: bool = False

    @property
    def command(self) -> str:
        """As one writes it in a shell."""
        return shlex.join(["aegis", "run", *self.arguments])

    def write(self, folder: Path) -> None:
        """Keeps it in the sweep's folder; a disk that takes nothing more is no reason to stop."""
        with contextlib.suppress(OSError):
            write_atomically({folder / FILE: json.dumps(asdict(self), indent=1).encode()})


def begin(arguments: Sequence[str], *, resumed: bool) -> Plan:
    """The plan of a sweep that begins now."""
    return Plan(list(arguments), datetime.now(UTC).isoformat(timespec="seconds"), resumed)


def read(folder: Path) -> Plan | None:
    """The plan in a folder; None where there is none that can be read."""
    try:
        found = json.loads((folder / FILE).read_text())
        return Plan([str(each) for each in found["arguments"]], str(found["started"]), found["resumed"] is True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


# -- the command line -------------------------------------------------------------------------------------------------


def is_sweep(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for several trials, and for them to run."""
    asked = set(arguments)
    return bool({"-m", "--multirun"} & asked) and not {"--cfg", "-c", "--help", "--hydra-help", "--info"} & asked


def for_optuna(arguments: Sequence[str]) -> list[str]:
    """The arguments with what AEGIS knows better than Optuna's defaults: direction, one trial after the other, a seed.

    With a seed the same trials are proposed again, so that a sweep that is resumed meets those that it has. What the user wrote
    stays.

    Raises:
        ConfigError: the user's direction contradicts ``sweep.direction``.
    """
    if _OPTUNA not in arguments or not is_sweep(arguments):
        return list(arguments)
    own, where = _without_folder(arguments)
    cfg = compose(None, [a for a in _plain(own) if not _is_search(a)], where)
    given = {a.partition("=")[0]: a.partition("=")[2] for a in arguments}
    direction = given.get("hydra.sweeper.direction", cfg.sweep.direction)
    if direction != cfg.sweep.direction:
        raise ConfigError(
            "hydra.sweeper.direction",
            f"is {direction}, and sweep.direction={cfg.sweep.direction} for {cfg.sweep.objective}; leave it out",
        )
    wanted = {"hydra.sweeper.direction": direction, "hydra.sweeper.n_jobs": "1"}
    if given.get("hydra/sweeper/sampler", "tpe") in ("tpe", "random", "cmaes", "nsgaii", "motpe"):
        wanted["hydra.sweeper.sampler.seed"] = str(cfg.seed % 2**32)
    return [*arguments, *(f"{key}={each}" for key, each in wanted.items() if key not in given)]


def _plain(arguments: Sequence[str]) -> list[str]:
    return [a for a in arguments if not a.startswith("-") and not a.startswith(("hydra.", "hydra/"))]


def _without_folder(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments without the folder of one's own experiments (``--config-dir``), and that folder."""
    kept, where, waits = [], None, False
    for one in arguments:
        if waits or one.startswith("--config-dir="):
            where, waits = one.removeprefix("--config-dir="), False
        elif one in ("--config-dir", "-cd"):
            waits = True
        else:
            kept.append(one)
    return kept, where


def _is_search(override: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (parsed,) = OverridesParser.create().parse_overrides([override])
    return bool(parsed.is_sweep_override())


# -- what it will cost ------------------------------------------------------------------------------------------------


def configurations(arguments: Sequence[str]) -> list[Config]:
    """The configurations of a sweep; for Optuna, its dearest one as often as there are trials.

    The dearest is looked for at the ends of each range: cost only rises or only falls with each key that has one.

    Raises:
        ValueError: they cannot be told beforehand; says why.
        ConfigError: one is refused.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    arguments, where = _without_folder(arguments)
    others = [
        a for a in arguments if a.startswith(("hydra/sweeper=", "hydra.sweeper.params", "--config", "-cd", "-cn"))
    ]
    if any(a != _OPTUNA for a in others):
        raise ValueError("its trials are not known beforehand")
    overrides = _plain(arguments)
    parsed = OverridesParser.create().parse_overrides(overrides)
    if _OPTUNA not in arguments:
        batches = [batch for part in BasicSweeper.split_arguments(parsed, None) for batch in part]
        return [compose(None, list(batch), where) for batch in _few(batches)]
    corners = [list(each) for each in itertools.product(*(list(_ends(one)) for one in parsed))]
    found = [compose(None, corner, where) for corner in _few(corners)]
    count = next((int(a.partition("=")[2]) for a in arguments if a.startswith("hydra.sweeper.n_trials=")), _TRIALS)
    return [max(found, key=_cost)] * count


def _few(found: list[Any]) -> list[Any]:
    if len(found) > _MOST:
        raise ValueError(f"there are {len(found)} trials")
    return found


def _ends(override: Any) -> Iterator[str]:
    """An override as it is, or with each choice, or with both ends of its range."""
    if not override.is_sweep_override():
        yield override.input_line
        return
    key = override.get_key_element()
    if override.is_interval_sweep():
        swept = override.value()
        values: list[Any] = [swept.start, swept.end]
    else:
        values = list(override.sweep_string_iterator())
    for each in values:
        yield f"{key}={each}"


def _cost(cfg: Config) -> float:
    from aegis_flower.ledger import epsilon
    from aegis_flower.mechanism import RoundMechanism
    from aegis_flower.server import noise_multiplier

    if cfg.privacy.mode == "off":
        return 0.0
    one = RoundMechanism.of(cfg.privacy, noise_multiplier(cfg)).step
    return epsilon({one: cfg.total_steps}, cfg.policy.delta)


def lasts(arguments: Sequence[str]) -> bool:
    """Whether the budget that a sweep spends is there afterwards: that of vaults of its own ends with its folder."""
    return any(a.startswith("vault.root=") or a in ("runtime=deployment", "runtime.kind=deployment") for a in arguments)

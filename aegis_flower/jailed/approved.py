"""Approved: what a node must know of an approval to run an app, and what its operator lets the app have."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, Self

from aegis_flower.errors import AppError, NodeError

ANY, BLOCKS = "any", "blocks"
# What each trust mode noises: `privacy.mode` of the same run.
MECHANISMS: Final = {ANY: "update", BLOCKS: "blocks"}
FORMATS: Final = ("npz", "arrow", "csv")
_ENTRY: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


class Approved(Protocol):
    """An approval of an app, as far as running it goes: `aegis_flower.approval.Approval`."""

    @property
    def fab_hash(self) -> str:
        """SHA-256 of the app, 64 hexadecimal digits; every permit has it."""

    @property
    def dataset(self) -> str | None:
        """Name of the data set it is for; None for any of the node."""

    @property
    def mode(self) -> str:
        """The trust mode."""

    @property
    def purpose(self) -> str:
        """What the app may use the data for."""


@dataclass(frozen=True)
class Options:
    """What the node's operator lets an app have. None of it changes the guarantee; all of it is public.

    Attributes:
        entry: ``module:function`` of the app, called as a jail's task is (`aegis_flower.jail.Work`). Empty: the Flower
            ``ClientApp`` that the app's ``pyproject.toml`` names.
        preload: modules that the warm parent imports, so that tasks start quickly. Trusted: they see no row. Empty:
            those of numpy, Flower, torch and scikit-learn that are installed.
        readable: further files and folders that the app may read.
        seconds: of wall time that a task of ``any`` may take.
        block_seconds: of wall time that each block's task may take. The blocks of a round start at fixed times, so a round takes
            so long times their number, whatever the data are.
        memory: bytes of address space of a task.
        threads: of a task.
        files: form of the data for a Flower app: ``npz``, ``arrow`` or ``csv``.
        node_config: the app's own entries of its ``context.node_config``.
        overrides: the experiment of this node as Hydra's overrides, in place of what the run config says of it.
    """

    entry: str = ""
    preload: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    seconds: float = 600.0
    block_seconds: float = 2.0
    memory: int = 8 << 30
    threads: int = 16
    files: str = "npz"
    node_config: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("seconds", self.seconds, 0.01, 86_400.0),
            ("block_seconds", self.block_seconds, 0.01, 3600.0),
            ("memory", self.memory, 64 << 20, 1 << 42),
            ("threads", self.threads, 1, 4096),
        ):
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise NodeError(f"{name} = {value!r} of a jailed app must be a number from {least:g} to {most:g}")
        if self.files not in FORMATS:
            raise NodeError(f"files = {self.files!r} of a jailed app must be one of {', '.join(FORMATS)}")
        if self.entry and not _ENTRY.fullmatch(self.entry):
            raise NodeError(f"entry = {self.entry!r} of a jailed app must be module:function")

    @classmethod
    def of(cls, given: Options | Mapping[str, Any]) -> Self | Options:
        """Options of a mapping, such as a table of ``node.toml``; lists become tuples.

        Raises:
            NodeError: a key that there is not, or a value that it does not take.
        """
        if isinstance(given, Options):
            return given
        known = {each.name for each in dataclasses.fields(cls)}
        for key in given:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
                raise NodeError(f"{key!r} is no option of a jailed app; {hint}")
        made: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        return cls(**made)


def flower_entry(app: Path) -> str:
    """``module:attribute`` of a Flower app's ``ClientApp``, as its ``pyproject.toml`` says; no code of it runs.

    Raises:
        AppError: there is none.
    """
    file = app / "pyproject.toml"
    try:
        said = tomllib.loads(file.read_text("utf-8"))
        entry = said["tool"]["flwr"]["app"]["components"]["clientapp"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AppError(
            f"{file} names no ClientApp ([tool.flwr.app.components] clientapp): {type(error).__name__}"
        ) from None
    if not isinstance(entry, str) or not _ENTRY.fullmatch(entry):
        raise AppError(f"{file} names {entry!r:.200} as ClientApp; it must be module:attribute")
    return entry

"""Answers: what this node says to a message, and who says it. Every answer goes through the door.

    message ─► configuration ─► approval by hash ─► a step of the protocol? ─► this process, with neither app nor torch
               (the server's word)  (else: inbox)    work?                  ─► what the approval's mode says, in the jail

Nothing of a bundle is unpacked before its hash is approved for the data set and the purpose that the run names.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flwr.app import Message

from aegis_flower import approval, door
from aegis_flower.approval import Approval, Approvals, Inbox
from aegis_flower.client.app import aegis_client_app
from aegis_flower.configs import CARRIED, EXPERIMENT, OVERRIDES, Config, from_run_config
from aegis_flower.door import DoorApp
from aegis_flower.errors import AegisError, AppNotApproved, BadBundle, ConfigError, Interrupted
from aegis_flower.jailed import close_jails
from aegis_flower.node import node as nodes
from aegis_flower.service import flower
from aegis_flower.service.control import Control
from aegis_flower.service.flower import Given
from aegis_flower.service.settings import Settings
from aegis_flower.service.work import WorkOptions, client_app
from aegis_flower.steps import Step

PROTOCOL: Final = frozenset(step.message_type for step in Step if step.protocol and step is not Step.MASKED)
_OVERRIDE: Final = re.compile(r"[a-z][a-z0-9_.]*=.*", re.DOTALL)
_LONGEST: Final = 1 << 20


class Halt:
    """Why a task must end before it is done. Its first reason stays.

    Attributes:
        event: set when it must.
        error: what the server is answered then, by its code.
        approval: by which the task runs; None before it is found.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.error: AegisError | None = None
        self.approval: Approval | None = None

    def set(self, error: AegisError) -> None:
        """Ends the task."""
        if not self.event.is_set():
            self.error = error
            self.event.set()

    def check(self) -> None:
        """Raises the reason, where there is one."""
        if self.event.is_set():
            raise self.error or Interrupted("the task was ended")


@dataclass(frozen=True)
class _Run:
    """What a run's configuration comes to; kept while its messages come."""

    config: Config
    protocol: DoorApp


class Answers:
    """Answers messages, one at a time.

    Guarantees:
        - No byte of an app is unpacked or run before its hash is approved.
        - Steps of the protocol import neither the app nor torch.
        - What is returned is a release, a message of the protocol or a code; a code alone when the task was halted meanwhile.
    """

    def __init__(self, settings: Settings, control: Control) -> None:
        self._settings = settings
        self._approvals = Approvals(settings.approvals, settings.signer, control.file("approvals.newest"))
        self._inbox = Inbox(control.file("inbox"))
        self._apps = control.file("apps")

    @property
    def waiting(self) -> int:
        """Runs in the inbox."""
        return len(self._inbox.waiting())

    def answer(self, given: Given, halt: Halt) -> Message:
        """The reply to a message.

        Args:
            given: what the SuperNode gave.
            halt: says when to stop; it gets the approval, to hold it against the operator's list while the task runs.
        """
        message = given.message
        context = flower.context(given, dict(self._settings.node))
        nodes.current.set(None)
        try:
            halt.check()
            run = _run(_frozen(given.run_config))
            found = self._approved(given, run.config)
            halt.approval = found
            protocol = message.metadata.message_type in PROTOCOL
            app = run.protocol if protocol else self._app(found, given.fab, run.config, halt)
            with nodes.running(given.fab_hash):
                reply = app(message, context)
            if not self._approvals.still(found):
                halt.set(AppNotApproved("the app's approval was taken back while it worked"))
            halt.check()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of the engine is a refusal, too
            return door.refuse(error, message, context)
        return reply

    def _approved(self, given: Given, cfg: Config) -> Approval:
        dataset = self._settings.dataset or cfg.data.name
        try:
            return self._approvals.find(given.fab_hash, dataset, cfg.policy.purpose, time.time())
        except AppNotApproved:
            with contextlib.suppress(BadBundle, OSError):  # refused all the same
                self._inbox.ask(given.run_id, given.fab_hash, given.fab, given.run_config)
            raise

    def still(self, found: Approval) -> bool:
        """Whether an approval counts now."""
        return self._approvals.still(found)

    def _app(self, found: Approval, fab: bytes, cfg: Config, halt: Halt) -> DoorApp:
        folder = self._unpacked(found.fab_hash, fab)
        return client_app(found, folder, WorkOptions(cfg, self._settings.app, halt.event))

    def _unpacked(self, fab_hash: str, fab: bytes) -> Path:
        """The app's folder; made once for each hash, whole or not at all. Those of other apps go."""
        target = self._apps / fab_hash
        if not target.is_dir():
            close_jails()  # of the apps that go
            shutil.rmtree(self._apps, ignore_errors=True)
            self._apps.mkdir(mode=0o700)
            draft = self._apps / "draft"
            draft.mkdir(mode=0o700)
            approval.unpack(fab, draft)
            draft.rename(target)
        return target


def _frozen(run_config: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found = tuple((key, str(run_config.get(key, "") or "")) for key in (CARRIED, EXPERIMENT, OVERRIDES))
    if sum(len(value) for _, value in found) > _LONGEST:
        raise ConfigError("", "the run configuration is longer than any configuration is")
    return found


@functools.lru_cache(maxsize=16)
def _run(frozen: tuple[tuple[str, str], ...]) -> _Run:
    """A run's configuration, of words that come from the server: keys and values alone, nothing that reads the machine.

    Raises:
        ConfigError: it cannot be read, or asks for more than keys and values.
    """
    given = dict(frozen)
    if "${" in given[EXPERIMENT] + given[OVERRIDES]:
        raise ConfigError(
            OVERRIDES, "has ${...}, which this node would fill in with its own environment; write the value"
        )
    if given[EXPERIMENT] and re.fullmatch(r"[A-Za-z0-9_-]+", given[EXPERIMENT]) is None:
        raise ConfigError(EXPERIMENT, "is no name of an experiment")
    try:
        words = shlex.split(given[OVERRIDES])
    except ValueError as error:
        raise ConfigError(OVERRIDES, f"not words of a command line ({error})") from None
    for word in words:
        if _OVERRIDE.fullmatch(word) is None or word.startswith("hydra"):
            raise ConfigError(OVERRIDES, f"{word[:80]!r} is no KEY=VALUE of an experiment, and a node takes no others")
    cfg = from_run_config(given)[0]
    for name in cfg.evaluation.metrics or ():
        if "." in name:
            raise ConfigError(
                "evaluation.metrics",
                f"{name!r:.80} would be imported into the node's own process; name a metric that AEGIS has",
            )
    return _Run(cfg, aegis_client_app(config=cfg))

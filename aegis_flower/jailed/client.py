"""The client whose app trains in a jail. The app gets rows and gives an array; permit, budget, clip, noise and release are here.

torch is never imported in this process.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from flwr.app import Context

from aegis_engine import Permit
from aegis_flower import whole_update
from aegis_flower.client import VaultClient
from aegis_flower.client.vault_client import Trained
from aegis_flower.configs import Config
from aegis_flower.errors import AppError, DataMismatch, OutsideTerms
from aegis_flower.features import plan_of
from aegis_flower.jail import Limits
from aegis_flower.jailed import blocks, own, rows, tasks
from aegis_flower.jailed.approved import BLOCKS, MECHANISMS, Approved, Options, flower_entry
from aegis_flower.jailed.pool import Place, jail_of
from aegis_flower.ledger import RoundMechanism, RoundReservation
from aegis_flower.node.node import Node, running
from aegis_flower.weights import NDArrays, apply_update

log = logging.getLogger("aegis")
FLOWER = "aegis_flower.jailed.flower_app:train"
_MINUTE = 60.0
_NO_EVALUATION = (
    "the app of this node runs in a jail (trust mode {}), where nothing counts held-out rows: ask for no evaluation of the "
    "nodes (evaluation.rounds=never; in Flower's own strategies fraction_evaluate=0), and measure the model on public rows of "
    "the server (evaluation.server)"
)


@dataclass(frozen=True)
class TrainedInJail:
    """What a node's own log and tests may know of a round; the number of blocks that trained is not in it.

    Attributes:
        rows: rows the permit allowed.
        blocks: how many blocks there are; 0 in the mode ``any``.
    """

    rows: int
    blocks: int


class JailedClient(VaultClient):
    """A `VaultClient` whose training is somebody else's code in a jail (`aegis_flower.jail`), whatever that does.

    Guarantees, against an app that does what it likes:
        - It reads the rows of a permit (of one block of people in the mode ``blocks``), and leaves one array. That is clipped,
          and noised by the engine for twice the clip: what leaves is private for all data of the node (``any``) or of a person
          (``blocks``), as docs/PRIVACY.md sections 7 and 8 say.
        - An app that crashes, is late or gives other shapes counts as no change. The server sees an answer like any other.

    Not guaranteed: what a kernel with a fault, the caches of the processor and, in the mode ``any``, the time of an answer tell.

    Args:
        node: the open node.
        config: the experiment.
        context: Flower's context of this node and run.
        approval: the app's.
        app: its folder, unpacked.
        options: of the node's operator.
        halted: set when whatever runs must end at once, such as after a revocation.
    """

    torch_model: ClassVar[bool] = False  # type: ignore[misc]

    def __init__(
        self,
        node: Node,
        config: Config,
        context: Context,
        *,
        approval: Approved,
        app: Path,
        options: Options,
        halted: threading.Event | None = None,
    ) -> None:
        super().__init__(node, config, context)
        self.approval, self.options, self.halted = approval, options, halted
        self.pace = blocks.PACE
        self._began = self.pace.clock()
        self._place = Place(app, node.config.vault.resolve(), options.preload, options.readable)
        self._entry = options.entry or FLOWER

    # -- what is asked, before anything is charged -------------------------------------------------------------------------------

    def preflight(self, parameters: NDArrays, *, trains: bool, evaluates: bool) -> None:
        """Refuses what a jail cannot do; reads and charges nothing, and runs nothing of the app.

        Raises:
            AppError: the approval is for another mechanism or purpose, or the app names no entry.
            OutsideTerms: an evaluation was asked for, or a round takes longer than its permit lasts.
        """
        self._check_approval()
        if evaluates and self.node.has_holdout:
            raise OutsideTerms(_NO_EVALUATION.format(self.approval.mode))
        if not trains:
            return
        plan = plan_of(self.spec)
        if plan is not None and plan.weight is not None:
            raise DataMismatch(
                f"the feature plan weighs records by {plan.weight.column!r}, and an app in a jail trains by itself, where "
                "nothing multiplies a record's loss by its weight; take weight out of the plan"
            )
        if not self.options.entry:
            flower_entry(self._place.app)
        p, minutes = self.config.privacy, self.config.policy.permit_minutes
        if p.mode == "blocks":
            lasts = blocks.lasts(p.blocks, self.options.block_seconds)
            if lasts > minutes * _MINUTE:
                raise OutsideTerms(
                    f"{p.blocks} blocks of {self.options.block_seconds:g} s take {lasts:.0f} s, and a permit lasts "
                    f"policy.permit_minutes={minutes:g}; raise it, or lower block_seconds or privacy.blocks"
                )

    def _check_approval(self) -> None:
        mode, wanted = self.approval.mode, MECHANISMS.get(self.approval.mode)
        if wanted is None:
            raise AppError(
                f"the approval's mode {mode!r} runs in no jail of this kind; there are {', '.join(MECHANISMS)}"
            )
        if self.config.privacy.mode != wanted:
            raise AppError(
                f"the app is approved for the trust mode {mode}, whose mechanism is privacy.mode={wanted}; this run has "
                f"privacy.mode={self.config.privacy.mode}: in a jail the engine clips and noises what comes back whole"
            )
        if self.approval.dataset not in (None, self.node.config.dataset):
            raise AppError(
                f"the app is approved for the data set {self.approval.dataset!r}, this node has {self.node.config.dataset!r}"
            )
        if self.config.policy.purpose != self.approval.purpose:
            raise AppError(
                f"the app is approved for the purpose {self.approval.purpose!r}, this run asks for "
                f"{self.config.policy.purpose!r}"
            )

    def authorize(self, action: str, round_: int, *, holdout: bool = False) -> Permit:
        """As `VaultClient.authorize`; the permit, the policies' request and the audit record have the approved app's hash."""
        with running(self.approval.fab_hash):
            return super().authorize(action, round_, holdout=holdout)

    # -- a round -----------------------------------------------------------------------------------------------------------------

    def train_round(self, parameters: NDArrays, round_: int, noise_multiplier: float) -> Trained:
        """Permit, then budget, then rows, then the jail; the engine clips and noises what comes back.

        Raises:
            PolicyDenied, OutsideTerms, BudgetExceeded: as `VaultClient.train_round`; nothing was read.
            JailError: the jail failed; nothing leaves, what was charged stays charged.
        """
        permit, self._permit = self._permit or self._permitted("train", round_), None
        mechanism = RoundMechanism.of(self.config.privacy, noise_multiplier)
        # Before a charge: a machine without a layer says so here, and the warm parent is up when the time counts.
        with jail_of(self._place, self.halted) as jail:
            reservation = self.node.ledger_of(permit.object, permit.facts).reserve_round(
                mechanism,
                run=str(self.context.run_id),
                round_=round_,
                delta=self.config.privacy.delta,
                budget=permit.facts["budget_epsilon"],
            )
            asked = self._asked(parameters, round_)
            train = self._in_blocks if self.approval.mode == BLOCKS else self._at_once
            freed, session = train(jail, asked, permit, reservation)
        self._say_if_cut(freed)
        return Trained(
            parameters,
            apply_update(parameters, freed),
            permit,
            TrainedInJail(permit.rows, mechanism.blocks),  # type: ignore[arg-type]  # nothing reads more of it
            self.config.privacy.noise,
            reservation,
            session=session,
            noised=freed,
        )

    def _at_once(self, jail: Any, asked: tasks.Asked, permit: Permit, reservation: RoundReservation) -> Any:
        """All rows in one task; the whole update is noised."""
        session = whole_update.session(permit, reservation, asked.size, self._insecure_seed(permit.round))
        data = rows.read(self.node.vault, permit, self.spec)
        try:
            update = tasks.run(jail, asked, data, self._limits(data), self._named(permit))
        finally:
            rows.clear(data)
        before = [np.zeros(asked.size, np.float32)]
        after = before if update is None else [update]
        freed = whole_update.noised(before, after, [True], session, reservation.mechanism.clip)
        return freed, session

    def _in_blocks(self, jail: Any, asked: tasks.Asked, permit: Permit, reservation: RoundReservation) -> Any:
        """A task for each block of people; the sum of their clipped updates is noised."""
        mechanism = reservation.mechanism
        session = whole_update.session(permit, reservation, asked.size, self._insecure_seed(permit.round))
        chosen = blocks.places(self.node.vault, permit, mechanism.blocks)
        data = rows.read(self.node.vault, permit, self.spec)
        try:
            limits = blocks.of(self._limits({}), self.options.block_seconds)
            freed = blocks.train(
                jail,
                asked,
                data,
                chosen,
                session,
                limits,
                began=self._began,
                named=f"{self._named(permit)}, ",
                pace=self.pace,
            )
        finally:
            rows.clear(data)
        return freed, session

    def _asked(self, parameters: NDArrays, round_: int) -> tasks.Asked:
        plan = plan_of(self.spec)
        settings: dict[str, Any] = {
            "round": round_,
            "train_config": dict(self.round_config),
            "run_config": dict(self.context.run_config),
            "node_config": dict(self.options.node_config),
            "label": self.spec.label if plan is None else rows.LABEL,
            "classes": self.spec.classes,
            "learning_rate": self.learning_rate,
            "momentum": self.config.model.momentum,
            "steps": self.config.privacy.steps_per_round,
            "files": self.options.files,
            "threads": self.options.threads,
        }
        if self._entry == own.ENTRY:
            settings |= {
                "columns": dict(self.spec.columns),
                "image": self.spec.image,
                "model": dataclasses.asdict(self.config.model),
                "seed": self.config.seed,
            }
        if self._entry == FLOWER:
            settings["clientapp"] = flower_entry(self._place.app)
        names = self.names or [str(i) for i in range(len(parameters))]
        return tasks.Asked(self._entry, tuple(names), parameters, settings)

    def _limits(self, data: rows.Arrays) -> Limits:
        mine = self.options
        size = sum(values.nbytes for values in data.values())
        return Limits(
            seconds=mine.seconds,
            cpu_seconds=max(1, int(mine.seconds * mine.threads)),
            memory=mine.memory,
            threads=mine.threads,
            scratch=(64 << 20) + 4 * size,
        )

    def _named(self, permit: Permit) -> str:
        return f"run {self.context.run_id}, round {permit.round}, the jailed app {self.approval.fab_hash[:12]}"

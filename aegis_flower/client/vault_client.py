"""The client of a vault: what an app overrides to bring its own model. It reads only under a permit, and what it makes
leaves only as a `Release`.

The import of Flower's `NumPyClient`, whose place in Flower is marked as legacy, is in this file alone.

In a deployment each message is a process of its own. torch and Opacus take seconds to import, and only the step that trains
needs them: the modules that know them are imported there.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from flwr.app import Context
from flwr.client import Client, NumPyClient

from aegis_engine import DpSession, Permit, Release, Request, Rng
from aegis_flower import gate, whole_update, wire
from aegis_flower.client import admission, preflight
from aegis_flower.client.local import local_of
from aegis_flower.client.recipe import Recipe
from aegis_flower.configs import Config
from aegis_flower.door import codes_only
from aegis_flower.errors import AppError, OutsideTerms
from aegis_flower.features import plan_of
from aegis_flower.groups import codes
from aegis_flower.ledger import Reservation, RoundMechanism
from aegis_flower.mechanism import without_noise
from aegis_flower.node.node import Node, app_hash
from aegis_flower.weights import NDArrays, apply_update

if TYPE_CHECKING:
    from aegis_flower import train as training

log = logging.getLogger("aegis")


@dataclass(frozen=True)
class Trained:
    """One round's training: weights before and after, and what the gate must know."""

    before: NDArrays
    after: NDArrays
    permit: Permit
    result: training.TrainResult
    dp: str
    reservation: Reservation | None
    session: DpSession | None = field(default=None, kw_only=True)
    noised: npt.NDArray[np.float32] | None = field(default=None, kw_only=True)

    @property
    def update(self) -> npt.NDArray[np.float32]:
        """Flat float32 difference; where the update was noised whole, what the engine gave."""
        if self.noised is not None:
            return self.noised
        with np.errstate(over="ignore", invalid="ignore"):  # the gate makes zeros of what is not finite
            return np.concatenate(
                [np.asarray(a - b, dtype=np.float32).ravel() for a, b in zip(self.after, self.before, strict=True)]
            )


@dataclass(frozen=True)
class Evaluation:
    """Leave to evaluate once: given, and charged where the data ask for it, before a row is read.

    Attributes:
        permit: over the held-out rows.
        counts: their noise, and what it was charged to in the holdout's own ledger; None where exact counts are allowed.
    """

    permit: Permit
    counts: gate.Counts | None = None


class VaultClient(Recipe, NumPyClient):
    """A Flower `NumPyClient` that trains on a vault's stream, under a permit, with differential privacy.

    Subclass it and override `model`, `loss` or `optimizer`, or hand them to `aegis_client_app`. The app is trusted: it sees
    the rows in clear, in the node's own process. What it cannot change is the installed engine: a release needs a permit, a
    reservation, the gates and, where the data ask for it, masks.

    Attributes:
        round_config: settings of the server's message, such as Flower's ``train_config``; read-only.
        round: number of the round, from 1; `learning_rate` has the configured schedule's rate of it.
        names: of the message's arrays, in order.
        default_sigma: σ of a message that names none, such as one of Flower's own strategies.
        torch_model: whether `model`, `loss` and `optimizer` are used. False for a client that overrides `train_round` and
            `evaluate_counts` to work without torch; its model is then not tried on zeros first.

    Args:
        node: the open node (vault, compliance engine).
        config: the experiment.
        context: Flower's context of this node and run.
    """

    def __init__(self, node: Node, config: Config, context: Context) -> None:
        super().__init__(node, config, context)
        self._permit: Permit | None = None
        self.names: tuple[str, ...] = ()
        self.default_sigma = 0.0
        self._evaluation: Evaluation | None = None

    def get_parameters(self, config: dict[str, Any]) -> NDArrays:
        """Initial weights, in the order of the model's parameters."""
        return local_of(self).arrays()

    def fit(self, parameters: NDArrays, config: dict[str, Any]) -> tuple[NDArrays, int, dict[str, Any]]:
        """Trains one round and gives the release in clear. Only data whose terms allow that may be used so."""
        with codes_only("train"):
            asked = wire.Request.plain("train", int(config["round"]), float(config["noise_multiplier"]))
            freed = self.respond(asked, parameters, [str(i) for i in range(len(parameters))], masked=False)
            update = np.frombuffer(freed.update(), dtype=np.float32)
        return apply_update(parameters, update), freed.weight, {}

    def evaluate(self, parameters: NDArrays, config: dict[str, Any]) -> tuple[float, int, dict[str, Any]]:
        """Evaluates on the holdout and gives the release in clear. Only data whose terms allow that may be used so."""
        with codes_only("evaluate"):
            asked = wire.Request.plain("evaluate", int(config["round"]), 0.0)
            found = self.respond(asked, parameters, [], masked=False).metrics()
        whole = self.metrics.whole(found)
        rows = max(1, whole["examples"])
        told = {"accuracy": whole["correct"] / rows} if self.predicts_classes and "correct" in whole else {}
        return whole.get("loss_milli", 0) / 1000 / rows, max(0, int(whole["examples"])), told

    def respond(self, asked: wire.Request, parameters: NDArrays, names: list[str], *, masked: bool) -> Release:
        """Admission, preflight, permits, budget, rows, gates: in this order, whoever asks.

        Args:
            asked: what the message asks for.
            parameters: the model it brought.
            names: of its arrays, in order.
            masked: whether the answer leaves under masks.
        """
        self.round = asked.round
        trains = asked.task == "train"
        evaluates = asked.evaluate or not trains
        admission.admit(self, asked.task, asked.noise_multiplier, evaluates=evaluates, masked=masked)
        self.names = tuple(names)
        self.preflight(parameters, trains=trains, evaluates=evaluates)
        # Every permit before any charge: a refusal of one costs the budget of neither.
        self._permit = self._permitted("train", asked.round) if trains else None
        if evaluates:
            self.prepare_evaluation(asked.round)
        if not trains:
            return self.release_evaluation(parameters, asked.round, secure_aggregation=masked)
        trained = self.train_round(parameters, asked.round, asked.noise_multiplier)
        # After training, so that a refused budget reads nothing; it is the received model that is evaluated.
        counts = self.evaluate_counts(parameters, asked.round)[0] if evaluates else {}
        shapes = [(name, tuple(a.shape)) for name, a in zip(names, parameters, strict=True)]
        return self.release(trained, shapes, counts, secure_aggregation=masked)

    def preflight(self, parameters: NDArrays, *, trains: bool, evaluates: bool) -> None:
        """Refuses what cannot work on this node's data; reads and charges nothing. See `aegis_flower.client.preflight`."""
        preflight.check(self, parameters, trains=trains, evaluates=evaluates)

    def _permitted(self, action: str, round_: int, *, holdout: bool = False) -> Permit:
        """A permit for as many rows and people as the terms ask for at least; the gate would say so, too, but after a charge."""
        permit = self.authorize(action, round_, holdout=holdout)
        terms = permit.facts
        if permit.rows < terms["min_rows"] or permit.subjects < terms["min_subjects"]:
            raise OutsideTerms(
                f"{permit.rows} rows of {permit.subjects} people may be used, the data's terms ask for {terms['min_rows']} rows "
                f"of {terms['min_subjects']} people; nothing was read and nothing charged"
            )
        return permit

    def authorize(self, action: str, round_: int, *, holdout: bool = False) -> Permit:
        """Asks the compliance engine for a permit over the node's data set.

        Raises:
            PolicyDenied: purpose, columns or every row are refused; the refusal is on record.
        """
        policy, plan = self.config.policy, plan_of(self.spec)
        group = [self.config.evaluation.group] if holdout and self.config.evaluation.group else []
        request = Request(
            action=action,
            purpose=policy.purpose,
            # the preflight held one against the other
            columns=list(dict.fromkeys([*plan.reads, *group])) if plan else policy.columns,
            run=str(self.context.run_id),
            round=round_,
            node=self.node.config.name,
            app_hash=app_hash.get(),
            minutes=policy.permit_minutes,
        )
        return self.node.engine.authorize(self.node.dataset(holdout), request)

    def train_round(self, parameters: NDArrays, round_: int, noise_multiplier: float) -> Trained:
        """Permit, then budget, then training: nothing is read before both are given.

        Raises:
            PolicyDenied: no permit.
            OutsideTerms: fewer rows or people than the terms ask for are left.
            BudgetExceeded: the ledger refuses the round.
        """
        from aegis_flower.stream import PermitDataset

        cfg = self.config.privacy
        permit, self._permit = self._permit or self._permitted("train", round_), None
        facts = permit.facts
        local = local_of(self)
        local.load(parameters)
        seed = self._insecure_seed(round_)
        mechanism = RoundMechanism.of(cfg, noise_multiplier)
        reservation = session = None
        if mechanism.private:
            reservation = self.node.ledger_of(permit.object, facts).reserve_round(
                mechanism,
                run=str(self.context.run_id),
                round_=round_,
                delta=cfg.delta,
                budget=facts["budget_epsilon"],
            )
            session = local.session(permit, reservation, seed)
        data = PermitDataset(self.node.vault, permit, self.spec)
        dp = "off" if session is None else cfg.noise
        if mechanism.kind != "update":
            result = local.train(data, mechanism, session or _rng(seed))
            return Trained(parameters, local.arrays(), permit, result, dp, reservation, session=session)
        assert session is not None
        result = local.train(data, without_noise(cfg), _rng(seed))
        freed = whole_update.noised(parameters, local.arrays(), local.trained, session, mechanism.clip)
        self._say_if_cut(freed)
        after = apply_update(parameters, freed)
        return Trained(parameters, after, permit, result, dp, reservation, session=session, noised=freed)

    def _say_if_cut(self, update: npt.NDArray[np.float32]) -> None:
        """The noise of a whole update is long; what the gate cuts off is the update's, too."""
        norm, most = float(np.linalg.norm(update.astype(np.float64))), self.config.strategy.max_norm
        if norm > most:
            log.warning(
                "aegis: the noised update has norm %.3g, and strategy.max_norm=%g scales it down to that: the model learns so "
                "much less per round. Raise strategy.max_norm, or lower privacy.clip",
                norm,
                most,
            )

    def _insecure_seed(self, round_: int) -> int | None:
        """The node's number is in it: noise that all nodes share would not average out."""
        if self.config.privacy.noise != "insecure_test":
            return None
        text = f"{self.config.seed}:{round_}:{self.context.node_id}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    def prepare_evaluation(self, round_: int) -> Evaluation | None:
        """Permit and, where the data ask for it, budget of one evaluation; None where there are no held-out rows.

        Raises:
            PolicyDenied, OutsideTerms, BudgetExceeded: as for `train_round`, by the holdout's own terms and ledger.
        """
        if not self.node.has_holdout:
            return None
        permit = self._permitted("evaluate", round_, holdout=True)
        facts, cfg = permit.facts, self.config
        counts = None
        if admission.counts_are_noised(cfg, facts):
            mechanism = gate.counts_mechanism(cfg, facts["delta"])
            reservation = self.node.ledger_of(permit.object, facts).reserve(
                run=str(self.context.run_id),
                round_=round_,
                mechanism=mechanism,
                steps=1,
                delta=cfg.privacy.delta,
                budget=facts["budget_epsilon"],
            )
            seed = self._insecure_seed(round_)
            counts = gate.Counts(mechanism, reservation, self.metrics.blocks, seed)
        self._evaluation = Evaluation(permit, counts)
        return self._evaluation

    def evaluate_counts(self, parameters: NDArrays, round_: int) -> tuple[dict[str, int], Permit | None]:
        """Exact counts over the holdout rows, by the names of `metrics`; and the permit used. The engine noises them.

        A node without a holdout counts zero rows and needs no permit.
        """
        leave = self._evaluation or self.prepare_evaluation(round_)
        if leave is None:
            return dict.fromkeys(self.metrics.names, 0), None
        from aegis_flower.stream import PermitDataset

        data = PermitDataset(self.node.vault, leave.permit, self.spec)
        local = local_of(self)
        local.load(parameters)
        tally, e = self.metrics.tally(), self.config.evaluation
        own = codes(self.node.vault, leave.permit, e.group, e.groups) if e.group else np.full(len(data), -1)
        at = 0
        for rows in local.judged(data):
            tally.add(rows, own[at : at + len(rows)])
            at += len(rows)
        return tally.counts(), leave.permit

    def release(
        self, trained: Trained, shapes: gate.Shapes, metrics: dict[str, int], *, secure_aggregation: bool
    ) -> Release:
        """Takes update and counts through the release gates and closes the ledgers' entries.

        Raises:
            GateFailed, PolicyDenied: see `aegis_flower.gate.release`.
        """
        cfg, leave = self.config, self._evaluation
        self._evaluation = None
        counts = leave.counts if leave is not None else None
        proposal = gate.Proposal(
            trained.update,
            shapes,
            self.metrics.of(metrics),
            session=trained.session,
            epsilon_total=trained.reservation.epsilon_total if trained.reservation else 0.0,
            counts=counts,
            weight=trained.permit.rows if cfg.secagg.weighting == "rows" else 1,
        )
        limits = gate.Limits(shapes, cfg.strategy.max_norm, cfg.secagg.weight_max, self.metrics.names)
        permits = [trained.permit] if leave is None else [trained.permit, leave.permit]
        freed = gate.release(self.node, permits, proposal, limits, secure_aggregation=secure_aggregation)
        if trained.reservation is not None:
            self._commit(trained.permit, trained.reservation)
        log.info(
            "aegis: run %d, round %d: an update over %d rows for %s is released%s; ε so far %.3f",
            self.context.run_id,
            trained.permit.round,
            trained.permit.rows,
            trained.permit.purpose,
            " for masking" if secure_aggregation else " in clear",
            proposal.epsilon_total,
        )
        if counts is not None and leave is not None:
            self._commit(leave.permit, counts.reservation)
        return freed

    def _commit(self, permit: Permit, reservation: Reservation) -> None:
        """Notes in the ledger of the permit's data set that what was reserved there has left."""
        self.node.ledger_of(permit.object, permit.facts).commit(reservation)

    def release_evaluation(self, parameters: NDArrays, round_: int, *, secure_aggregation: bool) -> Release:
        """Counts over the held-out rows and takes them through the release gates; a node that has none gives zeros.

        Raises:
            GateFailed, PolicyDenied: see `aegis_flower.gate.release`.
        """
        metrics, _ = self.evaluate_counts(parameters, round_)
        leave, self._evaluation = self._evaluation, None
        if leave is None:
            return gate.nothing(self.node, self.metrics.names, secure_aggregation=secure_aggregation)
        empty = gate.Proposal(np.empty(0, np.float32), [], self.metrics.of(metrics), counts=leave.counts)
        limits = gate.Limits([], self.config.strategy.max_norm, self.config.secagg.weight_max, self.metrics.names)
        freed = gate.release(self.node, leave.permit, empty, limits, secure_aggregation=secure_aggregation)
        if leave.counts is not None:
            self._commit(leave.permit, leave.counts.reservation)
        return freed


def _rng(seed: int | None) -> Rng:
    return Rng() if seed is None else Rng.insecure_test(seed)


def numpy_client(made: object) -> NumPyClient:
    """What a client function returned, as the `NumPyClient` that it must be.

    Raises:
        AppError: it is something else.
    """
    if isinstance(made, NumPyClient):
        return made
    inner = getattr(made, "numpy_client", None)  # NumPyClient.to_client() keeps the original there
    if isinstance(made, Client) and isinstance(inner, NumPyClient):
        return inner
    raise AppError(f"the client function returned a {type(made).__name__}; return a NumPyClient (or its .to_client())")

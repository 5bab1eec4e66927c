"""Flower's SecAgg+ for `secagg.py`: its own `secaggplus_mod` and `SecAggPlusWorkflow` stages, called in this process.

The grid hands copies of the messages to the mod and times itself, so that a stage's time less the grid's is the server's. The
strategy takes the mean as it comes: an optimiser's own averaging over results is left out, as it is for ours. Weights are all
`max_weight`, the rest of the settings Flower's defaults (clip 8, 2^22 steps, modulus 2^32).
"""

from __future__ import annotations

import copy
import itertools
import logging
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.client.mod.secure_aggregation.secaggplus_mod import SecAggPlusState
from flwr.common import (
    Code,
    FitIns,
    FitRes,
    Parameters,
    Status,
    ndarray_to_bytes,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.common.secure_aggregation.crypto.symmetric_encryption import encrypt, generate_shared_key
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, RECORD_KEY_STATE, Key, Stage
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen, share_keys_plaintext_concat
from flwr.compat.common import recorddict_compat as compat
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import SecAggPlusWorkflow, WorkflowState
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key
from flwr.supercore.task_identity import TaskIdentity
from secagg_measure import Failed, Meter, Peak, difference, lost_of, measured, vectors

WEIGHT = 1000  # the workflow's default `max_weight`
STAGES = {"advertise": Stage.SETUP, "share": Stage.SHARE_KEYS, "masked": Stage.COLLECT_MASKED_VECTORS}
STAGES["unmask"] = Stage.UNMASK
log = logging.getLogger("flwr")


class LastError(logging.Handler):
    """What Flower logged last, the reason of a stage that returns False."""

    text = "a stage returned False"

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


REASON = LastError(logging.ERROR)
log.handlers = [REASON]
log.setLevel(logging.ERROR)
TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # messages are made only where a run is known


def trained(update: np.ndarray) -> RecordDict:
    """What a ClientApp replies to a fit instruction."""
    result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([update]), WEIGHT, {})
    return compat.fitres_to_recorddict(result, keep_input=False)


class Client:
    def __init__(self, node: int) -> None:
        self.context = Context(1, node, {}, RecordDict(), {})

    def answer(self, message: Message, content: RecordDict) -> Message:
        return secaggplus_mod(message, self.context, lambda asked, _: Message(content, reply_to=asked))

    @property
    def state(self) -> ConfigRecord:
        return self.context.state.config_records[RECORD_KEY_STATE]


class Mean:
    """A strategy that sends nothing down and takes the mean as it comes."""

    mean: np.ndarray

    def __init__(self, nodes: Iterable[int]) -> None:
        self.nodes = nodes

    def configure_fit(self, *_: object) -> list[tuple[Any, FitIns]]:
        return [(Proxy(node), FitIns(Parameters([], ""), {})) for node in self.nodes]

    def aggregate_fit(self, _: int, results: list[tuple[Any, FitRes]], failures: object) -> tuple[None, dict[str, Any]]:
        self.mean = parameters_to_ndarrays(results[0][1].parameters)[0]
        return None, {}


class Proxy:
    def __init__(self, node: int) -> None:
        self.node_id = node


class Available:
    """In place of a client manager."""

    def num_available(self) -> int:
        return 0


class Grid:
    """Hands messages to the clients, in the order of their ids."""

    def __init__(self, clients: dict[int, Client]) -> None:
        self.clients = clients
        self.updates = [np.zeros(1, np.float32)] * 2
        self.lose: dict[str, set[int]] = {}  # who does not answer, by stage
        self.masked: Iterator[list[bytes]] | None = None  # vectors in place of those the clients send
        self.trips = 0
        self.time = Meter()

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        self.trips += 1
        with self.time:
            ordered = sorted(messages, key=lambda message: message.metadata.dst_node_id)
            return [reply for reply in map(self.one, ordered) if reply is not None]

    def one(self, message: Message) -> Message | None:
        message, node = copy.deepcopy(message), message.metadata.dst_node_id
        stage = stage_of(message)
        if node in self.lose.get(stage, ()):
            return None
        try:
            reply = self.clients[node].answer(message, trained(self.updates[node % 2]))
        except (KeyError, ValueError):  # an error reply, which the workflow leaves out as it does one that never came
            return None
        if self.masked is not None and stage == Stage.COLLECT_MASKED_VECTORS:
            configs(reply)[Key.MASKED_PARAMETERS] = next(self.masked)
        return reply


def configs(message: Message) -> Any:
    return message.content.config_records[RECORD_KEY_CONFIGS]


def stage_of(message: Message) -> str:
    return str(configs(message)[Key.STAGE])


class Cohort:
    """n clients and the workflow, one stage at a time."""

    def __init__(self, n: int, shares: int, threshold: int) -> None:
        random.seed(n)  # the workflow shuffles the ring of neighbours
        self.clients = {node: Client(node) for node in range(1, n + 1)}
        self.grid = Grid(self.clients)
        self.strategy = Mean(self.clients)
        self.workflow = SecAggPlusWorkflow(shares, threshold)
        kept = RecordDict({MAIN_CONFIGS_RECORD: ConfigRecord({"current_round": 1}), MAIN_PARAMS_RECORD: ArrayRecord()})
        self.context = LegacyContext(Context(1, 0, {}, kept, {}), None, self.strategy, Available())  # type: ignore[arg-type]
        self.state = WorkflowState()

    def stage(self, name: str) -> Meter:
        """Runs a stage; gives the server's own share of the time.

        Raises:
            Failed: the stage gave up; with what Flower logged.
        """
        server, outside = Meter(), copy.copy(self.grid.time)
        with server:
            good = getattr(self.workflow, f"{name}_stage")(self.grid, self.context, self.state)
        if not good:
            raise Failed(f"aborts: {REASON.text}")
        server.cpu -= self.grid.time.cpu - outside.cpu
        server.wall -= self.grid.time.wall - outside.wall
        return server

    def run(self) -> np.ndarray:
        """All stages; gives the mean."""
        for name in ("setup", "share_keys", "collect_masked_vectors", "unmask"):
            self.stage(name)
        return self.strategy.mean


def shared(n: int, shares: int, threshold: int) -> Cohort:
    """A cohort after its share step, to be handed to `unmask`."""
    cohort = Cohort(n, shares, threshold)
    cohort.stage("setup")
    cohort.stage("share_keys")
    return cohort


def masked_total(cohort: Cohort, updates: list[np.ndarray], lost: set[int]) -> list[bytes]:
    """What the survivors' masked vectors add up to, made from the masks that stay in the sum, with Flower's functions."""
    workflow, state = cohort.workflow, cohort.state
    survivors = sorted(set(cohort.clients) - lost)
    shapes = [(1,), updates[0].shape]
    factor = np.full(1, len(survivors) * workflow.quantization_range, np.int64)
    vector = np.zeros(updates[0].shape, np.int64)
    for kind, update in enumerate(updates):
        count = sum(node % 2 == kind for node in survivors)
        vector += quantize([update], workflow.clipping_range, workflow.quantization_range)[0].astype(np.int64) * count

    def add(seed: bytes, sign: int) -> None:
        for total, mask in zip((factor, vector), pseudo_rand_gen(seed, workflow.modulus_range, shapes), strict=True):
            np.add(total, mask, out=total) if sign > 0 else np.subtract(total, mask, out=total)

    for node in survivors:
        add(cohort.clients[node].state["rd_seed"], 1)
    for gone in lost:
        public = bytes_to_public_key(state.nid_to_publickeys[gone][0])
        for node in state.nid_to_neighbours[gone] - lost:
            key = generate_shared_key(bytes_to_private_key(cohort.clients[node].state["sk1"]), public)
            add(key, 1 if node > gone else -1)
    return [ndarray_to_bytes(part & (workflow.modulus_range - 1)) for part in (factor, vector)]


def unmask(cohort: Cohort, dim: int, percent: int, *, real: bool) -> dict[str, Any]:
    """Costs of the server from the masked vectors on, with so many clients lost before they send one.

    With `real` every client masks the update. Without, for vectors that would take hours, clients mask one value, and the
    server gets in their place the sum that the survivors' vectors would have, and zeros: as many vectors of the same length.
    The mean is right either way, and is checked.
    """
    updates, lost = vectors(dim), lost_of(len(cohort.clients), percent)
    cohort.grid.lose = {Stage.COLLECT_MASKED_VECTORS: lost}
    if real:
        cohort.grid.updates = updates
    else:
        zeros = [ndarray_to_bytes(np.zeros(size, np.int64)) for size in (1, dim)]
        total = masked_total(cohort, updates, lost)
        cohort.grid.masked = itertools.chain([total], itertools.repeat(zeros))
    summing = cohort.stage("collect_masked_vectors")
    with Peak() as peak:
        server = cohort.stage("unmask")
    survivors = sorted(set(cohort.clients) - lost)
    off = difference(cohort.strategy.mean, survivors, updates)
    assert off < 1e-5, f"the mean is off by {off}"
    return measured(server, summing, peak, off)


class OneClient:
    """Client 1 of a complete graph, at its share step and its masked step: the workflow's messages, its own state.

    Its peers set up in earnest. In place of a share step each, which the client could not tell apart, they seal shares of
    the right length for it with Flower's functions.
    """

    def __init__(self, shares: int, threshold: int) -> None:
        cohort = Cohort(shares, shares, threshold)
        cohort.stage("setup")
        self.asked: dict[str, tuple[Message, Context]] = {}
        clients, answer = cohort.clients, cohort.grid.one

        def one(message: Message) -> Message | None:
            node, stage = message.metadata.dst_node_id, stage_of(message)
            if node == 1:
                self.asked[stage] = copy.deepcopy(message), copy.deepcopy(clients[1].context)
                return answer(message) if stage == Stage.SHARE_KEYS else None
            return self._sealed(message, clients) if stage == Stage.SHARE_KEYS else None

        cohort.grid.one = one  # type: ignore[method-assign]
        cohort.stage("share_keys")
        cohort.workflow.collect_masked_vectors_stage(cohort.grid, cohort.context, cohort.state)  # type: ignore[arg-type]

    def _sealed(self, message: Message, clients: dict[int, Client]) -> Message:
        node, mine = message.metadata.dst_node_id, SecAggPlusState(**clients[1].state)
        secret = bytes_to_private_key(clients[node].state["sk2"])
        key = generate_shared_key(secret, bytes_to_public_key(configs(message)["1"][1]))
        plain = share_keys_plaintext_concat(node, 1, mine.rd_seed_share_dict[1], mine.sk1_share_dict[1])
        sealed = {Key.DESTINATION_LIST: [1], Key.CIPHERTEXT_LIST: [encrypt(key, plain)]}
        return Message(RecordDict({RECORD_KEY_CONFIGS: ConfigRecord(sealed)}), reply_to=message)

    def _again(self, stage: str) -> tuple[Client, Message]:
        message, context = copy.deepcopy(self.asked[stage])
        client = Client(1)
        client.context = context
        return client, message

    def share(self) -> dict[str, Any]:
        client, message = self._again(Stage.SHARE_KEYS)
        with Meter() as meter:
            reply = client.answer(message, RecordDict())
        return {"cpu": meter.cpu, "bytes": sum(map(len, configs(reply)[Key.CIPHERTEXT_LIST]))}

    def mask(self, dim: int) -> dict[str, Any]:
        """The mod's masked step: decrypts the shares, quantises, masks. `peak` is above what it is handed."""
        client, message = self._again(Stage.COLLECT_MASKED_VECTORS)
        update = vectors(dim)[0]
        with Peak() as before:
            content = trained(update)
        with Peak() as peak, Meter() as meter:
            reply = client.answer(message, content)
        size = sum(map(len, configs(reply)[Key.MASKED_PARAMETERS]))
        return {"cpu": meter.cpu, "bytes": size, "peak": peak.mb, "peak_model": peak.above(before)}


def survives(n: int, shares: int, threshold: int, step: str, percent: int) -> str:
    """A round in which so many are gone from one step on: ``yes``, when there is a mean and it is right."""
    cohort, updates = Cohort(n, shares, threshold), vectors(1000)
    lost = lost_of(n, percent)
    cohort.grid.lose, cohort.grid.updates = {STAGES[step]: lost}, updates
    mean = cohort.run()
    contributors = sorted(set(cohort.clients) - (lost if step != "unmask" else set()))
    assert difference(mean, contributors, updates) < 1e-5
    return "yes"


def exact(n: int, shares: int, threshold: int) -> dict[str, Any]:
    """A whole round of d = 1000 without losses: how far the mean is from the plain one."""
    updates = vectors(1000)
    with Meter() as meter:
        cohort = Cohort(n, shares, threshold)
        cohort.grid.updates = updates
        mean = cohort.run()
    return {"difference": difference(mean, sorted(cohort.clients), updates), "cpu": meter.cpu}


def trips() -> int:
    """Trips of a round; there is no other kind of round."""
    cohort = Cohort(5, 5, 3)
    cohort.run()
    return cohort.grid.trips

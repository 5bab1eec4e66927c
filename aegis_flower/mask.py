"""Mask: the client half of secure aggregation, mapped onto Flower's messages. The cryptography is the engine's."""

from __future__ import annotations

import os
from collections.abc import Sequence

from flwr.app import ConfigRecord, Context

from aegis_engine import Release, SecAggClient
from aegis_flower import gate
from aegis_flower.door import Outgoing
from aegis_flower.errors import SecAggError, StaleState
from aegis_flower.node.memory import Memory
from aegis_flower.node.node import Node

_DOMAIN = "aegis/v2/secagg-state"
_RECORD = "aegis.secagg"
_NONCE = 16
_NOT_ADVERTISED = "this node has not advertised keys in this run; the server must ask for them first"


class Masker:
    """One node's side of the protocol in one run.

    The state lives in ``Context.state`` as a blob sealed by the vault, since each message may get a fresh process. How far
    it has gone is remembered in the vault as well, so a state that somebody puts back is found. A node that keeps its states
    itself (`aegis_flower.node.states`) takes none from Flower and gives it none.

    Guarantees:
        - A masked input is made only from a `Release`.
        - Rounds only go forward; one set of shares a round; one kind of share a peer; also for whoever keeps the state.
        - A state of another run is none: a run begins with fresh keys.
    """

    def __init__(
        self, node: Node, context: Context, weight_max: int = 1, metrics: Sequence[str] = gate.METRICS
    ) -> None:
        self._node, self._context, self._weight_max, self._metrics = node, context, weight_max, metrics
        self._memory = Memory(node.vault, context.run_id, context.node_id)

    @property
    def _aad(self) -> bytes:
        return f"{self._context.run_id}:{self._context.node_id}".encode()

    def _sealed(self) -> bytes | None:
        """The sealed state of this run. Flower hands the state of one run of a series to the next, which begins anew."""
        record = self._context.state.config_records.get(_RECORD)
        if record is None or record.get("of") != self._aad.decode():
            return None
        sealed = record.get("sealed")
        if type(sealed) is not bytes:
            raise StaleState("the protocol state that Flower keeps for this node is damaged; start the run anew")
        return sealed

    def _begun(self) -> bool:
        """Whether this node has a state in this run."""
        if self._node.states is not None:
            return self._node.states.read(self._context.run_id, self._context.node_id) is not None
        return self._sealed() is not None

    def _load(self) -> tuple[SecAggClient, bytes]:
        if self._node.states is not None:
            plain = self._node.states.read(self._context.run_id, self._context.node_id)
            if plain is None:
                raise SecAggError(_NOT_ADVERTISED)
            return SecAggClient.from_bytes(plain[_NONCE:]), plain[:_NONCE]
        sealed = self._sealed()
        if sealed is None:
            raise SecAggError(_NOT_ADVERTISED)
        plain = self._node.vault.open_blob(_DOMAIN, self._aad, sealed)
        nonce, client = plain[:_NONCE], SecAggClient.from_bytes(plain[_NONCE:])
        if not self._memory.is_newest(nonce, client.answers):
            raise StaleState(
                f"the protocol state that Flower keeps for this node in run {self._context.run_id} is not the newest: it was "
                "put back, or the vault was; masks are used once, so start the run anew and look at who keeps the state"
            )
        return client, nonce

    def _store(self, client: SecAggClient, nonce: bytes) -> None:
        if self._node.states is not None:
            self._node.states.keep(self._context.run_id, self._context.node_id, nonce + client.to_bytes())
            return
        self._memory.advance(nonce, client.answers)  # first, so that a crash in between leaves a state that is refused
        sealed = self._node.vault.seal_blob(_DOMAIN, self._aad, nonce + client.to_bytes())
        self._context.state[_RECORD] = ConfigRecord({"of": self._aad.decode(), "sealed": sealed})

    def _answer(self, step: str, request: bytes) -> Outgoing:
        client, nonce = self._load()
        out = Outgoing.protocol(client, step, request)
        self._store(client, nonce)
        return out

    def advertise(self) -> Outgoing:
        """The run's advert; the same one when asked twice."""
        if self._begun():
            return Outgoing.protocol(self._load()[0], "advertise")
        config = self._node.config
        client = SecAggClient(
            self._context.run_id,
            self._context.node_id,
            min_cohort=config.min_cohort,
            min_threshold=config.min_threshold,
            metrics=list(self._metrics),
            metric_max=gate.METRIC_MAX,
            weight_max=self._weight_max,
            identity=config.trust.identity() if config.trust else None,
            roster=config.trust.members() if config.trust else None,
            colluding_percent=config.colluding_percent,
            require_commit=config.require_commit,
            policy=self._node.engine.bundle_hash,
            same_policy=config.same_policy,
        )
        out = Outgoing.protocol(client, "advertise")
        self._store(client, os.urandom(_NONCE))
        return out

    def share(self, request: bytes) -> Outgoing:
        """Round keys and sealed shares for the cohort in `request`."""
        return self._answer("share", request)

    def check_masked(self, request: bytes, dim: int) -> None:
        """Refuses whatever `masked_input` would refuse; changes nothing. For before anything is read."""
        self._load()[0].check_masked(request, dim=dim)

    def masked_input(self, request: bytes, release: Release, dim: int, binding: bytes) -> Outgoing:
        """The released update, quantised, weighted, masked and packed.

        Args:
            request: the server's message.
            release: what the gates let out.
            dim: size of the model.
            binding: hash of all that the client was sent (`wire.binding`).
        """
        client, nonce = self._load()
        out = Outgoing.protocol(client, "masked", request, release=release, dim=dim, binding=binding)
        self._store(client, nonce)
        return out

    def commit(self, request: bytes) -> Outgoing:
        """The set of survivors in `request`, signed; one a round."""
        return self._answer("commit", request)

    def unmask(self, request: bytes) -> Outgoing:
        """One kind of share a peer, for the survivors in `request`; and the shares of the round it announces."""
        return self._answer("unmask", request)

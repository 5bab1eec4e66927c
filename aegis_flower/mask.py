"""Mask: the client half of secure aggregation, mapped onto Flower's messages. The cryptography is the engine's."""

from __future__ import annotations

from flwr.app import ConfigRecord, Context

from aegis_engine import Release, SecAggClient
from aegis_flower.errors import SecAggError
from aegis_flower.node import Node

_DOMAIN = "aegis/v1/secagg-state"
_RECORD = "aegis.secagg"


class Masker:
    """One node's side of the protocol in one run.

    The state lives in ``Context.state`` as a blob sealed by the vault, since each message may get a fresh process.

    Guarantees:
        - A masked input is made only from a `Release`.
        - Rounds only go forward; one set of shares a round; one kind of share a peer.
    """

    def __init__(self, node: Node, context: Context) -> None:
        self._node, self._context = node, context

    @property
    def _aad(self) -> bytes:
        return f"{self._context.run_id}:{self._context.node_id}".encode()

    def _load(self) -> SecAggClient:
        record = self._context.state.config_records.get(_RECORD)
        if record is None:
            raise SecAggError("this node has not advertised keys in this run; the server must ask for them first")
        return SecAggClient.from_bytes(self._node.vault.open_blob(_DOMAIN, self._aad, bytes(record["sealed"])))  # type: ignore[arg-type]

    def _store(self, client: SecAggClient) -> None:
        sealed = self._node.vault.seal_blob(_DOMAIN, self._aad, client.to_bytes())
        self._context.state[_RECORD] = ConfigRecord({"sealed": sealed})

    def advertise(self) -> bytes:
        """The run's advert; the same one when asked twice."""
        if _RECORD in self._context.state.config_records:
            return self._load().advertise()
        config = self._node.config
        client = SecAggClient(
            self._context.run_id,
            self._context.node_id,
            min_cohort=config.min_cohort,
            min_threshold=config.min_threshold,
            identity=config.trust.identity() if config.trust else None,
            roster=config.trust.members() if config.trust else None,
            colluding_percent=config.colluding_percent,
            require_commit=config.require_commit,
            policy=self._node.engine.bundle_hash,
            same_policy=config.same_policy,
        )
        self._store(client)
        return client.advertise()

    def share(self, request: bytes) -> bytes:
        """Round keys and sealed shares for the cohort in `request`."""
        client = self._load()
        reply = client.share(request)
        self._store(client)
        return reply

    def masked_input(self, request: bytes, release: Release, dim: int) -> bytes:
        """The released update, quantised, weighted, masked and packed; `dim` is the size of the model."""
        client = self._load()
        reply = client.masked_input(request, release, dim=dim)
        self._store(client)
        return reply

    def commit(self, request: bytes) -> bytes:
        """The set of survivors in `request`, signed; one a round."""
        client = self._load()
        reply = client.commit(request)
        self._store(client)
        return reply

    def unmask(self, request: bytes) -> bytes:
        """One kind of share a peer, for the survivors in `request`; and the shares of the round it announces."""
        client = self._load()
        reply = client.unmask(request)
        self._store(client)
        return reply

"""A server of one round of secure aggregation, from docs/SECURE_AGGREGATION.md: a complete graph, for test vectors."""

from __future__ import annotations

from typing import Any

from reference.secagg import crypto
from reference.secagg.bounds import threshold
from reference.secagg.crypto import Place
from reference.secagg.wire import decode, encode, need

STEPS = ("advert", "share reply", "masked input", "commit", "unmask reply")


class Server:
    """Feed it the clients' messages with `take`; ask for its own between."""

    def __init__(self, run: int, round_: int, plan: dict[str, Any], binding: bytes, *, commit: bool) -> None:
        self.run, self.round, self.plan, self.binding, self.commit_step = run, round_, plan, binding, commit
        self.request = b""
        self.step = "advert"
        self.taken: dict[str, dict[int, dict[str, Any]]] = {kind: {} for kind in STEPS}

    @property
    def cohort(self) -> list[dict[str, Any]]:
        return [advert for _, advert in sorted(self.taken["advert"].items())]

    @property
    def nodes(self) -> list[int]:
        return sorted(self.taken["advert"])

    @property
    def threshold(self) -> int:
        return threshold(len(self.nodes))

    @property
    def transcript(self) -> bytes:
        return crypto.transcript(self.request)

    def sets(self) -> dict[str, Any]:
        def places(kind: str) -> list[int]:
            return [place for place, node in enumerate(self.nodes) if node in self.taken[kind]]

        return {"n": len(self.nodes), "shared": places("share reply"), "survivors": places("masked input")}

    def message(self, kind: str, node: int = 0, **fields: Any) -> bytes:
        return encode({"kind": kind, "run": self.run, "round": self.round, "node": node, **fields})

    def share_request(self) -> bytes:
        n = len(self.nodes)
        shape = {"degree": n - 1, "threshold": threshold(n), "commit": self.commit_step}
        self.request = self.message("share request", shape=shape, plan=self.plan, cohort=self.cohort)
        self.step = "share reply"
        return self.request

    def masked_request(self, node: int) -> bytes:
        self.step = "masked input"
        shared = sorted(self.taken["share reply"].items())
        keys = [{"node": of, "mask_key": one["mask_key"], "signature": one["signature"]} for of, one in shared]
        sealed = [
            {"node": of, "sealed": pair["sealed"]}
            for of, one in shared
            for pair in one["sealed"]
            if pair["node"] == node
        ]
        return self.message("masked request", node, keys=keys, sealed=sealed)

    def commit_request(self) -> bytes:
        self.step = "commit"
        return self.message("commit request", sets=self.sets())

    def unmask_request(self, node: int, upcoming: bytes = b"") -> bytes:
        self.step = "unmask reply"
        signed = sorted(self.taken["commit"].items())
        commits = [{"node": of, "signature": one["signature"]} for of, one in signed if of != node]
        return self.message("unmask request", node, sets=self.sets(), commits=commits, next=upcoming.hex())

    def take(self, node: int, kind: str, data: bytes) -> None:
        sizes = {"width": crypto.width(self.plan), "elements": crypto.elements(self.plan)}
        came = decode(kind, data, **(sizes if kind == "masked input" else {}))
        need(came["run"] == self.run, "", "WrongRun")
        need(kind == "advert" or came["round"] == self.round, "", "WrongStep")
        need(came["node"] == node, "", "WrongStep")
        need(self.step == kind, "", "WrongStep")
        getattr(self, "_take_" + kind.replace(" ", "_"))(node, came)
        need(node not in self.taken[kind], "", "AlreadyAnswered")
        self.taken[kind][node] = came

    def _verify(self, node: int, signed: bytes, signature: str) -> None:
        identity = bytes.fromhex(self.taken["advert"][node]["identity"])
        crypto.verify(identity, signed, bytes.fromhex(signature))

    def _take_advert(self, node: int, came: dict[str, Any]) -> None:
        signed = crypto.signed_advert(self.run, came)
        crypto.verify(bytes.fromhex(came["identity"]), signed, bytes.fromhex(came["signature"]))

    def _take_share_reply(self, node: int, came: dict[str, Any]) -> None:
        need(node in self.nodes, "", "UnknownNode")
        mask_key = bytes.fromhex(came["mask_key"])
        signed = crypto.signed_key(self.run, self.round, node, self.transcript, mask_key)
        self._verify(node, signed, came["signature"])
        others = [of for of in self.nodes if of != node]
        need([pair["node"] for pair in came["sealed"]] == others, "", "InconsistentCohort")

    def _take_masked_input(self, node: int, came: dict[str, Any]) -> None:
        need(node in self.taken["share reply"], "", "UnknownNode")

    def _take_commit(self, node: int, came: dict[str, Any]) -> None:
        need(node in self.taken["masked input"], "", "UnknownNode")
        sets_hash = crypto.sets_hash(self.transcript, self.binding, self.sets())
        signed = crypto.signed_sets(self.run, self.round, node, sets_hash)
        self._verify(node, signed, came["signature"])

    def _take_unmask_reply(self, node: int, came: dict[str, Any]) -> None:
        need(node in self.taken["masked input"], "", "UnknownNode")
        alive = sorted(self.taken["masked input"])
        lost = sorted(set(self.taken["share reply"]) - set(alive))
        need([share["node"] for share in came["seeds"]] == alive, "", "InconsistentSets")
        need([share["node"] for share in came["secrets"]] == lost, "", "InconsistentSets")

    def _secret(self, kind: str, node: int) -> bytes:
        replies = sorted(self.taken["unmask reply"].items())
        need(len(replies) >= self.threshold, "", "NotEnoughClients")
        shares = {}
        for holder, reply in replies[: self.threshold]:
            share = next(share["share"] for share in reply[kind] if share["node"] == node)
            shares[self.nodes.index(holder) + 1] = bytes.fromhex(share)
        return crypto.combine(shares)

    def finish(self) -> list[int]:
        """The exact sum: weighted values, weight, metrics."""
        size = crypto.width(self.plan)
        place = Place(self.run, self.round, self.transcript)
        alive = sorted(self.taken["masked input"])
        total = [0] * crypto.elements(self.plan)

        def add(values: list[int], sign: int = 1) -> None:
            total[:] = [a + sign * b for a, b in zip(total, values, strict=True)]

        for node in alive:
            add(crypto.unpack(bytes.fromhex(self.taken["masked input"][node]["packed"]), size))
            seed = self._secret("seeds", node)
            told = self.taken["share reply"][node]["seed_check"]
            need(place.seed_check(seed, node).hex() == told, "", "SharesDisagree")
            key = place.self_mask_key(seed, node, self.binding)
            add(crypto.mask(key, len(total), size), -1)
        for lost in sorted(set(self.taken["share reply"]) - set(alive)):
            secret = self._secret("secrets", lost)
            told = self.taken["share reply"][lost]["mask_key"]
            need(crypto.x25519_public(secret).hex() == told, "", "SharesDisagree")
            for node in alive:
                public = bytes.fromhex(self.taken["share reply"][node]["mask_key"])
                key = place.pair_mask_key(secret, lost, node, public, self.binding)
                stream = crypto.mask(key, len(total), size)
                add(stream, -1 if node < lost else 1)
        return crypto.unpack(crypto.pack(total, size), size)

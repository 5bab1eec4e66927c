"""A client and a server of secure aggregation, from docs/SECURE_AGGREGATION.md, with secrets that are drawn from labels.

For test vectors: nothing here is random, and nothing is fast.
"""

from __future__ import annotations

import hashlib
from typing import Any

from reference.secagg import crypto
from reference.secagg.bounds import check_shape
from reference.secagg.crypto import Place
from reference.secagg.wire import P, Refused, decode, encode, need

Message = dict[str, Any]


def drawn(*label: object) -> bytes:
    """32 bytes that stand for random ones."""
    return hashlib.sha256(" ".join(["aegis test vector", *map(str, label)]).encode()).digest()


def drawn_elements(*label: object) -> list[int]:
    return [int.from_bytes(drawn(*label, limb), "little") % P for limb in range(5)]


class Client:
    """One client; `state` is what its state's bytes say."""

    def __init__(self, state: Message) -> None:
        self.state = state

    @classmethod
    def new(cls, run: int, node: int, **limits: Any) -> Client:
        state = {
            "kind": "client state",
            "run": run,
            "round": 0,
            "node": node,
            "answers": 0,
            "identity": drawn("identity", node).hex(),
            "channel": drawn("channel", run, node).hex(),
            "min_cohort": 3,
            "min_threshold": 2,
            "colluding_percent": 10,
            "min_honest": 2,
            "require_commit": False,
            "policy": "00" * 32,
            "same_policy": False,
            "roster": None,
            "sums": None,
            "in_round": {"phase": 0},
        }
        return cls({**state, **limits})

    @classmethod
    def from_bytes(cls, data: bytes) -> Client:
        state = decode("client state", data)
        if state["in_round"]["phase"]:
            crypto.width(state["in_round"]["plan"])
        return cls(state)

    def to_bytes(self) -> bytes:
        return encode(self.state)

    def secret(self, name: str) -> bytes:
        return bytes.fromhex(self.state[name])

    def message(self, kind: str, **fields: Any) -> bytes:
        return encode({"kind": kind, **{key: self.state[key] for key in ("run", "round", "node")}, **fields})

    def advertise(self) -> bytes:
        state = self.state
        advert = {
            "node": state["node"],
            "identity": crypto.ed25519_public(self.secret("identity")).hex(),
            "channel": crypto.x25519_public(self.secret("channel")).hex(),
            "policy": state["policy"],
            "min_cohort": state["min_cohort"],
        }
        signature = crypto.sign(self.secret("identity"), crypto.signed_advert(state["run"], advert))
        return encode({"kind": "advert", "run": state["run"], "round": 0, **advert, "signature": signature.hex()})

    def share(self, request: bytes) -> bytes:
        asked, state = decode("share request", request), self.state
        need(asked["run"] == state["run"], "", "WrongRun")
        run, round_, me, n = state["run"], asked["round"], state["node"], len(asked["cohort"])
        place = Place(run, round_, crypto.transcript(request))
        before = state["in_round"]
        if before["phase"] == 1 and before["transcript"] == place.transcript.hex():
            return self._share_reply(place)
        need(round_ > state["round"], "", "RoundOrder")
        need(round_ <= 1 << 31 and round_ - state["round"] <= 1 << 20, "", "RoundOutOfRange")
        index = self._check_cohort(asked)
        degree = asked["shape"]["degree"]
        near = [at for at in range(n) if at != index]
        if degree != n - 1:
            near = crypto.neighbours(crypto.ring(place.transcript, n), index, degree)
        members = []
        for at in near:
            advert = asked["cohort"][at]
            signed = crypto.signed_advert(run, advert)
            crypto.verify(bytes.fromhex(advert["identity"]), signed, bytes.fromhex(advert["signature"]))
            channel = bytes.fromhex(advert["channel"])
            root = crypto.channel_root(run, self.secret("channel"), me, advert["node"], channel)
            keys = {key: advert[key] for key in ("identity", "channel")}
            members.append({"node": advert["node"], "index": at, **keys, "root": root.hex()})

        mask_secret, seed = drawn("mask secret", run, round_, me), drawn("seed", run, round_, me)
        xs = [member["index"] + 1 for member in members] + [index + 1]

        def shares(of: str, secret: bytes) -> list[bytes]:
            rows = range(asked["shape"]["threshold"] - 1)
            return crypto.split(secret, [drawn_elements(of, run, round_, me, row) for row in rows], xs)

        seeds, secrets = shares("seed polynomial", seed), shares("mask secret polynomial", mask_secret)
        sealed = []
        for member, a, b in zip(members, seeds, secrets, strict=False):
            nonce = drawn("nonce", run, round_, me, member["node"])[:12]
            pair = place.seal(bytes.fromhex(member["root"]), me, member["node"], a + b, nonce)
            sealed.append({"node": member["node"], "sealed": pair.hex()})
        in_round = {
            "phase": 1,
            "shape": asked["shape"],
            "plan": asked["plan"],
            "n": n,
            "index": index,
            "transcript": place.transcript.hex(),
            "own_share": seeds[-1].hex(),
            "near": members,
            "mask_secret": mask_secret.hex(),
            "self_seed": seed.hex(),
            "sealed": sealed,
        }
        self.state = {**state, "round": round_, "answers": state["answers"] + 1, "in_round": in_round}
        return self._share_reply(place)

    def _share_reply(self, place: Place) -> bytes:
        now, me = self.state["in_round"], self.state["node"]
        mask_key = crypto.x25519_public(bytes.fromhex(now["mask_secret"]))
        signed = crypto.signed_key(place.run, place.round, me, place.transcript, mask_key)
        fields = {
            "mask_key": mask_key.hex(),
            "signature": crypto.sign(self.secret("identity"), signed).hex(),
            "seed_check": place.seed_check(bytes.fromhex(now["self_seed"]), me).hex(),
        }
        return self.message("share reply", **fields, sealed=now["sealed"])

    def _check_cohort(self, asked: Message) -> int:
        crypto.width(asked["plan"])
        cohort, state, plan = asked["cohort"], self.state, asked["plan"]
        if own := state["sums"]:
            same = all(plan[key] == own[key] for key in ("metrics", "metric_max"))
            need(same and plan["weight_max"] <= own["weight_max"], "", "PlanNotOurs")
        n = len(cohort)
        need(n <= asked["plan"]["n_max"], "", "InconsistentCohort")
        need(n >= max(2, state["min_cohort"]), "", "CohortTooSmall")
        check_shape(n, asked["shape"], state)
        places = [at for at, advert in enumerate(cohort) if advert["node"] == state["node"]]
        need(bool(places), "itself", "InconsistentCohort")
        own = decode("advert", self.advertise())
        for key in ("channel", "identity"):
            need(cohort[places[0]][key] == own[key], "own keys", "InconsistentCohort")
        for key in ("channel", "identity"):
            need(len({advert[key] for advert in cohort}) == n, "a key twice", "InconsistentCohort")
        for advert in cohort:
            need(state["roster"] is None or advert["identity"] in state["roster"], "", "UnknownNode")
            need(not state["same_policy"] or advert["policy"] == state["policy"], "", "PolicyMismatch")
        return places[0]

    def _current(self, asked: Message, phase: int, late: str = "WrongStep") -> Message:
        state = self.state
        need(asked["run"] == state["run"], "", "WrongRun")
        need(asked["round"] == state["round"] and state["in_round"]["phase"] > 0, "", "WrongStep")
        need(state["in_round"]["phase"] == phase, "", late)
        need(asked["node"] == state["node"] or asked["kind"] == "commit request", "", "WrongStep")
        return state["in_round"]  # type: ignore[no-any-return]

    def masked_input(
        self, request: bytes, binding: bytes, update: list[float], weight: int, metrics: list[int]
    ) -> bytes:
        asked, me = decode("masked request", request), self.state["node"]
        now = self._current(asked, 1, "AlreadyAnswered")
        near = {member["node"]: member for member in now["near"]}
        mask_secret = bytes.fromhex(now["mask_secret"])
        need(len(asked["keys"]) >= now["shape"]["threshold"], "", "NotEnoughClients")
        own = [key["mask_key"] for key in asked["keys"] if key["node"] == me]
        need(own == [crypto.x25519_public(mask_secret).hex()], "own key", "InconsistentCohort")
        others = [key for key in asked["keys"] if key["node"] != me]
        place = Place(asked["run"], asked["round"], bytes.fromhex(now["transcript"]))
        for key in others:
            need(key["node"] in near, "", "UnknownNode")
            mask_key = bytes.fromhex(key["mask_key"])
            signed = crypto.signed_key(asked["run"], asked["round"], key["node"], place.transcript, mask_key)
            crypto.verify(bytes.fromhex(near[key["node"]]["identity"]), signed, bytes.fromhex(key["signature"]))
        need([key["node"] for key in others] == [one["node"] for one in asked["sealed"]], "", "InconsistentCohort")
        shares = []
        for one in asked["sealed"]:
            root = bytes.fromhex(near[one["node"]]["root"])
            pair = place.open(root, one["node"], me, bytes.fromhex(one["sealed"]))
            shares.append({"node": one["node"], "seed": pair[:40].hex(), "secret": pair[40:].hex()})
        values = crypto.integers(update, weight, metrics, now["plan"])
        size = crypto.width(now["plan"])
        masks = [(1, place.self_mask_key(bytes.fromhex(now["self_seed"]), me, binding))]
        for key in others:
            sign = 1 if me < key["node"] else -1
            public = bytes.fromhex(key["mask_key"])
            masks.append((sign, place.pair_mask_key(mask_secret, me, key["node"], public, binding)))
        for sign, key in masks:
            stream = crypto.mask(key, len(values), size)
            values = [value + sign * element for value, element in zip(values, stream, strict=True)]
        kept = {key: value for key, value in now.items() if key not in {"mask_secret", "self_seed", "sealed"}}
        masked = {"phase": 2, "binding": binding.hex(), "committed": None, "answered": None, "shares": shares}
        self.state = {**self.state, "answers": self.state["answers"] + 1, "in_round": {**kept, **masked}}
        packed = crypto.pack(values, size).hex()
        return self.message("masked input", width=size, elements=len(values), packed=packed)

    @staticmethod
    def _sets_hash(now: Message, sets: Message) -> bytes:
        return crypto.sets_hash(bytes.fromhex(now["transcript"]), bytes.fromhex(now["binding"]), sets)

    def _check_sets(self, now: Message, sets: Message) -> None:
        survivors = set(sets["survivors"])
        need(sets["n"] == now["n"] and now["index"] in survivors, "", "InconsistentSets")
        need(survivors <= set(sets["shared"]), "", "InconsistentSets")
        named = [member["node"] for member in now["near"] if member["index"] in sets["shared"]]
        need(named == [share["node"] for share in now["shares"]], "", "InconsistentSets")
        around = 1 + sum(member["index"] in survivors for member in now["near"])
        need(around >= now["shape"]["threshold"], "", "NotEnoughClients")
        need(len(survivors) > now["n"] // 2, "", "NotEnoughClients")

    def commit(self, request: bytes) -> bytes:
        asked = decode("commit request", request)
        in_round = self.state["in_round"]
        need(not in_round["phase"] or in_round["shape"]["commit"], "", "WrongStep")
        now = self._current(asked, 2)
        self._check_sets(now, asked["sets"])
        sets_hash = self._sets_hash(now, asked["sets"])
        need(now["committed"] in {None, sets_hash.hex()}, "", "AlreadyAnswered")
        signed = crypto.signed_sets(asked["run"], asked["round"], self.state["node"], sets_hash)
        self.state["answers"] += now["committed"] is None
        now["committed"] = sets_hash.hex()
        return self.message("commit", signature=crypto.sign(self.secret("identity"), signed).hex())

    def unmask(self, request: bytes) -> bytes:
        """Without the next round's shares, which would begin it."""
        asked = decode("unmask request", request)
        now = self._current(asked, 2)
        need(now["answered"] in {None, crypto.answered_hash(request).hex()}, "", "AlreadyAnswered")
        self._check_sets(now, asked["sets"])
        self._check_commits(now, asked)
        index = {member["node"]: member["index"] for member in now["near"]}
        seeds = [{"node": self.state["node"], "share": now["own_share"]}]
        secrets = []
        for share in now["shares"]:
            if index[share["node"]] in asked["sets"]["survivors"]:
                seeds.append({"node": share["node"], "share": share["seed"]})
            else:
                secrets.append({"node": share["node"], "share": share["secret"]})
        self.state["answers"] += now["answered"] is None
        now["answered"] = crypto.answered_hash(request).hex()
        seeds.sort(key=lambda share: int(share["node"]))
        return self.message("unmask reply", seeds=seeds, secrets=secrets, next="")

    def _check_commits(self, now: Message, asked: Message) -> None:
        if not now["shape"]["commit"]:
            need(not asked["commits"], "", "InconsistentSets")
            return
        sets_hash = self._sets_hash(now, asked["sets"])
        need(now["committed"] == sets_hash.hex(), "", "InconsistentSets")
        near = {member["node"]: member for member in now["near"]}
        for one in asked["commits"]:
            need(one["node"] in near, "", "UnknownNode")
            need(near[one["node"]]["index"] in asked["sets"]["survivors"], "", "InconsistentSets")
            signed = crypto.signed_sets(asked["run"], asked["round"], one["node"], sets_hash)
            crypto.verify(bytes.fromhex(near[one["node"]]["identity"]), signed, bytes.fromhex(one["signature"]))
        need(len(asked["commits"]) + 1 >= now["shape"]["threshold"], "", "NotEnoughClients")

    def answer(self, kind: str, request: bytes, contribution: tuple[bytes, list[float], int, list[int]]) -> bytes:
        """The answer to a request of this kind."""
        if kind == "masked request":
            return self.masked_input(request, *contribution)
        steps = {"share request": self.share, "commit request": self.commit, "unmask request": self.unmask}
        if kind not in steps:
            raise Refused("WrongStep", kind)
        return steps[kind](request)

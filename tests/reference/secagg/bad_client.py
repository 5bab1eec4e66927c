"""Requests that a client in a given state must refuse, each with the name of the error."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from reference.secagg import crypto
from reference.secagg.crypto import Place
from reference.secagg.parties import Client, drawn
from reference.secagg.rounds import LOST, NODES, PLAN, RUN, Rounds, contribution
from reference.secagg.wire import CODES, P, decode, encode

Case = dict[str, Any]
Change = Callable[[dict[str, Any]], object]
ONE = NODES[0]
STRANGER = 99


def case(name: str, to: str, kind: str, data: bytes, error: str, **more: Any) -> Case:
    return {"name": name, "to": to, "kind": kind, **more, "hex": data.hex(), "error": error, "code": CODES[error]}


def nothing(_: dict[str, Any]) -> None:
    """Leaves a message as it is: the state refuses it."""


def refused_by(whole: Rounds, phase: str, kind: str, name: str, change: Change, error: str, **limits: Any) -> Case:
    """A request to the first client in a phase of a round, changed."""
    client = whole.client(ONE, phase)
    client.state.update(limits)
    broadcast = kind in {"share request", "commit request"}
    message = decode(kind, whole.said(kind, 0, 0 if broadcast else ONE))
    change(message)
    kind = message["kind"]
    more: Case = {"state": client.to_bytes().hex()}
    if kind == "masked request":
        binding, update, weight, metrics = contribution(ONE)
        more |= {"binding": binding.hex(), "update": struct.pack("<5f", *update).hex()}
        more |= {"weight": weight, "metrics": metrics}
    return case(f"{kind}: {name}", "client", kind, encode(message), error, **more)


def _rehomed(message: dict[str, Any], advert: bytes) -> None:
    came = decode("advert", advert)
    place = [one["node"] for one in message["cohort"]].index(came["node"])
    message["cohort"][place] = {key: came[key] for key in message["cohort"][place]}


def shares(plain: Rounds) -> Iterator[Case]:
    def share(name: str, change: Change, error: str, phase: str = "fresh", **limits: Any) -> Case:
        return refused_by(plain, phase, "share request", name, change, error, **limits)

    yield share("another run", lambda m: m.update(run=RUN + 1), "WrongRun")
    yield share("the same round again", lambda m: m["plan"].update(weight_max=49), "RoundOrder", "shared")
    yield share("the same request after its masked input", nothing, "RoundOrder", "masked")
    yield share("an earlier round", lambda m: m.update(round=2), "RoundOrder", "masked")
    yield share("the last round there is", lambda m: m.update(round=2**64 - 1), "RoundOutOfRange")
    yield share("a round above 2^31", lambda m: m.update(round=2**31 + 1), "RoundOutOfRange")
    yield share("a round too far ahead", lambda m: m.update(round=2**20 + 1), "RoundOutOfRange")
    own = {"metrics": PLAN["metrics"], "metric_max": PLAN["metric_max"], "weight_max": PLAN["weight_max"]}
    for name, change in (
        ("a metric less", {"metrics": ["loss"]}),
        ("metrics in another order", {"metrics": PLAN["metrics"][::-1]}),
        ("a smaller metric_max", {"metric_max": 999_999}),
        ("a larger metric_max", {"metric_max": 1_000_001}),
        ("a weight above the client's", {"weight_max": 51}),
    ):
        yield share(name, lambda m, c=change: m["plan"].update(c), "PlanNotOurs", sums=own)
    for name, change in (
        ("dim 0", {"dim": 0}),
        ("n_max 1", {"n_max": 1}),
        ("clip 0", {"clip": 0.0}),
        ("clip infinite", {"clip": float("inf")}),
        ("clip 1e13", {"clip": 1e13}),
        ("clip 1e-13", {"clip": 1e-13}),
        ("value_bits 31", {"value_bits": 31}),
        ("weight_max 0", {"weight_max": 0}),
        ("a metric twice", {"metrics": ["loss", "loss"]}),
    ):
        yield share(name, lambda m, c=change: m["plan"].update(c), "InvalidPlan")
    yield share("a sum that wraps", lambda m: m["plan"].update(weight_max=2**63), "EncodingDoesNotFit")
    yield share("metrics that wrap", lambda m: m["plan"].update(metric_max=2**57), "EncodingDoesNotFit")
    yield share("more clients than n_max", lambda m: m["plan"].update(n_max=3), "InconsistentCohort")
    yield share("a cohort below the client's own", nothing, "CohortTooSmall", min_cohort=5)
    yield share("a cohort of one", lambda m: m.update(cohort=m["cohort"][:1]), "CohortTooSmall", min_cohort=0)
    yield share("a threshold too low", lambda m: m["shape"].update(threshold=2), "ThresholdRefused")
    yield share("a threshold above the cohort", lambda m: m["shape"].update(threshold=5), "ThresholdRefused")
    yield share("a threshold below the client's own", nothing, "ThresholdRefused", min_threshold=4)
    yield share("no commit step", nothing, "ShapeRefused", require_commit=True)
    yield share("too few honest inputs", nothing, "ShapeRefused", min_honest=4)
    yield share("sparse without commit", lambda m: m["shape"].update(degree=2), "ShapeRefused")
    degree = {"degree": 2, "threshold": 3, "commit": True}
    yield share("too sparse", lambda m: m.update(shape=degree), "ShapeRefused")
    yield share("without this client", lambda m: m["cohort"][0].update(node=4), "InconsistentCohort")
    replaced = {"channel": drawn("other channel").hex()}
    yield share("own channel key replaced", lambda m: m["cohort"][0].update(replaced), "InconsistentCohort")
    twice: Change = lambda m: m["cohort"][2].update(channel=m["cohort"][1]["channel"])  # noqa: E731
    yield share("a channel key twice", twice, "InconsistentCohort")
    seat: Change = lambda m: m["cohort"][2].update(identity=m["cohort"][1]["identity"])  # noqa: E731
    yield share("an identity twice", seat, "InconsistentCohort")


def forged_adverts(plain: Rounds) -> Iterator[Case]:
    def share(name: str, change: Change, error: str, **limits: Any) -> Case:
        return refused_by(plain, "fresh", "share request", name, change, error, **limits)

    own = {"channel": drawn("other channel").hex()}
    roster = sorted(decode("advert", client.advertise())["identity"] for client in list(plain.clients.values())[:3])
    yield share("one outside the roster", nothing, "UnknownNode", roster=roster)
    yield share("another policy", nothing, "PolicyMismatch", policy=drawn("mine").hex(), same_policy=True)
    yield share("a channel key replaced", lambda m: m["cohort"][1].update(own), "BadSignature")
    yield share("a policy replaced", lambda m: m["cohort"][1].update(policy=drawn("other").hex()), "BadSignature")
    yield share("a minimum replaced", lambda m: m["cohort"][1].update(min_cohort=1), "BadSignature")
    stale = Client.new(RUN - 1, NODES[1]).advertise()
    yield share("an advert of another run", lambda m: _rehomed(m, stale), "BadSignature")
    point = Client.new(RUN, NODES[1])
    one = {
        "node": NODES[1],
        "identity": crypto.ed25519_public(point.secret("identity")).hex(),
        "channel": "01" + "00" * 31,
    }
    one |= {"policy": "00" * 32, "min_cohort": 3}
    one["signature"] = crypto.sign(point.secret("identity"), crypto.signed_advert(RUN, one)).hex()
    yield share("a channel key of small order", lambda m: m["cohort"].__setitem__(1, one), "KeyAgreement")


def masked(plain: Rounds) -> Iterator[Case]:
    def mask(name: str, change: Change, error: str, phase: str = "shared") -> Case:
        return refused_by(plain, phase, "masked request", name, change, error)

    yield mask("another run", lambda m: m.update(run=1), "WrongRun")
    yield mask("another round", lambda m: m.update(round=4), "WrongStep")
    yield mask("before the shares", nothing, "WrongStep", "fresh")
    yield mask("to another", lambda m: m.update(node=NODES[1]), "WrongStep")
    yield mask("a second time", nothing, "AlreadyAnswered", "masked")
    few: Change = lambda m: (m.update(keys=m["keys"][:2]), m.update(sealed=m["sealed"][:1]))  # noqa: E731
    yield mask("fewer than the threshold", few, "NotEnoughClients")
    forged = {"mask_key": drawn("forged").hex()}
    yield mask("own key replaced", lambda m: m["keys"][0].update(forged), "InconsistentCohort")
    yield mask("own key left out", lambda m: m["keys"].pop(0), "InconsistentCohort")
    yield mask("a key replaced", lambda m: m["keys"][1].update(forged), "BadSignature")
    yield mask("a stranger's key", lambda m: m["keys"][1].update(node=STRANGER), "UnknownNode")
    yield mask("a share left out", lambda m: m["sealed"].pop(), "InconsistentCohort")
    flipped: Change = lambda m: m["sealed"][0].update(sealed="ff" + m["sealed"][0]["sealed"][2:])  # noqa: E731
    yield mask("a share altered", flipped, "ShareRejected")
    swap: Change = lambda m: m["sealed"][0].update(sealed=m["sealed"][1]["sealed"])  # noqa: E731
    yield mask("shares swapped", swap, "ShareRejected")
    state = plain.client(ONE, "shared").state["in_round"]
    place = Place(RUN, 3, bytes.fromhex(state["transcript"]))
    pair = struct.pack("<10Q", *[P] * 10)
    odd = place.seal(bytes.fromhex(state["near"][0]["root"]), NODES[1], ONE, pair, bytes(12)).hex()
    yield mask("a share that is no field element", lambda m: m["sealed"][0].update(sealed=odd), "ShareRejected")


def commits(plain: Rounds, commit: Rounds) -> Iterator[Case]:
    yield refused_by(plain, "masked", "unmask request", "in a round without", _commit, "WrongStep")
    yield from _sets("commit request", commit)
    yield refused_by(
        commit, "committed", "commit request", "another set than the one signed", everybody, "AlreadyAnswered"
    )
    yield refused_by(commit, "shared", "commit request", "before the masked input", nothing, "WrongStep")


def everybody(message: dict[str, Any]) -> None:
    message["sets"]["survivors"] = [0, 1, 2, 3]


def unmasks(plain: Rounds, commit: Rounds) -> Iterator[Case]:
    def bad(name: str, phase: str, change: Change, error: str, whole: Rounds = plain) -> Case:
        return refused_by(whole, phase, "unmask request", name, change, error)

    yield from _sets("unmask request", plain)
    yield bad("to another", "masked", lambda m: m.update(node=NODES[1]), "WrongStep")
    yield bad("before the masked input", "shared", nothing, "WrongStep")
    yield bad("another after an answer", "unmasked", everybody, "AlreadyAnswered")
    signatures: Change = lambda m: m.update(commits=[{"node": NODES[1], "signature": "00" * 64}])  # noqa: E731
    yield bad("signatures nobody asked for", "masked", signatures, "InconsistentSets")
    for name, phase, change, error in (
        ("sets that were not signed", "masked", nothing, "InconsistentSets"),
        ("other sets than signed", "committed", everybody, "InconsistentSets"),
        ("too few signatures", "committed", lambda m: m["commits"].pop(), "NotEnoughClients"),
        ("a false signature", "committed", lambda m: m["commits"][0].update(signature="00" * 64), "BadSignature"),
        ("a signature of one lost", "committed", lambda m: m["commits"].insert(1, _of(m, LOST)), "InconsistentSets"),
        ("a stranger's signature", "committed", lambda m: m["commits"].insert(0, _of(m, STRANGER)), "UnknownNode"),
        ("its own signature", "committed", lambda m: m["commits"].insert(0, _of(m, ONE)), "UnknownNode"),
    ):
        yield bad(name, phase, change, error, commit)


def _of(message: dict[str, Any], node: int) -> dict[str, Any]:
    return {"node": node, "signature": message["commits"][0]["signature"]}


def _commit(message: dict[str, Any]) -> None:
    sets = message["sets"]
    message.clear()
    message.update(kind="commit request", run=RUN, round=3, node=0, sets=sets)


def _sets(kind: str, whole: Rounds) -> Iterator[Case]:
    def bad(name: str, change: Change, error: str) -> Case:
        return refused_by(whole, "masked", kind, name, change, error)

    for name, sets, error in (
        ("itself lost", {"survivors": [1, 2, 3]}, "InconsistentSets"),
        ("survived without having shared", {"shared": [0, 1, 3], "survivors": [0, 1, 2, 3]}, "InconsistentSets"),
        ("not those of the mask step", {"shared": [0, 1, 3], "survivors": [0, 1, 3]}, "InconsistentSets"),
        ("another cohort", {"n": 5}, "InconsistentSets"),
        ("fewer survivors than the threshold", {"survivors": [0, 1]}, "NotEnoughClients"),
    ):
        yield bad(name, lambda m, s=sets: m["sets"].update(s), error)
    yield bad("another run", lambda m: m.update(run=1), "WrongRun")
    yield bad("another round", lambda m: m.update(round=2), "WrongStep")


def to_client(whole: dict[str, Rounds]) -> Iterator[Case]:
    plain, commit = whole["plain"], whole["commit"]
    yield from shares(plain)
    yield from forged_adverts(plain)
    yield from masked(plain)
    yield from commits(plain, commit)
    yield from unmasks(plain, commit)

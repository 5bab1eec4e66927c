"""Messages that must be refused, each with the name of the error: by the codec, by a client in a given state, by a server in a
given step."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from reference.secagg import crypto
from reference.secagg.bad_client import ONE, STRANGER, Case, Change, case, to_client
from reference.secagg.parties import Client, drawn
from reference.secagg.rounds import NODES, RUN, Rounds, contribution, server_before
from reference.secagg.wire import SUMS, P, Refused, decode, encode

# -- codec -----------------------------------------------------------------------------------------------------------


def malformed(good: dict[str, bytes], sizes: dict[str, int]) -> Iterator[Case]:
    def bad(name: str, kind: str, data: bytes) -> Case:
        return case(f"{kind}: {name}", "codec", kind, data, "Malformed", **(sizes if kind == "masked input" else {}))

    for kind, data in good.items():
        other = 2 if data[1] == 1 else 1
        yield bad("nothing", kind, b"")
        yield bad("cut in the header", kind, data[:25])
        yield bad("cut by a byte", kind, data[:-1])
        yield bad("a byte more", kind, data + b"\0")
        yield bad("version 1", kind, b"\1" + data[1:])
        yield bad("version 3", kind, b"\3" + data[1:])
        yield bad("another kind", kind, data[:1] + bytes([other]) + data[2:])
    for kind in ("share request", "commit request"):
        yield bad("names a node", kind, good[kind][:18] + struct.pack("<Q", 5) + good[kind][26:])
    advert = good["advert"]
    yield bad("of a round", "advert", advert[:10] + struct.pack("<Q", 1) + advert[18:])

    def edited(name: str, kind: str, change: Change) -> Case:
        message = decode(kind, good[kind], **(sizes if kind == "masked input" else {}))
        change(message)
        return bad(name, kind, encode(message))

    for kind, field in (
        ("share request", "cohort"),
        ("share reply", "sealed"),
        ("masked request", "keys"),
        ("masked request", "sealed"),
        ("unmask request", "commits"),
        ("unmask reply", "seeds"),
    ):
        yield edited(f"{field} out of order", kind, lambda m, f=field: m[f].reverse())
        yield edited(f"{field} with a node twice", kind, lambda m, f=field: m[f].insert(0, m[f][0]))
    request = good["share request"]
    yield bad("commit flag 2", "share request", request[:34] + b"\2" + request[35:])
    yield edited("metric name of 257 bytes", "share request", lambda m: m["plan"].update(metrics=["a" * 257]))
    yield edited("4097 metrics", "share request", lambda m: m["plan"].update(metrics=[""] * 4097))
    yield bad("metric name not UTF-8", "share request", request.replace("größe".encode(), b"gr\xff\xfe\xff\xfee"[:7]))
    count = 26 + 9 + 8 + 4 + 8 + 1 + 8 + 8
    huge = struct.pack("<I", 2**32 - 1)
    yield bad("2^32 - 1 metrics announced", "share request", request[:count] + huge + request[count + 4 :])
    reply = good["share reply"]
    yield bad("2^32 - 1 shares announced", "share reply", reply[:154] + huge + reply[158:])
    for kind in ("commit request", "unmask request"):
        data = good[kind]
        yield bad("a bit beyond the cohort", kind, data[:30] + bytes([data[30] | 16]) + data[31:])
        yield bad("a cohort of 2^32 - 1", kind, data[:26] + huge + data[30:])
    unreduced = struct.pack("<5Q", 0, 0, P, 0, 0).hex()
    yield edited("share not reduced", "unmask reply", lambda m: m["seeds"][1].update(share=unreduced))
    yield edited("mask secret's share not reduced", "unmask reply", lambda m: m["secrets"][0].update(share=unreduced))
    yield edited("another width", "masked input", lambda m: m.update(width=m["width"] + 1))
    yield edited("another length", "masked input", lambda m: m.update(elements=m["elements"] - 1))
    yield edited("an element too few", "masked input", lambda m: m.update(packed=m["packed"][: -2 * m["width"]]))
    state = "client state"
    yield edited("own share not reduced", state, lambda m: m["in_round"].update(own_share=unreduced))
    yield edited("neighbours out of order", state, lambda m: m["in_round"]["near"].reverse())
    yield edited("shares out of order", state, lambda m: m["in_round"]["shares"].reverse())
    keys = sorted(drawn("roster", i).hex() for i in range(2))
    yield edited("roster out of order", state, lambda m: m.update(roster=keys[::-1]))
    yield edited("roster with a key twice", state, lambda m: m.update(roster=keys[:1] * 2))
    data = good[state]
    roster = 26 + 8 + 64 + 16 + 1 + 32 + 1
    phase = roster + 2 + len(SUMS.put(decode(state, data)["sums"]))
    for name, at, value in (("roster flag 2", roster, 2), ("sums flag 2", roster + 1, 2), ("unknown phase", phase, 3)):
        yield bad(name, state, data[:at] + bytes([value]) + data[at + 1 :])
    at = data.index(b"\1" + bytes.fromhex(decode(state, data)["in_round"]["committed"]))
    yield bad("a hash that is not there", state, data[:at] + b"\0" + data[at + 1 :])


# -- servers ---------------------------------------------------------------------------------------------------------


def to_server(whole: dict[str, Rounds]) -> Iterator[Case]:
    commit = whole["commit"]
    sizes = {"width": crypto.width(commit.plan), "elements": crypto.elements(commit.plan)}

    def bad(name: str, kind: str, change: Change, error: str, node: int = ONE, taken: int = 0) -> Case:
        message = decode(kind, commit.said(kind, ONE), **(sizes if kind == "masked input" else {}))
        change(message)
        more = {"round": "commit", "node": node, "taken": taken}
        return case(f"{kind}: {name}", "server", kind, encode(message), error, **more)

    zeros = {"signature": "00" * 64}
    for kind in ("advert", "share reply", "masked input", "commit", "unmask reply"):
        yield bad("another run", kind, lambda m: m.update(run=RUN - 1), "WrongRun")
        yield bad("another sender", kind, lambda m: m, "WrongStep", NODES[1])
        if kind != "advert":
            yield bad("another round", kind, lambda m: m.update(round=4), "WrongStep")
            yield bad("a stranger's", kind, lambda m: m.update(node=STRANGER), "UnknownNode", STRANGER)
            yield bad("a second time", kind, lambda m: m, "AlreadyAnswered", ONE, 1)
    for kind in ("advert", "share reply", "commit"):
        yield bad("not signed", kind, lambda m: m.update(zeros), "BadSignature")
    yield bad("a mask key replaced", "share reply", lambda m: m.update(mask_key=drawn("x").hex()), "BadSignature")
    yield bad("a share too few", "share reply", lambda m: m["sealed"].pop(), "InconsistentCohort")
    yield bad("a seed's share too few", "unmask reply", lambda m: m["seeds"].pop(), "InconsistentSets")
    alive_and_lost: Change = lambda m: m["seeds"].insert(2, m["secrets"][0])  # noqa: E731
    yield bad("one alive and lost", "unmask reply", alive_and_lost, "InconsistentSets")
    yield bad("no share of the lost one", "unmask reply", lambda m: m["secrets"].clear(), "InconsistentSets")


def refusal(bad: Case, whole: dict[str, Rounds]) -> str:
    """The name of the error with which the reference refuses a case; empty where it does not."""
    data = bytes.fromhex(bad["hex"])
    try:
        if bad["to"] == "codec":
            decode(bad["kind"], data, width=bad.get("width"), elements=bad.get("elements"))
        elif bad["to"] == "client":
            client = Client.from_bytes(bytes.fromhex(bad["state"]))
            client.answer(bad["kind"], data, contribution(ONE))
        else:
            server_before(whole[bad["round"]], bad["kind"], bad["taken"]).take(bad["node"], bad["kind"], data)
    except Refused as refused:
        return refused.error
    return ""


def cases(whole: dict[str, Rounds], good: dict[str, bytes], sizes: dict[str, int]) -> list[Case]:
    return [*malformed(good, sizes), *to_client(whole), *to_server(whole)]

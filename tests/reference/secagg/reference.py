"""The test vectors of secure aggregation: made by code that was written from docs/SECURE_AGGREGATION.md, frozen in
`tests/vectors/secagg/v2/`. From the folder `tests`:

python -m reference.secagg.reference --check     says whether the files are what this makes
python -m reference.secagg.reference --write     writes them: for new vectors, never to make a test pass
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reference.secagg import bad as wrong
from reference.secagg import crypto
from reference.secagg.crypto import Place
from reference.secagg.parties import drawn, drawn_elements
from reference.secagg.rounds import LOST, NODES, PLAN, ROUND, RUN, Rounds
from reference.secagg.wire import KINDS, P, decode, encode

FOLDER = Path(__file__).parents[2] / "vectors" / "secagg" / "v2"
A, B = NODES[0], NODES[3]


@functools.cache
def rounds() -> dict[str, Rounds]:
    return {name: Rounds(name) for name in ("plain", "commit")}


def sizes(name: str) -> dict[str, int]:
    plan = rounds()[name].plan
    return {"width": crypto.width(plan), "elements": crypto.elements(plan)}


def messages_good() -> list[dict[str, Any]]:
    found = []
    for name, whole in rounds().items():
        for message in whole.messages:
            more = sizes(name) if message["kind"] == "masked input" else {}
            fields = decode(message["kind"], bytes.fromhex(message["hex"]), **more)
            label = f"{name}: {message['kind']}, {message['from']} to {message['to']}"
            found.append({"name": label, "kind": message["kind"], "fields": fields, "hex": message["hex"]})
        for node in (A, LOST):
            for phase, state in whole.states[node].items():
                fields = decode("client state", bytes.fromhex(state))
                label = f"{name}: client state, {node}, {phase}"
                found.append({"name": label, "kind": "client state", "fields": fields, "hex": state})
    # what does not occur in a single round: riding messages, a roster
    plain = rounds()["plain"]
    ahead = decode("share request", plain.said("share request")) | {"round": ROUND + 1}
    asked = decode("unmask request", plain.said("unmask request", 0, A)) | {"next": encode(ahead).hex()}
    reply = decode("unmask reply", plain.said("unmask reply", A)) | {"next": plain.said("share reply", A).hex()}
    state = decode("client state", bytes.fromhex(plain.states[A]["fresh"]))
    state["roster"] = sorted(drawn("roster", i).hex() for i in range(3))
    for label, fields in (("next round", asked), ("next shares", reply), ("roster", state)):
        kind = fields["kind"]
        found.append({"name": f"{kind} with {label}", "kind": kind, "fields": fields, "hex": encode(fields).hex()})
    return found


def good_by_kind() -> dict[str, bytes]:
    commit = rounds()["commit"]
    found = dict.fromkeys(KINDS, b"")
    for message in commit.messages:
        found[message["kind"]] = found[message["kind"]] or bytes.fromhex(message["hex"])
    return found | {"client state": bytes.fromhex(commit.states[A]["unmasked"])}


def messages_bad() -> list[dict[str, Any]]:
    return wrong.cases(rounds(), good_by_kind(), sizes("commit"))


def keys() -> dict[str, Any]:
    secrets = [drawn("key", side) for side in "ab"]
    public = [crypto.x25519_public(secret) for secret in secrets]
    transcript, seed, binding = drawn("transcript"), drawn("key", "seed"), drawn("binding")
    root = crypto.channel_root(RUN, secrets[0], A, B, public[1])
    place = Place(RUN, ROUND, transcript)
    request = rounds()["commit"].said("share request")
    sets = {"n": 11, "shared": [0, 1, 2, 3, 4, 5, 6, 7, 8, 10], "survivors": [0, 2, 3, 4, 5, 7, 8, 10]}
    sets_hash = crypto.sets_hash(transcript, binding, sets)
    small = [bytes(32), b"\1" + bytes(31), (2**255 - 20).to_bytes(32, "little"), (2**255 - 19).to_bytes(32, "little")]
    return {
        "run": RUN,
        "round": ROUND,
        "transcript": transcript.hex(),
        "nodes": [A, B],
        "secrets": [secret.hex() for secret in secrets],
        "public": [key.hex() for key in public],
        "channel_root": root.hex(),
        "channel_keys": [place.channel_key(root, A, B).hex(), place.channel_key(root, B, A).hex()],
        "binding": binding.hex(),
        "pair_mask_key": place.pair_mask_key(secrets[0], A, B, public[1], binding).hex(),
        "seed": seed.hex(),
        "self_mask_key": place.self_mask_key(seed, A, binding).hex(),
        "seed_check": place.seed_check(seed, A).hex(),
        "small_order": [point.hex() for point in small],
        "share_request": request.hex(),
        "share_request_transcript": crypto.transcript(request).hex(),
        "sets": sets,
        "sets_hash": sets_hash.hex(),
        "identity_seed": drawn("identity", A).hex(),
        "identity": crypto.ed25519_public(drawn("identity", A)).hex(),
        "signed_key": crypto.signed_key(RUN, ROUND, A, transcript, public[0]).hex(),
        "signed_sets": crypto.signed_sets(RUN, ROUND, A, sets_hash).hex(),
    }


def shamir() -> dict[str, Any]:
    good, bad = [], []
    for t, n in ((1, 2), (2, 3), (3, 4), (7, 10), (67, 100)):
        secret = bytes([255] * 32) if t == 3 else drawn("shared secret", t)
        rows = [drawn_elements("row", t, row) for row in range(t - 1)]
        shares = dict(zip(range(1, n + 1), crypto.split(secret, rows, range(1, n + 1)), strict=True))
        for chosen in (list(shares)[:t], list(shares)[n - t :]):
            held = [{"x": x, "share": shares[x].hex()} for x in chosen]
            good.append({"threshold": t, "secret": secret.hex(), "shares": held})
        if t > 1:
            # off by something in every limb: chosen differences can leave all limbs in range
            wrong = crypto.words(
                *(
                    (limb + error) % P
                    for limb, error in zip(struct.unpack("<5Q", shares[1]), drawn_elements("error", t), strict=True)
                )
            )
            held = [{"x": x, "share": (wrong if x == 1 else shares[x]).hex()} for x in range(1, t + 1)]
            bad.append({"name": f"a wrong share of {t}", "shares": held, "error": "SharesDisagree"})
    return {"good": good, "bad": bad}


def masks() -> list[dict[str, Any]]:
    found = []
    places = (0, 1, 2, 6, 4094, 4095, 4096, 4097, 4100, 8191, 8192)
    for width in range(2, 9):
        for count in (7, 4101, 8193):
            key = drawn("mask", width)
            stream = crypto.mask(key, count, width)
            some = {str(place): stream[place] for place in places if place < count}
            packed = hashlib.sha256(crypto.pack(stream, width)).hexdigest()
            found.append({"key": key.hex(), "width": width, "count": count, "elements": some, "sha256": packed})
    return found


def sealed() -> dict[str, Any]:
    place = Place(RUN, ROUND, drawn("transcript"))
    root, nonce = drawn("root"), drawn("nonce")[:12]
    pair = b"".join(crypto.words(*drawn_elements("share", half)) for half in (0, 1))
    box = place.seal(root, A, B, pair, nonce)
    base = {"round": ROUND, "source": A, "destination": B}
    unreduced = place.seal(root, A, B, pair[:72] + struct.pack("<Q", P), nonce)
    bad = [
        {"name": "nonce altered", **base, "sealed": (bytes([box[0] ^ 1]) + box[1:]).hex()},
        {"name": "ciphertext altered", **base, "sealed": (box[:50] + bytes([box[50] ^ 128]) + box[51:]).hex()},
        {"name": "tag altered", **base, "sealed": (box[:-1] + bytes([box[-1] ^ 1])).hex()},
        {"name": "the other way", "round": ROUND, "source": B, "destination": A, "sealed": box.hex()},
        {"name": "another round", **base, "round": ROUND + 1, "sealed": box.hex()},
        {"name": "not field elements", **base, "sealed": unreduced.hex()},
    ]
    head = {"run": RUN, "transcript": place.transcript.hex(), "root": root.hex()}
    good = {**base, "nonce": nonce.hex(), "pair": pair.hex(), "sealed": box.hex()}
    return {**head, "good": good, "bad": [{**one, "error": "ShareRejected"} for one in bad]}


def graph() -> list[dict[str, Any]]:
    found = []
    # 1500 words are more than one buffer of 1024 holds
    for n in (4, 10, 100, 1500):
        transcript = drawn("graph", n)
        order = crypto.ring(transcript, n)
        near = {str(place): crypto.neighbours(order, place, 2) for place in (0, n // 2, n - 1)}
        found.append({"n": n, "transcript": transcript.hex(), "order": order, "neighbours": near})
    return found


def encoded() -> list[dict[str, Any]]:
    found = []
    values = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 3e38, -3e38, 1e-45, 0.1, -0.3, 1.5 / 127, 2.5 / 127, 63.5 / 127, 0.33333]
    update = struct.pack(f"<{len(values)}f", *values)
    exact = list(struct.unpack(f"<{len(values)}f", update))
    for clip, bits, weight, metrics in (
        (1.0, 8, 1, (-5, 1_000_000)),
        (1.0, 16, 50, (0, -1)),
        (0.1, 16, 7, (2**40, -(2**40))),
        (2.5, 30, 3, (2**57 - 1, -(2**57) + 1)),
        (1e-3, 12, 1, (-(2**20), 2**20 - 1)),
        (1e6, 24, 999, (0x1234_5678_9ABC, -0x1234_5678_9ABC)),
    ):
        bounds = {"value_bits": bits, "weight_max": 1000, "metric_max": max(map(abs, metrics)), "n_max": 63}
        plan = {**PLAN, **bounds, "dim": len(values), "clip": clip}
        given = {"clip": struct.pack("<d", clip).hex(), **bounds, "weight": weight, "metrics": metrics}
        numbers = crypto.integers(exact, weight, metrics, plan)
        made = {"width": crypto.width(plan), "digits": crypto.digits(plan)[1], "integers": numbers}
        found.append({**given, "update": update.hex(), **made})
    return found


FILES: dict[str, Callable[[], Any]] = {
    "messages_good": messages_good,
    "messages_bad": messages_bad,
    "keys": keys,
    "shamir": shamir,
    "masks": masks,
    "sealed": sealed,
    "graph": graph,
    "encode": encoded,
    "whole_round": lambda: {name: whole.vector() for name, whole in rounds().items()},
}


def text(name: str) -> str:
    """The file's text."""
    return json.dumps(FILES[name](), ensure_ascii=False, indent=1) + "\n"


def wrong_refusals() -> list[str]:
    """Cases that this reference does not refuse as they say."""
    found = ((bad, wrong.refusal(bad, rounds())) for bad in messages_bad())
    return [f"{bad['name']}: {got or 'taken'}, not {bad['error']}" for bad, got in found if got != bad["error"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--check", action="store_true")
    mode.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    faults = wrong_refusals()
    for name in FILES:
        path = FOLDER / f"{name}.json"
        if write and not faults:
            path.write_text(text(name))
        elif not path.exists() or path.read_text() != text(name):
            faults.append(f"{path.name} is not what this makes")
    for fault in faults:
        sys.stderr.write(f"reference: {fault}\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())

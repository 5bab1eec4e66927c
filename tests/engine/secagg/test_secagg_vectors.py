"""The frozen vectors of secure aggregation are what an independent implementation makes; the engine reads and refuses them alike.

The engine's own tests read the same files where Python does not reach (`crates/secagg/src/tests/vectors/`).
"""

from __future__ import annotations

import functools
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aegis_engine.errors import SecAggError
from reference.secagg import bad as wrong
from reference.secagg import crypto, reference, wire

from aegis_engine import SecAggClient, SecAggPlan, SecAggServer, encode_update

ROOT = Path(__file__).parents[3]


@functools.cache
def frozen(name: str) -> Any:
    return json.loads((reference.FOLDER / f"{name}.json").read_text())


def bad(to: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in frozen("messages_bad") if case["to"] == to]


# -- reference -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", reference.FILES)
def test_the_frozen_file_is_what_the_reference_makes(name: str) -> None:
    assert (reference.FOLDER / f"{name}.json").read_text() == reference.text(name)


def test_there_are_no_other_files() -> None:
    assert {path.stem for path in reference.FOLDER.iterdir()} == set(reference.FILES)


def test_good_messages_mean_what_the_vectors_say() -> None:
    for vector in frozen("messages_good"):
        fields, data = vector["fields"], bytes.fromhex(vector["hex"])
        sizes = {key: fields[key] for key in ("width", "elements") if key in fields}
        assert wire.decode(vector["kind"], data, **sizes) == fields, vector["name"]
        assert wire.encode(fields) == data, vector["name"]


@pytest.mark.parametrize("case", bad("codec") + bad("client") + bad("server"))
def test_the_reference_refuses_bad_messages_with_the_named_error(case: dict[str, Any]) -> None:
    assert wrong.refusal(case, reference.rounds()) == case["error"]


def test_wrong_shares_and_altered_boxes_are_refused_with_the_named_error() -> None:
    for case in frozen("shamir")["bad"]:
        with pytest.raises(wire.Refused) as caught:
            crypto.combine({one["x"]: bytes.fromhex(one["share"]) for one in case["shares"]})
        assert caught.value.error == case["error"]
    box = frozen("sealed")
    for case in box["bad"]:
        place = crypto.Place(box["run"], case["round"], bytes.fromhex(box["transcript"]))
        with pytest.raises(wire.Refused) as caught:
            place.open(bytes.fromhex(box["root"]), case["source"], case["destination"], bytes.fromhex(case["sealed"]))
        assert caught.value.error == case["error"]


def test_points_of_small_order_are_refused() -> None:
    for point in frozen("keys")["small_order"]:
        with pytest.raises(wire.Refused, match="KeyAgreement"):
            crypto.x25519(bytes(range(32)), bytes.fromhex(point))


def test_codes_are_those_of_the_engine() -> None:
    source = (ROOT / "aegis_engine/crates/secagg/src/error.rs").read_text()
    codes = dict(re.findall(r"Self::(\w+) \{ \.\. \} => \"(AEG-S\d+)\"", source))
    assert wire.CODES.items() <= codes.items()
    used = {case["error"] for case in frozen("messages_bad")}
    # what no message of these rounds can bring about: only sums, updates, and the machine itself
    assert set(codes) - used == {"SharesDisagree", "ImplausibleSum", "BadUpdate", "Crypto"}


# -- engine ----------------------------------------------------------------------------------------------------------


def server(whole: dict[str, Any]) -> SecAggServer:
    plan = {("max_clients" if key == "n_max" else key): value for key, value in whole["plan"].items()}
    found = SecAggServer(whole["run"], SecAggPlan(**plan, min_clients=2, commit=whole["commit"]))
    found.bind(bytes.fromhex(whole["binding"]))
    return found


def said(server: SecAggServer, whole: dict[str, Any], kind: str, to: int) -> bytes:
    if kind == "share request":
        return server.begin_round(whole["round"], [client["node"] for client in whole["clients"]])
    if kind == "masked request":
        server.end_shares()
        return server.masked_request(to)
    server.end_masked()
    return server.commit_request() if kind == "commit request" else server.unmask_request(to)


def take(server: SecAggServer, kind: str, node: int, data: bytes) -> None:
    steps: dict[str, Callable[[int, bytes], object]] = {
        "advert": server.add_advert,
        "share reply": server.add_share,
        "masked input": server.add_masked,
        "commit": server.add_commit,
        "unmask reply": server.add_unmask,
    }
    steps[kind](node, data)


def server_before(whole: dict[str, Any], kind: str, taken: int) -> SecAggServer:
    found = server(whole)
    for message in whole["messages"]:
        if message["kind"] == kind:
            if taken == 0:
                break
            taken -= 1
        if message["from"]:
            take(found, message["kind"], message["from"], bytes.fromhex(message["hex"]))
        else:
            said(found, whole, message["kind"], message["to"])
    return found


@pytest.mark.parametrize("name", ["plain", "commit"])
def test_the_engines_server_makes_the_requests_and_the_sum_of_the_vectors(name: str) -> None:
    whole = frozen("whole_round")[name]
    found = server(whole)
    for message in whole["messages"]:
        data = bytes.fromhex(message["hex"])
        if message["from"]:
            take(found, message["kind"], message["from"], data)
        else:
            assert said(found, whole, message["kind"], message["to"]) == data
    total = found.finish()
    there = [client for client in whole["clients"] if client["node"] != whole["lost"]]
    assert (
        total.integers()
        == whole["sum"]
        == [sum(column) for column in zip(*(c["integers"] for c in there), strict=True)]
    )
    assert total.contributors == [client["node"] for client in there]


@pytest.mark.parametrize("name", ["plain", "commit"])
def test_the_engines_clients_answer_with_the_bytes_of_the_vectors(name: str) -> None:
    whole = frozen("whole_round")[name]
    requests: dict[tuple[str, int], bytes] = {}
    for message in whole["messages"]:
        requests[message["kind"], message["to"] or message["from"]] = bytes.fromhex(message["hex"])
    for of in whole["clients"]:
        node, states = of["node"], {phase: bytes.fromhex(state) for phase, state in of["states"].items()}
        assert SecAggClient.from_bytes(states["fresh"]).advertise() == requests["advert", node]
        asked_again = SecAggClient.from_bytes(states["shared"])
        assert asked_again.share(requests["share request", 0]) == requests["share reply", node]
        assert asked_again.to_bytes() == states["shared"]
        if node == whole["lost"]:
            continue
        client = SecAggClient.from_bytes(states["masked"])
        if whole["commit"]:
            assert client.commit(requests["commit request", 0]) == requests["commit", node]
            assert client.to_bytes() == states["committed"]
        assert client.unmask(requests["unmask request", node]) == requests["unmask reply", node]
        assert client.to_bytes() == states["unmasked"]


def test_every_state_of_the_vectors_is_one_of_the_engines() -> None:
    states = [vector["hex"] for vector in frozen("messages_good") if vector["kind"] == "client state"]
    assert len(states) >= 14
    for state in states:
        assert SecAggClient.from_bytes(bytes.fromhex(state)).to_bytes().hex() == state


def test_shares_of_an_engines_client_open_for_clients_of_the_reference() -> None:
    whole = reference.rounds()["commit"]
    request = whole.said("share request")
    node, *others = reference.NODES
    reply = SecAggClient.from_bytes(bytes.fromhex(whole.states[node]["fresh"])).share(request)
    ours = wrong.server_before(whole, "share reply", 0)
    ours.take(node, "share reply", reply)
    for other in others:
        client = whole.client(other, "fresh")
        ours.take(other, "share reply", client.share(request))
    for other in others:
        # checks the signature, opens what the engine sealed, agrees on a mask
        whole.client(other, "shared").masked_input(ours.masked_request(other), bytes(32), [0.0] * 5, 1, [0, 0])


def client_step(client: SecAggClient, kind: str) -> Callable[[bytes], bytes]:
    return {"share request": client.share, "commit request": client.commit, "unmask request": client.unmask}[kind]


# a client masks only what a gate released: masked requests are tried from Rust
@pytest.mark.parametrize("case", [one for one in bad("client") if one.values[0]["kind"] != "masked request"])
def test_the_engines_clients_refuse_bad_requests_with_the_named_error(case: dict[str, Any]) -> None:
    client = SecAggClient.from_bytes(bytes.fromhex(case["state"]))
    with pytest.raises(SecAggError) as caught:
        client_step(client, case["kind"])(bytes.fromhex(case["hex"]))
    assert caught.value.code == case["code"]
    assert client.to_bytes().hex() == case["state"]


@pytest.mark.parametrize("case", bad("server"))
def test_the_engines_server_refuses_bad_replies_with_the_named_error(case: dict[str, Any]) -> None:
    found = server_before(frozen("whole_round")[case["round"]], case["kind"], case["taken"])
    with pytest.raises(SecAggError) as caught:
        take(found, case["kind"], case["node"], bytes.fromhex(case["hex"]))
    assert caught.value.code == case["code"]


def read_by_the_engine(kind: str, data: bytes) -> None:
    """At the machine that reads this kind, in the step that waits for it."""
    whole = frozen("whole_round")["commit"]
    first = whole["clients"][0]
    states = {"share request": "fresh", "commit request": "masked", "unmask request": "committed"}
    if kind == "client state":
        SecAggClient.from_bytes(data)
    elif kind in states:
        client_step(SecAggClient.from_bytes(bytes.fromhex(first["states"][states[kind]])), kind)(data)
    else:
        take(server_before(whole, kind, 0), kind, first["node"], data)


@pytest.mark.parametrize("case", [one for one in bad("codec") if one.values[0]["kind"] != "masked request"])
def test_the_engine_refuses_malformed_messages_as_malformed(case: dict[str, Any]) -> None:
    with pytest.raises(SecAggError) as caught:
        read_by_the_engine(case["kind"], bytes.fromhex(case["hex"]))
    assert caught.value.code == case["code"]


def test_the_engine_encodes_floats_as_the_vectors_say() -> None:
    import numpy as np

    for case in frozen("encode"):
        update = np.frombuffer(bytes.fromhex(case["update"]), np.float32)
        (clip,) = struct.unpack("<d", bytes.fromhex(case["clip"]))
        bounds = {key: case[key] for key in ("value_bits", "weight_max", "metric_max")}
        names = ["loss", "größe"]
        found = encode_update(
            update, case["weight"], case["metrics"], names=names, clip=clip, max_clients=case["n_max"], **bounds
        )
        assert found == case["integers"]

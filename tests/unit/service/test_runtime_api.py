"""The Runtime API as the node speaks it, against a SuperNode's own server and state: no SuperLink, no stand-in."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from supernodes import NODE, RUN, Served, served

from aegis_flower.errors import SuperNodeError, TaskGone
from aegis_flower.service.flower import Claim, SuperNode, of_stub, stub

FAB = b"a bundle's bytes"
HASH = hashlib.sha256(FAB).hexdigest()
CONTENT = {"arrays": ArrayRecord({"w": Array(np.arange(6, dtype=np.float32))}), "c": ConfigRecord({"round": 1})}


def put(node: Served) -> Message:
    return node.put(RecordDict(dict(CONTENT)), "query.aegis_share", FAB, {"lr": 0.5})


@pytest.fixture
def node() -> Iterator[Served]:
    with served() as one:
        yield one


def test_a_task_is_claimed_answered_and_done_without_a_process_of_flowers(node: Served) -> None:
    sent = put(node)
    us = SuperNode(node.address)
    claim = us.acquire()
    assert claim is not None
    assert (claim.run_id, claim.fab_hash) == (RUN, HASH), "the hash is known before a byte of the app"
    assert us.acquire() is None
    given = us.pull(claim)
    assert (given.run_id, given.node_id, given.run_config) == (RUN, NODE, {"lr": 0.5})
    assert (given.fab, given.fab_hash) == (FAB, HASH)
    assert given.message.metadata.message_id == sent.metadata.message_id
    np.testing.assert_array_equal(given.message.content.array_records["arrays"]["w"].numpy(), np.arange(6))

    us.push(claim, Message(RecordDict({"r": ConfigRecord({"payload": b"x" * 3000})}), reply_to=given.message))
    us.finish(claim)
    (reply,) = node.replies()
    assert reply.metadata.reply_to_message_id == sent.metadata.message_id
    tree = node.store.get_object_tree(reply.metadata.message_id)
    assert all(node.store.get(child.object_id) for child in [tree, *tree.children])
    (task,) = node.state.get_tasks()
    assert (task.status.sub_status, task.status.details) == ("completed", "")
    context = node.state.get_run_series_context(0)
    assert context is not None
    assert context.state == RecordDict({"s": ConfigRecord({"theirs": 1})}), "no state is given back"
    with pytest.raises(TaskGone):
        us.finish(claim)


def test_a_wrong_or_missing_secret_gets_no_task_and_the_right_one_does() -> None:
    with served(b"right") as node:
        put(node)
        for wrong in (None, b"wrong"):
            with pytest.raises(SuperNodeError, match="aegis-supernode-secret"):
                SuperNode(node.address, wrong).acquire()
        us = SuperNode(node.address, b"right")
        us.probe()
        assert us.acquire() is not None


def test_a_probe_claims_nothing(node: Served) -> None:
    put(node)
    us = SuperNode(node.address)
    us.probe()
    assert us.acquire() is not None


def test_a_supernode_that_is_not_there_is_said_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(SuperNodeError, match="--isolation process"):
            SuperNode(f"127.0.0.1:{free.getsockname()[1]}").acquire()


def test_something_else_at_the_address_is_no_supernode() -> None:
    import http.server

    class Other(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"\xff\xff not protobuf")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(SuperNodeError, match="no SuperNode"):
            SuperNode(f"127.0.0.1:{server.server_address[1]}").acquire()
    finally:
        server.shutdown()
        server.server_close()


def test_no_proxy_of_the_environment_sees_a_token_or_a_message(node: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    put(node)
    assert SuperNode(node.address).acquire() is not None


def test_the_end_of_a_task_is_noticed_while_it_is_worked_on(node: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aegis_flower.service.flower.BEAT", 0.05)
    put(node)
    us = SuperNode(node.address)
    claim = us.acquire()
    assert claim is not None
    us.pull(claim)
    lost = threading.Event()
    with us.alive(claim, lost):
        assert not lost.wait(0.3)
        node.state.finish_task(claim.task_id, "stopped", "")
        assert lost.wait(30)


def test_a_message_is_answered_with_an_error_from_what_was_kept_of_it(node: Served) -> None:
    put(node)
    us = SuperNode(node.address)
    claim = us.acquire()
    assert claim is not None
    given = us.pull(claim)
    kept = stub(given.message)
    assert b"arrays" not in kept, "nothing of the content"

    after = SuperNode(node.address)  # as after a crash
    after.identify(claim, NODE)
    error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "[AEG-O005]")
    after.push(claim, Message(error, reply_to=of_stub(kept)))
    after.finish(claim)
    (reply,) = node.replies()
    assert (reply.error.reason, reply.metadata.dst_node_id) == ("[AEG-O005]", SUPERLINK_NODE_ID)
    with pytest.raises(ValueError, match="no message"):
        of_stub(b"\xff\xff")


def test_a_task_that_was_claimed_and_never_started_can_still_be_answered(node: Served) -> None:
    sent = put(node)
    us = SuperNode(node.address)
    claim = us.acquire()
    assert claim is not None
    message = SuperNode(node.address).unanswered(Claim(**vars(claim)), None)
    assert message is not None
    assert message.metadata.message_id == sent.metadata.message_id

"""A SuperNode without its link: its own server and state, for tests that put messages there and read the replies."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.main import create_app
from flwr.supernode.nodestate import NodeState, NodeStateFactory

RUN, NODE = 11, 22


class Served:
    """A SuperNode without its link: the server, and the state behind it."""

    def __init__(self, secret: bytes | None = None, port: int = 0) -> None:
        store = ObjectStoreFactory()
        factory = NodeStateFactory(objectstore_factory=store)
        self.state: NodeState = factory.state()
        self.store = store.store()
        self.state.set_node_id(NODE)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = port or probe.getsockname()[1]
        app = create_app(state_factory=factory, superexec_auth_secret=secret)
        self.server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="warning"))
        self._thread = threading.Thread(target=self.server.run, daemon=True)
        self._thread.start()
        until = time.monotonic() + 60
        while not self.server.started:
            assert time.monotonic() < until
            time.sleep(0.02)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def put(
        self, content: RecordDict, kind: str, fab: bytes, config: Mapping[str, Any] | None = None, run_id: int = RUN
    ) -> Message:
        """A message for the node, as the link would put it there."""
        theirs = RecordDict({"s": ConfigRecord({"theirs": 1})})
        context = Context(run_id, NODE, {"theirs": 1}, theirs, dict(config or {}))
        run = Run.create_empty(run_id)
        run.fab_hash = hashlib.sha256(fab).hexdigest()
        self.state.set_run_series_context(run.series_id, context)
        self.state.store_run(run)
        self.state.store_fab(Fab(run.fab_hash, fab, {}))
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, SUPERLINK_NODE_ID
        message = Message(content, dst_node_id=NODE, message_type=kind)
        message.metadata.__dict__["_message_id"] = message.object_id
        assert self.state.create_task(task_type=TaskType.CLIENT_APP, run_id=run_id, fab_hash=run.fab_hash) is not None
        self.store.preregister(run_id, get_object_tree(message))
        for name, each in get_all_nested_objects(message).items():
            self.store.put(name, each.deflate())
        self.state.store_message(message)
        return message

    def replies(self) -> list[Message]:
        """What waits to be sent to the server, without its content."""
        return list(self.state.get_messages_legacy(is_reply=True))

    def content_of(self, reply: Message) -> Message:
        """A reply with its content."""

        def below(tree: Any) -> Iterator[str]:
            yield tree.object_id
            for child in tree.children:
                yield from below(child)

        names = below(self.store.get_object_tree(reply.metadata.message_id))
        found = inflate_object_from_contents(reply.metadata.message_id, {n: self.store.get(n) or b"" for n in names})
        assert isinstance(found, Message)
        return found

    def reply(self, timeout: float = 120.0) -> Message:
        """The next reply, with its content, once it is there whole."""
        until = time.monotonic() + timeout
        while True:
            if found := self.replies():
                break
            assert time.monotonic() < until, "no reply"
            time.sleep(0.05)
        if found[0].has_error():
            return found[0]
        while True:
            try:
                return self.content_of(found[0])
            except (ValueError, KeyError, AttributeError):
                assert time.monotonic() < until, "the reply is not whole"
                time.sleep(0.05)

    def close(self) -> None:
        self.server.should_exit = True
        self._thread.join(30)


@contextmanager
def served(secret: bytes | None = None) -> Iterator[Served]:
    one = Served(secret)
    try:
        yield one
    finally:
        one.close()

"""The ``inprocess`` runtime: a Flower `Grid` in this process. The same apps, no Ray, no daemon, no sockets."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Any, Self

from flwr.app import Context, Error, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from aegis_flower.errors import AegisError
from aegis_flower.node.trust import one_process
from aegis_flower.steps import Step

log = logging.getLogger("aegis")

_PATIENCE = 5.0  # seconds for running handlers, after an interrupt


def _one_thread() -> None:
    """A core a worker: torch's OpenMP teams in several threads wait for each other (3 x slower for a small model)."""
    torch = sys.modules.get("torch")  # an app without torch needs none
    if torch is not None:
        torch.set_num_threads(1)


class _Queues:
    """A queue for each node, served by a bounded number of threads.

    A node handles one message of a run at a time, as a SuperNode does. What waits for a slow node waits in that node's queue and
    holds no thread, so that the others go on.
    """

    def __init__(self, workers: int) -> None:
        self._waiting: dict[int, deque[tuple[Future[Message], Callable[[Message], Message], Message]]] = {}
        self._ready: deque[int] = deque()
        self._running: set[int] = set()
        self._changed = threading.Condition()
        self._closed = False
        # Daemons: a handler that hangs must not keep a process that was interrupted.
        self._threads = [
            threading.Thread(target=self._work, name=f"aegis-node-{i}", daemon=True) for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, node: int, handle: Callable[[Message], Message], message: Message) -> Future[Message]:
        """Puts a message into a node's queue."""
        future: Future[Message] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the grid is closed")
            self._waiting.setdefault(node, deque()).append((future, handle, message))
            if node not in self._running and node not in self._ready:
                self._ready.append(node)
                self._changed.notify()
        return future

    def _work(self) -> None:
        _one_thread()
        while True:
            with self._changed:
                while not self._ready and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                node = self._ready.popleft()
                self._running.add(node)
                future, handle, message = self._waiting[node].popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(handle(message))
                except BaseException as error:  # noqa: BLE001 - the future's to tell; the thread goes on
                    future.set_exception(error)
            with self._changed:
                self._running.discard(node)
                if self._waiting[node] and not self._closed:
                    self._ready.append(node)
                    self._changed.notify()

    def close(self, patience: float | None) -> None:
        """Cancels what waits, and waits for what runs."""
        with self._changed:
            self._closed = True
            for queue in self._waiting.values():
                for future, *_ in queue:
                    future.cancel()
            self._changed.notify_all()
        until = None if patience is None else time.monotonic() + patience
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))


class InProcessGrid(Grid):
    """Nodes of this process, each with a `Context` that persists and a queue of its own, on a bounded number of threads.

    Messages are handed over without serialising; each node gets its own copy of the records it may write into.

    Args:
        client_app: the app every node runs.
        node_configs: one node config a node, as its operator would write it.
        run_config: the run config every node sees.
        run_id: id of the run.
        workers: threads; 0 takes one a core but never more than nodes.
        lose: node loss to inject, (node index, round, step): from that message on the node is gone.
    """

    def __init__(
        self,
        client_app: ClientApp,
        node_configs: Sequence[Mapping[str, Any]],
        *,
        run_config: UserConfig | None = None,
        run_id: int = 1,
        workers: int = 0,
        lose: Iterable[tuple[int, int, str]] = (),
    ) -> None:
        self._app = client_app
        self._run = Run.create_empty(run_id)
        self._contexts = {
            i + 1: Context(
                run_id=run_id,
                node_id=i + 1,
                node_config=one_process(config),
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for i, config in enumerate(node_configs)
        }
        self.workers = max(1, min(workers or (os.cpu_count() or 1), len(self._contexts)))
        self._queues = _Queues(self.workers)
        self._ids = itertools.count(1)
        self._pending: dict[str, Future[Message]] = {}
        self._lose = {(i + 1, r, s) for i, r, s in lose}
        self._gone: set[int] = set()
        TaskIdentity.task_id = 1
        TaskIdentity.run_id = run_id
        TaskIdentity.node_id = SUPERLINK_NODE_ID

    def set_run(self, run: Run) -> None:
        """Takes the run's description."""
        self._run = run

    @property
    def app(self) -> ClientApp:
        """The app every node runs."""
        return self._app

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Makes a message of this run."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Nodes that are up."""
        return [n for n in self._contexts if n not in self._gone]

    def context(self, node_id: int) -> Context:
        """A node's context, for tests and reports of simulations."""
        return self._contexts[node_id]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Starts handling messages; gives their ids."""
        ids = []
        for message in messages:
            message_id = f"m{next(self._ids)}"
            message.metadata.__dict__["_message_id"] = message_id  # as Flower's own in-memory grid does
            self._pending[message_id] = self._queues.submit(message.metadata.dst_node_id, self._handle, message)
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies that are ready, each once."""
        ready = []
        for message_id in list(message_ids):
            future = self._pending.get(message_id)
            if future is not None and future.done():
                ready.append(self._pending.pop(message_id).result())
        return ready

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Sends and waits for all replies, at most `timeout` seconds."""
        ids = list(self.push_messages(messages))
        wait([self._pending[i] for i in ids], timeout=timeout)
        replies = list(self.pull_messages(ids))
        for late in ids:
            if (future := self._pending.pop(late, None)) is not None:
                future.cancel()
        return replies

    def close(self, patience: float | None = None) -> None:
        """Stops the workers. Running handlers finish; with `patience`, only so many seconds are waited for them."""
        self._queues.close(patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Whoever interrupts a run waits for no straggler.
        self.close(_PATIENCE if kind is not None and issubclass(kind, KeyboardInterrupt) else None)

    def _handle(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        if self._is_lost(node, message):
            return Message(Error(ErrorCode.NODE_UNAVAILABLE, "node unavailable"), reply_to=message)
        # Handlers may write into records (Flower's own do), and all nodes share the objects the server made.
        content = RecordDict({key: record.copy() for key, record in message.content.items()})
        mine = Message(content=content, metadata=message.metadata)  # type: ignore[call-overload]  # as Flower itself does
        try:
            return self._app(mine, self._contexts[node])
        except AegisError as error:
            reason = f"[{error.code}] {error}"
        except Exception as error:
            log.exception("aegis: node %d failed", node)
            reason = f"{type(error).__name__}: {error}"  # as a SuperNode words it
        return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)

    def clients_model(self) -> Callable[[], Any] | None:
        """What builds the model of the app's client, where it has one of its own; None where that cannot be told."""
        make = getattr(self._app, "make", None)
        if make is None:
            return None
        try:
            own = getattr(make(self.context(next(iter(self.get_node_ids())))), "own_model", None)
            build: Callable[[], Any] | None = own() if own is not None else None
            if build is not None:
                build()
        except Exception:  # noqa: BLE001 - the nodes say it, in the first round
            return None
        return build

    def _is_lost(self, node: int, message: Message) -> bool:
        if node in self._gone or node not in self._contexts:
            return True
        if not self._lose:
            return False
        step = Step.of(message.metadata.message_type)
        records = message.content.config_records
        record: Mapping[str, Any] = records.get("aegis") or records.get("config") or {}
        round_ = int(record.get("round", record.get("server-round", 0)))
        # A step may send a node no message: in the steady state, shares come with the unmask step of the round before.
        now = (round_, step.order if step else 0)
        if any(n == node and (r, Step(s).order) <= now for n, r, s in self._lose):
            self._gone.add(node)
            return True
        return False


def run_inprocess(
    server_app: ServerApp,
    client_app: ClientApp,
    node_configs: Sequence[Mapping[str, Any]],
    *,
    run_config: UserConfig | None = None,
    run_id: int | None = None,
    workers: int = 0,
    lose: Iterable[tuple[int, int, str]] = (),
) -> Context:
    """Runs a ServerApp against nodes of this process, as `flwr run` would against a federation.

    Args:
        server_app: any Message-API `ServerApp`.
        client_app: the app every node runs.
        node_configs: one node config a node.
        run_config: the run config of server and nodes.
        run_id: id of the run; None draws one from the clock.
        workers: see `InProcessGrid`.
        lose: see `InProcessGrid`.

    Returns:
        The server's context, with what the app left in its state.
    """
    number = run_id if run_id is not None else time.time_ns() % 2**62
    with InProcessGrid(
        client_app, node_configs, run_config=run_config, run_id=number, workers=workers, lose=lose
    ) as grid:
        context = Context(
            run_id=number,
            node_id=SUPERLINK_NODE_ID,
            node_config={},
            state=RecordDict(),
            run_config=dict(run_config or {}),
        )
        server_app(grid=grid, context=context)
        return context

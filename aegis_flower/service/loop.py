"""The loop of `aegis node run`: one process that claims tasks from a SuperNode, answers them, and does what the operator orders.

It never starts Flower's own processes. A crash at any step leaves the vault, the ledgers and the protocol's state whole: the
answer that was on its way is lost, and the run goes on with the next message.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from flwr.app import Context, Message, RecordDict

from aegis_flower import door
from aegis_flower.configs import compose
from aegis_flower.errors import AppNotApproved, Interrupted, NodePaused, SuperNodeError, TaskGone
from aegis_flower.files import write_atomically
from aegis_flower.jailed import close_jails
from aegis_flower.node import node as nodes
from aegis_flower.node.node import open_node
from aegis_flower.service import flower
from aegis_flower.service.answers import Answers, Halt
from aegis_flower.service.check import confined
from aegis_flower.service.control import Control
from aegis_flower.service.flower import Claim, Given, SuperNode
from aegis_flower.service.health import Health
from aegis_flower.service.journal import Journal
from aegis_flower.service.settings import Settings
from aegis_flower.service.shown import Shown, metrics_text, status_of
from aegis_flower.steps import Step

_BUSY_POLL: Final = 0.05  # seconds between two looks for a task, for some time after the last one
_IDLE_POLL: Final = 0.5
_BUSY: Final = 30.0
_AWAY: Final = 1.0  # seconds between two tries to reach a SuperNode
_WATCH: Final = 0.2  # seconds between two looks at the operator's orders
_GRACE: Final = 20.0  # seconds that a task may go on after an order to end


class Service:
    """A node that runs. Opens everything when it is made, and serves until it is told to end.

    Raises:
        AegisError: something that it needs is not there; says what to do.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.control = Control(settings.control).take()
        try:
            nodes.keep_states()
            confined(settings.layers)
            self.node = open_node(Context(0, 0, dict(settings.node), RecordDict(), {}), compose())
            self.journal = Journal(settings.log)
            self.journal.follow(Path(self.node.vault.path) / "audit", self.control.file("journal.at"))
            self.supernode = SuperNode(settings.supernode, settings.shared_secret())
            self.answers = Answers(settings, self.control)
        except BaseException:
            self.control.release()
            raise
        self.since = time.time()
        self.reached: float | None = None
        self.working: tuple[str, str, float] | None = None  # step, run, since when
        self.seconds = 0.0
        self._halt: Halt | None = None
        self._ending = threading.Event()
        self._ended_at = 0.0
        self._paused = self._was_paused()
        self._health: Health | None = None
        self._said = 0.0

    # -- serving --------------------------------------------------------------------------------------------------------------

    def run(self, *, dry: bool = False) -> None:
        """Serves until `end`, an order to stop, or SIGTERM. With `dry`, everything up to the first claim.

        Raises:
            SuperNodeError: with `dry`, no SuperNode can be reached.
        """
        if self.settings.health is not None:
            self._health = Health(self.settings.health, self.status, self.metrics, lambda: self.reached is not None)
        watcher = threading.Thread(target=self._watch, name="aegis-orders", daemon=True)
        watcher.start()
        try:
            if dry:
                self.supernode.probe()
                self.reached = time.time()
                return
            self.journal.note("start", pid=os.getpid(), node=self.settings.name)
            self._resume_claim()
            self._serve()
            self.journal.note("stop", pid=os.getpid(), node=self.settings.name)
        finally:
            self.end()
            watcher.join(5.0)
            if self._health is not None:
                self._health.close()
            self._say()
            close_jails()
            self.supernode.close()
            self.control.release()
            nodes.close_nodes()

    def end(self) -> None:
        """Ends the service once the task in hand is answered; after 20 s, the task as well."""
        if not self._ending.is_set():
            self._ended_at = time.monotonic()
            self._ending.set()

    def on_signals(self) -> None:
        """Lets SIGTERM and SIGINT end the service gracefully."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.end())

    def _serve(self) -> None:
        last = time.monotonic()
        while not self._ending.is_set():
            try:
                claim = self.supernode.acquire()
            except SuperNodeError as error:
                self._away(error)
                self._ending.wait(_AWAY)
                continue
            self._here()
            if claim is None:
                self._ending.wait(_BUSY_POLL if time.monotonic() - last < _BUSY else _IDLE_POLL)
                continue
            self._work(claim)
            last = time.monotonic()

    def _here(self) -> None:
        if self.reached is None:
            self.journal.note("supernode-reached")
        self.reached = time.time()

    def _away(self, error: SuperNodeError) -> None:
        if self.reached is not None or not self.journal.counts["event", "supernode-away"]:
            self.journal.note("supernode-away", code=error.code)
        self.reached = None

    # -- one task -------------------------------------------------------------------------------------------------------------

    def _work(self, claim: Claim) -> None:
        halt, lost = Halt(), threading.Event()
        started = time.monotonic()
        self._remember(claim)
        try:
            with self.supernode.alive(claim, lost):
                given = self.supernode.pull(claim)
                self._remember(claim, given.message)
                kind = given.message.metadata.message_type
                self.working = (str(Step.of(kind) or kind)[:64], str(given.run_id), time.time())
                with self._watched(halt, lost):
                    reply = self.answers.answer(given, halt)
                self._note(given, reply)
                self._wait_for_grid(lost)
                if not lost.is_set():
                    self.supernode.push(claim, reply)
                    self.supernode.finish(claim)
        except SuperNodeError as error:
            self.journal.note("task-lost", code=error.code, run=str(claim.run_id))
        except Exception as error:  # noqa: BLE001 - one message that nobody can read must not end a node
            self.journal.note("task-failed", type=type(error).__name__, run=str(claim.run_id))
        finally:
            self.working = None
            self.seconds += time.monotonic() - started
            self.journal.counts["event", "tasks"] += 1
            self.journal.audit()
            self.control.file("claim.json").unlink(missing_ok=True)

    @contextmanager
    def _watched(self, halt: Halt, lost: threading.Event) -> Iterator[None]:
        """Lets the operator's orders, the list of approvals and the SuperNode end the task."""
        done = threading.Event()
        self._halt = halt
        if self.control.paused:
            halt.set(NodePaused("the operator has halted all use"))

        def look() -> None:
            while not done.wait(_WATCH):
                try:
                    if lost.is_set():
                        halt.set(Interrupted("the SuperNode took the task away"))
                    elif halt.approval is not None and not self.answers.still(halt.approval):
                        halt.set(AppNotApproved("the app's approval was taken back while it worked"))
                except Exception as error:  # noqa: BLE001 - an approval that cannot be read is none
                    halt.set(AppNotApproved(f"the list of approvals cannot be read ({type(error).__name__})"))

        thread = threading.Thread(target=look, name="aegis-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._halt = None
            done.set()
            thread.join(5.0)

    def _note(self, given: Given, reply: Message) -> None:
        self.journal.audit()
        if code := door.code_in(reply):
            step = Step.of(given.message.metadata.message_type)
            self.journal.refusal(code, step or "other", given.run_id, app_hash=given.fab_hash)
        else:
            self.journal.counts["answer", str(Step.of(given.message.metadata.message_type) or "other")] += 1

    def _wait_for_grid(self, lost: threading.Event) -> None:
        """Lets a reply leave at a multiple of the operator's seconds alone."""
        if self.settings.grid:
            lost.wait(self.settings.grid - time.time() % self.settings.grid)

    # -- a task that a crash left ---------------------------------------------------------------------------------------------

    def _remember(self, claim: Claim, message: Message | None = None) -> None:
        kept: dict[str, Any] = {"claim": vars(claim)}
        if message is not None:
            kept["message"] = base64.b64encode(flower.stub(message)).decode()
            kept["node"] = message.metadata.dst_node_id
        write_atomically({self.control.file("claim.json"): json.dumps(kept).encode()})

    def _resume_claim(self) -> None:
        """Answers for the task that the process before worked on: a SuperNode waits for an answer, and for nothing else."""
        file = self.control.file("claim.json")
        try:
            kept = json.loads(file.read_bytes())
            claim, message = Claim(**kept["claim"]), None
            if "message" in kept:
                message = flower.of_stub(base64.b64decode(kept["message"]))
                self.supernode.identify(claim, int(kept["node"]))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError):
            file.unlink(missing_ok=True)
            return
        try:
            if message is None:
                message = self.supernode.unanswered(claim, None)
            if message is not None:
                context = Context(claim.run_id, message.metadata.dst_node_id, {}, RecordDict(), {})
                self.supernode.push(claim, door.refuse(Interrupted("the node was ended meanwhile"), message, context))
                self.supernode.finish(claim)
                self.journal.refusal(Interrupted.code, "interrupted", claim.run_id, app_hash=claim.fab_hash)
        except TaskGone:
            pass
        except SuperNodeError as error:
            self._away(error)
        finally:
            file.unlink(missing_ok=True)

    # -- orders and what is told ----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Reads the operator's orders while the service runs, and keeps the status. Nothing that fails here ends it."""
        failed = ""
        while not self._ending.wait(_WATCH) or self.working is not None:
            try:
                self._look()
                failed = ""
            except Exception as error:  # noqa: BLE001 - a full disk must not leave a node that no order reaches
                if failed != (failed := type(error).__name__):
                    self.journal.note("orders-failed", type=failed)
            if self._ending.is_set():
                time.sleep(_WATCH)

    def _look(self) -> None:
        paused, halt = self.control.paused, self._halt
        if halt is not None and paused:  # before it is put on record: use ends at once
            halt.set(NodePaused("the operator has halted all use"))
        if self.control.stopping:
            self.end()
        if halt is not None and self._ending.is_set() and time.monotonic() - self._ended_at > _GRACE:
            halt.set(Interrupted("the node is ending"))
        if paused != self._paused:
            self._turn(paused)
        if time.monotonic() - self._said > 1.0:
            self._said = time.monotonic()
            self._say()

    def _turn(self, paused: bool) -> None:
        event = "node.pause" if paused else "node.resume"
        self.node.vault.record(event, {"node": self.settings.name})
        self._paused = paused
        self.journal.note("pause" if paused else "resume")

    def _was_paused(self) -> bool:
        """Whether the audit log has a pause that nothing ended: one that was ordered while the node was down is put there."""
        seen = [
            self.node.vault.audit_find_last(f"node.{what}", "node", self.settings.name) for what in ("pause", "resume")
        ]
        pause, resume = (-1 if record is None else int(record["seq"]) for record in seen)
        return pause > resume

    def _say(self) -> None:
        self.control.say(self.status())

    def status(self) -> dict[str, Any]:
        """What `aegis node status` shows."""
        return status_of(self._shown())

    def metrics(self) -> str:
        """What Prometheus reads."""
        return metrics_text(self._shown())

    def _shown(self) -> Shown:
        return Shown(
            name=self.settings.name,
            vault=self.node.vault.id,
            address=self.supernode.address,
            since=self.since,
            reached=self.reached,
            working=self.working,
            seconds=self.seconds,
            paused=self.control.paused,
            waiting=self.answers.waiting,
            counts=self.journal.counts,
        )

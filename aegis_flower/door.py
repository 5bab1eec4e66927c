"""The door: the one way from a node to the server.

What a handler returns is an `Outgoing`, and an `Outgoing` is made only from a `Release` of the engine's gates, by the
engine's own protocol state machine, or from a code. `DoorApp` registers no handler past it, and no exception: the server
reads a code, the words stay in the node's log and in this process (`aegis_flower.node.node.refusals`).
"""

from __future__ import annotations

import logging
import re
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn, final

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from aegis_engine import Release, SecAggClient
from aegis_flower import wire
from aegis_flower.errors import AegisError, AppError
from aegis_flower.metrics import DEFAULT, Metrics
from aegis_flower.node import node as nodes
from aegis_flower.node.keys import PREFIX
from aegis_flower.steps import Step

log = logging.getLogger("aegis")

UNKNOWN = "AEG-X000"
_CODE = re.compile(r"AEG-[A-Z][0-9]{3}")
_HERE = Path(__file__).parent
_LIBRARIES = {Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib", "platlib")}
_MADE: Final = object()


@final
class Outgoing:
    """What may go to the server. There is no other way to make one than the three below.

    Attributes:
        code: of a refusal; empty otherwise.
        payload: a protocol message; None where the answer is a record of Flower's.
        content: records of a release in clear; None where there is none.
    """

    __slots__ = ("code", "content", "payload")

    def __init__(
        self, made: object, code: str = "", payload: bytes | None = None, content: RecordDict | None = None
    ) -> None:
        if made is not _MADE:
            raise TypeError("an Outgoing is made from a Release, by the protocol's state machine, or from a code")
        self.code, self.payload, self.content = code, payload, content

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("nothing is derived from Outgoing")

    @classmethod
    def refusal(cls, error: BaseException) -> Outgoing:
        """The code of an error, and nothing else of it."""
        return cls(_MADE, code=code_of(error))

    @classmethod
    def protocol(cls, client: SecAggClient, step: str, request: bytes = b"", **masking: Any) -> Outgoing:
        """What the engine's state machine answers to a step of the protocol.

        Raises:
            SecAggError: it refuses.
        """
        if type(client) is not SecAggClient or (known := Step.named(step)) is None or not known.protocol:
            raise TypeError("a protocol message is made by the engine's SecAggClient")
        if step == "advertise":
            return cls(_MADE, payload=client.advertise())
        if step == "masked":
            return cls(_MADE, payload=client.masked_input(request, **masking))
        answer: Callable[[bytes], bytes] = getattr(client, step)
        return cls(_MADE, payload=answer(request))

    @classmethod
    def update(cls, release: Release, before: Sequence[np.ndarray[Any, Any]], like: ArrayRecord) -> Outgoing:
        """A released update in clear, added to the weights the server sent, under the names it sent.

        Raises:
            GateFailed: it was released for secure aggregation, and so leaves only masked.
        """
        if type(release) is not Release:
            raise TypeError("an update leaves only as a Release")
        change, at, arrays = np.frombuffer(release.update(), dtype=np.float32), 0, {}
        for name, start in zip(like, before, strict=True):
            arrays[name] = Array(np.asarray(start + change[at : at + start.size].reshape(start.shape), np.float32))
            at += start.size
        metrics = MetricRecord({"num-examples": release.weight})
        return cls(_MADE, content=RecordDict({wire.ARRAYS: ArrayRecord(arrays), "metrics": metrics}))

    @classmethod
    def counts(cls, release: Release, metrics: Metrics = DEFAULT, *, classes: bool = True) -> Outgoing:
        """Released sums over held-out rows in clear: rows, loss and accuracy as Flower's strategies average them, of every client
        alike; and all of them as they are (record ``sums``), for `ClearAggregation`, since not every metric is a mean.
        """
        if type(release) is not Release:
            raise TypeError("counts leave only as a Release")
        sums = release.metrics()
        found = metrics.whole(sums)
        rows = max(0, int(found.get("examples", 0)))
        share = {  # counts may carry noise: cut to where the numbers can lie
            "loss": max(0.0, found.get("loss_milli", 0) / 1000 / max(1, rows)),
        }
        if classes and "correct" in found:
            share["accuracy"] = min(1.0, max(0.0, found["correct"] / max(1, rows)))
        numbers = MetricRecord({"num-examples": rows, **share})
        return cls(_MADE, content=RecordDict({"metrics": numbers, wire.SUMS: ConfigRecord({**sums})}))

    @classmethod
    def without_vault(cls, context: Context, content: RecordDict) -> Outgoing:
        """Records of a client that has no vault: they are no numbers of this node's data.

        Raises:
            AppError: the operator gave the node a vault, so nothing but a Release leaves it.
        """
        if any(str(key).startswith(PREFIX) for key in context.node_config):
            raise AppError(
                "this node's operator gave it a vault, from which only releases leave, and the app's client is no "
                "VaultClient; derive the client from VaultClient"
            )
        return cls(_MADE, content=content)


Handler = Callable[[Message, Context], Outgoing]


@final
class Door:
    """A handler with the door before it: Flower's signature outside, `Outgoing` inside."""

    def __init__(self, kind: str, action: str, handler: Handler) -> None:
        self.kind, self.action, self._handler = kind, action, handler

    def __call__(self, message: Message, context: Context) -> Message:
        """Answers a message; whatever happens, with a release, a protocol message or a code."""
        nodes.current.set(None)
        try:
            out = self._handler(message, context)
            if type(out) is not Outgoing:
                raise AppError(
                    f"the handler {self.kind}.{self.action} returned a {type(out).__name__}; what leaves a node is an "
                    "aegis_flower.door.Outgoing, which is made from a Release"
                )
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of the engine or sys.exit() of an app is a refusal, too
            out = _refused(error, message, context)
        return _reply(out, message, context)


def _reply(out: Outgoing, message: Message, context: Context) -> Message:
    """The message of an `Outgoing`. Protocol steps carry the node's audit head, of which the server is the first witness."""
    step = Step.of(message.metadata.message_type)
    if step is None or not step.protocol:
        if out.content is not None:
            return Message(out.content, reply_to=message)
        code = out.code or UNKNOWN
        return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, f"[{code}]"), reply_to=message)
    reply = wire.Reply(out.payload or b"", out.code or ("" if out.payload is not None else UNKNOWN))
    if (node := nodes.current.get()) is not None:
        try:
            records, head = node.vault.audit_head()
            reply = wire.Reply(reply.payload, reply.code, "", records, head, node.config.name)
        except BaseException as error:  # noqa: BLE001 - nothing leaves a node whose log is not whole
            reply = wire.Reply(code=_refused(error, message, context).code)
    return Message(reply.to_content(), reply_to=message)


def refuse(error: BaseException, message: Message, context: Context) -> Message:
    """What is answered to a message that no app may see: the code of an error."""
    nodes.current.set(None)
    return _reply(_refused(error, message, context), message, context)


def code_in(reply: Message) -> str:
    """The code that a reply refuses with; empty where it answers."""
    if reply.has_error():
        found = _CODE.search(reply.error.reason or "")
        return found[0] if found else UNKNOWN
    said = wire.Reply.from_content(reply.content)
    return said.code if said is not None else ""


class DoorApp(ClientApp):
    """A Flower `ClientApp` whose handlers, those that are registered later included, answer through the door."""

    make: Callable[[Context], Any] | None = None  # what builds the client, for a server in the same process

    def __init__(self) -> None:
        super().__init__()

    def train(self, action: str = "default", *, mods: Any = None) -> Callable[[Handler], Handler]:  # type: ignore[override]
        """Registers a train handler, as `ClientApp.train` does; it returns an `Outgoing`."""
        return self._through("train", action, mods)

    def evaluate(self, action: str = "default", *, mods: Any = None) -> Callable[[Handler], Handler]:  # type: ignore[override]
        """Registers an evaluate handler; it returns an `Outgoing`."""
        return self._through("evaluate", action, mods)

    def query(self, action: str = "default", *, mods: Any = None) -> Callable[[Handler], Handler]:  # type: ignore[override]
        """Registers a query handler; it returns an `Outgoing`."""
        return self._through("query", action, mods)

    def _through(self, kind: str, action: str, mods: Any) -> Callable[[Handler], Handler]:
        if mods:
            raise AppError("Flower's mods change what a handler returns after the gates; aegis_client_app() takes none")
        register = getattr(super(), kind)(action)

        def decorate(handler: Handler) -> Handler:
            register(Door(kind, action, handler))
            return handler

        return decorate

    @property
    def handlers(self) -> dict[str, Door]:
        """Every registered handler, by Flower's ``kind.action``."""
        return {name: door for name, door in self._registered_funcs.items() if isinstance(door, Door)}

    def __call__(self, message: Message, context: Context) -> Message:
        """Answers a message through its handler's door; one that nobody registered is refused by a code."""
        name = message.metadata.message_type
        full = name if "." in name else f"{name}.default"
        door = self._registered_funcs.get(full)
        if isinstance(door, Door):
            try:
                with self._lifespan(context):
                    return door(message, context)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - of the app's lifespan function
                return _reply(_refused(error, message, context), message, context)
        unknown = AppError(f"no handler {full!r} was registered through the door")
        return _reply(_refused(unknown, message, context), message, context)


# -- codes and words ------------------------------------------------------------------------------------------------------


def code_of(error: BaseException) -> str:
    """The stable code of an error; that of an error which is not AEGIS's own says nothing more."""
    code = getattr(error, "code", None)
    if isinstance(error, AegisError) and type(code) is str and _CODE.fullmatch(code):
        return code
    return UNKNOWN


def words_of(error: BaseException) -> str:
    """What happened, for the node's operator: the text, and of a foreign error its type and where in the app it came up."""
    if isinstance(error, AegisError) and code_of(error) != UNKNOWN:
        return str(error)
    where = ""
    for frame in traceback.extract_tb(error.__traceback__):
        file = Path(frame.filename)
        if not file.is_relative_to(_HERE) and not any(file.is_relative_to(folder) for folder in _LIBRARIES):
            where = f" ({frame.filename}:{frame.lineno} in {frame.name})"
    return f"{type(error).__name__}: {error}{where}"


@contextmanager
def codes_only(message_type: str) -> Iterator[None]:
    """For what is called past the app: an error keeps its code and loses its words, which go to the log."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, its words stay here
        log.warning("aegis: refused %s: [%s] %s", message_type, code_of(error), words_of(error))
        raise AegisError("refused; the node's log has the details", code_of(error)) from None


def _refused(error: BaseException, message: Message, context: Context) -> Outgoing:
    """Notes a refusal where the operator finds it, and gives what the server learns of it."""
    out = Outgoing.refusal(error)
    try:
        kind = message.metadata.message_type
        words = words_of(error)
        log.warning("aegis: refused %s: [%s] %s", kind, out.code, words)
        log.debug("aegis: %s", out.code, exc_info=error)
        nodes.note_refusal(context.run_id, context.node_id, (_round(message), Step.of(kind) or kind, out.code, words))
    except Exception:  # noqa: BLE001, S110 - an error whose own text cannot be made must not become another answer
        pass
    return out


def _round(message: Message) -> int:
    for record in message.content.config_records.values():
        for key in ("round", "server-round"):
            value = record.get(key)
            if type(value) is int:
                return value
    return 0

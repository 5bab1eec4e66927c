"""What the node says to a stock SuperNode: its Runtime API, as Flower's own executors speak it (1.41, 1.42).

The one file of the plugin that knows Flower's private modules for this; ``tests/contract/test_flower_runtime.py`` names all that
it relies on and holds that each Flower allowed has it. A request is a POST of protobuf bytes on loopback: no proxy of the
environment is used, no redirect is followed, and nothing here ends the process or sends it a signal, as Flower's own client does.

Who claims a task gets its token and the app's hash before a byte of the app; with the token it pulls the message, pushes the
reply, and says that the task is done. `push-logs` and the details of a task's end, which go to the server, are never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx
from flwr.app import Context, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import SubStatus
from flwr.common.serde import context_from_proto, message_from_proto, message_to_proto
from flwr.proto import message_pb2, runtime_pb2
from flwr.proto.node_pb2 import Node as NodeProto
from flwr.supercore.auth.superexec import create_superexec_auth_metadata, derive_auth_secret
from flwr.supercore.constant import TASK_TOKEN_HEADER, TaskType
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree, push_objects
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Proto

from aegis_flower.errors import SuperNodeError, TaskGone
from aegis_flower.service.keys import SUPERNODE_SECRET

PREFIX: Final = "/v1/runtime/"
_ACQUIRE: Final = "/flwr.proto.Runtime/AcquireTask"
_SECONDS: Final = 30.0  # of one request
_PATIENCE: Final = 5.0  # for a SuperNode that does not take the connection
BEAT: Final = 8.0  # seconds between two signs of life; a claim without any ends after 30, a running task after 60

Answer = TypeVar("Answer", bound=Proto)


@dataclass(frozen=True)
class Claim:
    """A task that is this node's: its number, its run, the hash of the app it is for, and the token that answers it."""

    task_id: int
    run_id: int
    fab_hash: str
    token: str


@dataclass(frozen=True)
class Given:
    """What the SuperNode gave for a task. Nothing of it is trusted but to come from the server.

    Attributes:
        message: the server's message.
        run_id, node_id: Flower's numbers.
        run_config: what the app's own configuration and the researcher say.
        fab: the app's bytes.
        fab_hash: their SHA-256, computed here.
    """

    message: Message
    run_id: int
    node_id: int
    run_config: dict[str, Any]
    fab: bytes
    fab_hash: str


class SuperNode:
    """The Runtime API of one SuperNode on loopback.

    Args:
        address: ``host:port``.
        secret: what its ``--superexec-auth-secret-file`` holds; None where it has none.

    Every method raises `SuperNodeError` when the SuperNode cannot be reached or does not answer as Flower's does, and those of
    a claim `TaskGone` when the task is no longer this node's.
    """

    def __init__(self, address: str, secret: bytes | None = None) -> None:
        self.address = address
        self._secret = derive_auth_secret(secret) if secret else None
        self._headers = dict(RuntimeVersionMetadata.from_local_component("aegis-node").as_metadata())
        self._http = httpx.Client(
            base_url=f"http://{address}", timeout=_SECONDS, trust_env=False, follow_redirects=False
        )

    def close(self) -> None:
        """Lets the connections go."""
        self._http.close()

    def acquire(self) -> Claim | None:
        """The oldest waiting task, claimed; None where there is none."""
        return self._acquire([TaskType.CLIENT_APP])

    def probe(self) -> None:
        """Asks for a task of no kind: nothing is claimed, and a wrong address or secret is found."""
        self._acquire([])

    def _acquire(self, kinds: list[str]) -> Claim | None:
        request = runtime_pb2.AcquireTaskRequest(supported_task_types=kinds)
        headers = {}
        if self._secret is not None:
            headers = create_superexec_auth_metadata(auth_secret=self._secret, method=_ACQUIRE, request=request)
        answer = self._call("acquire-task", request, runtime_pb2.AcquireTaskResponse, headers)
        if not answer.HasField("task") or not answer.token:
            return None
        return Claim(answer.task.task_id, answer.task.run_id, answer.task.fab_hash, answer.token)

    def pull(self, claim: Claim) -> Given:
        """Starts a claimed task: its message, run configuration and app."""
        answer = self._ours(
            claim, "pull-task-input", runtime_pb2.PullTaskInputRequest(), runtime_pb2.PullTaskInputResponse
        )
        context = context_from_proto(answer.context)
        node, run = context.node_id, context.run_id
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = claim.task_id, run, node
        waiting = self._ours(
            claim, "pull-messages", runtime_pb2.PullAppMessagesRequest(), runtime_pb2.PullAppMessagesResponse
        )
        if not waiting.messages_list:
            raise TaskGone(f"the SuperNode at {self.address} has no message for the task {claim.task_id}")
        tree, sender = waiting.message_object_trees[0], NodeProto(node_id=node)

        def pulled(request: message_pb2.PullObjectRequest) -> message_pb2.PullObjectResponse:
            return self._ours(claim, "pull-object", request, message_pb2.PullObjectResponse)

        def confirmed(request: message_pb2.ConfirmMessageReceivedRequest) -> message_pb2.ConfirmMessageReceivedResponse:
            return self._ours(claim, "confirm-message-received", request, message_pb2.ConfirmMessageReceivedResponse)

        message = pull_and_inflate_object_from_tree(
            tree,
            make_pull_object_fn_protobuf(pulled, sender, run),
            make_confirm_message_received_fn_protobuf(confirmed, sender, run),
            return_type=Message,
        )
        message.metadata.__dict__["_message_id"] = tree.object_id  # as flwr-clientapp does
        fab = answer.fab.content
        return Given(message, run, node, dict(context.run_config), fab, hashlib.sha256(fab).hexdigest())

    def unanswered(self, claim: Claim, node_id: int | None) -> Message | None:
        """The message of a task that was started and has not been pulled yet, without its content."""
        waiting = self._ours(
            claim, "pull-messages", runtime_pb2.PullAppMessagesRequest(), runtime_pb2.PullAppMessagesResponse
        )
        if not waiting.messages_list:
            return None
        message = message_from_proto(waiting.messages_list[0])
        self.identify(claim, node_id or message.metadata.dst_node_id)
        return message

    @staticmethod
    def identify(claim: Claim, node_id: int) -> None:
        """Says to Flower for whom messages are made now."""
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = claim.task_id, claim.run_id, node_id

    def push(self, claim: Claim, reply: Message) -> None:
        """Hands the reply over."""
        reply.metadata.__dict__["_message_id"] = reply.object_id
        head = message_to_proto(remove_content_from_message(reply))
        with no_object_id_recompute():
            tree = get_object_tree(reply)
            answer = self._ours(
                claim,
                "push-messages",
                runtime_pb2.PushAppMessagesRequest(messages_list=[head], message_object_trees=[tree]),
                runtime_pb2.PushAppMessagesResponse,
            )

            def pushed(request: message_pb2.PushObjectRequest) -> message_pb2.PushObjectResponse:
                return self._ours(claim, "push-object", request, message_pb2.PushObjectResponse)

            push_objects(
                get_all_nested_objects(reply),
                make_push_object_fn_protobuf(
                    pushed, NodeProto(node_id=reply.metadata.src_node_id), claim.run_id, answer.session_id
                ),
                object_ids_to_push=set(answer.objects_to_push),
            )

    def finish(self, claim: Claim) -> None:
        """Says that the task is done. No state is given back: the node keeps its own."""
        request = runtime_pb2.PushTaskOutputRequest(sub_status=SubStatus.COMPLETED, details="")
        self._ours(claim, "push-task-output", request, runtime_pb2.PushTaskOutputResponse)

    @contextlib.contextmanager
    def alive(self, claim: Claim, lost: threading.Event) -> Iterator[None]:
        """Gives signs of life while a task is worked on, and sets `lost` when it is no longer this node's."""
        ended = threading.Event()

        def beat() -> None:
            while True:
                try:
                    request = runtime_pb2.SendTaskHeartbeatRequest()
                    answer = self._ours(
                        claim, "send-task-heartbeat", request, runtime_pb2.SendTaskHeartbeatResponse, patience=0
                    )
                    if not answer.success:
                        lost.set()
                except TaskGone:
                    lost.set()
                except SuperNodeError:
                    pass  # it may be back before the claim ends
                if ended.wait(BEAT) or lost.is_set():
                    return

        thread = threading.Thread(target=beat, name="aegis-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(_SECONDS + 1)

    def _ours(self, claim: Claim, verb: str, request: Proto, kind: type[Answer], patience: float = _PATIENCE) -> Answer:
        return self._call(verb, request, kind, {TASK_TOKEN_HEADER: claim.token}, patience)

    def _call(
        self, verb: str, request: Proto, kind: type[Answer], headers: dict[str, str], patience: float = 0.0
    ) -> Answer:
        body = request.SerializeToString(deterministic=True)
        media = {"content-type": PROTOBUF_MEDIA_TYPE, "accept": PROTOBUF_MEDIA_TYPE}
        until = time.monotonic() + patience
        while True:
            try:
                found = self._http.post(PREFIX + verb, content=body, headers={**media, **self._headers, **headers})
                break
            except httpx.ConnectError as error:  # nothing was sent: it may be sent again
                if time.monotonic() >= until:
                    raise SuperNodeError(
                        f"no SuperNode answers at {self.address} ({error}); start it with --isolation process"
                    ) from None
                time.sleep(0.2)
            except httpx.HTTPError as error:
                raise SuperNodeError(
                    f"the SuperNode at {self.address} broke off {verb} ({type(error).__name__})"
                ) from None
        if found.status_code in (401, 403) and TASK_TOKEN_HEADER in headers:
            raise TaskGone(f"the SuperNode at {self.address} no longer counts the task as this node's ({verb})")
        if found.status_code == 401:  # noqa: PLR2004
            raise SuperNodeError(
                f"the SuperNode at {self.address} refuses this node's secret: {SUPERNODE_SECRET} must name the file that "
                "the SuperNode got by --superexec-auth-secret-file"
            )
        if not found.is_success:
            raise SuperNodeError(f"the SuperNode at {self.address} answers {verb} with {found.status_code}")
        answer: Answer = kind()
        try:
            answer.ParseFromString(found.content)
        except DecodeError:
            raise SuperNodeError(
                f"what answers {verb} at {self.address} is no SuperNode of Flower 1.41 or 1.42"
            ) from None
        return answer


def stub(message: Message) -> bytes:
    """A message without its content, to be kept: enough to answer it with an error."""
    return bytes(message_to_proto(remove_content_from_message(message)).SerializeToString(deterministic=True))


def of_stub(kept: bytes) -> Message:
    """The message that `stub` kept.

    Raises:
        ValueError: it is none.
    """
    try:
        return message_from_proto(message_pb2.Message.FromString(kept))
    except DecodeError:
        raise ValueError("no message of Flower's") from None


def context(given: Given, node_config: dict[str, Any]) -> Context:
    """Flower's context of a task, with the operator's own settings and no state: neither is taken from the SuperNode."""
    return Context(
        run_id=given.run_id,
        node_id=given.node_id,
        node_config=node_config,
        state=RecordDict(),
        run_config=given.run_config,
    )

"""A node's service asked one message, in this process or in one of its own, as after a restart."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.task_identity import TaskIdentity

from aegis_flower import wire
from aegis_flower.node.node import keep_states
from aegis_flower.service.answers import Answers, Halt
from aegis_flower.service.control import Control
from aegis_flower.service.flower import Given
from aegis_flower.service.settings import read
from aegis_flower.steps import Step

RUN = 77


def content_of(request: wire.Request, arrays: Iterable[np.ndarray] | None = None) -> RecordDict:
    content: dict[str, Any] = {wire.RECORD: request.to_record()}
    if arrays is not None:
        content[wire.ARRAYS] = ArrayRecord({name: Array(a) for name, a in zip(("weight", "bias"), arrays, strict=True)})
    return RecordDict(content)


def given(
    fab: bytes, config: Mapping[str, Any], kind: str, content: RecordDict, node: int = 1, run_id: int = RUN
) -> Given:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, SUPERLINK_NODE_ID
    message = Message(content, dst_node_id=node, message_type=kind)
    message.metadata.__dict__["_message_id"] = "m"
    TaskIdentity.node_id = node
    return Given(message, run_id, node, dict(config), fab, hashlib.sha256(fab).hexdigest())


def ask(file: Path, what: Given, halt: Halt | None = None) -> Message:
    """In this process."""
    keep_states()
    settings = read(file)
    try:
        return Answers(settings, Control(settings.control)).answer(what, halt or Halt())
    finally:
        keep_states(on=False)


def ask_anew(
    file: Path, fab: Path, config: Mapping[str, Any], step: Step, round_: int, payload: bytes, node: int
) -> Any:
    """In a process of its own; gives payload, code, and which heavy or foreign modules it has loaded then."""
    said = [str(file), str(fab), json.dumps(dict(config)), step.value, str(round_), str(node)]
    command = [sys.executable, __file__, *said]
    done = subprocess.run(
        command, input=base64.b64encode(payload), capture_output=True, timeout=120, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout.splitlines()[-1])
    return base64.b64decode(found["payload"]), found["code"], found["loaded"]


def main(file: str, fab: str, config: str, step: str, round_: str, node: str) -> None:
    request = wire.Request(int(round_), payload=base64.b64decode(sys.stdin.buffer.read()))
    kind = Step(step).message_type
    reply = ask(Path(file), given(Path(fab).read_bytes(), json.loads(config), kind, content_of(request), int(node)))
    said = wire.Reply.from_content(reply.content)
    assert said is not None
    heavy = {"torch", "opacus", "dp_accounting", "sklearn", "study"} & set(sys.modules)
    sys.stdout.write(
        json.dumps({"payload": base64.b64encode(said.payload).decode(), "code": said.code, "loaded": sorted(heavy)})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

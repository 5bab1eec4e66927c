"""What the node relies on of Flower's private modules, by name: that each Flower allowed has it, and behaves as it is used.

`aegis_flower/service/flower.py` is the one file that imports them; `test_layers.py` holds that. A new Flower that fails here
needs a look at that file, not at this list.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "aegis_flower" / "service" / "flower.py"
OLDEST = ROOT / ".cache" / "oldest"

# Module, name, and the parameters that are given to it (None: no function).
RELIED_ON: tuple[tuple[str, str, tuple[str, ...] | None], ...] = (
    ("flwr.app.message", "remove_content_from_message", ("message",)),
    ("flwr.common.constant", "SubStatus", None),
    ("flwr.common.serde", "context_from_proto", ("context_proto",)),
    ("flwr.common.serde", "message_from_proto", ("message_proto",)),
    ("flwr.common.serde", "message_to_proto", ("message",)),
    ("flwr.proto", "message_pb2", None),
    ("flwr.proto", "runtime_pb2", None),
    ("flwr.proto.node_pb2", "Node", None),
    ("flwr.supercore.auth.superexec", "create_superexec_auth_metadata", ("auth_secret", "method", "request")),
    ("flwr.supercore.auth.superexec", "derive_auth_secret", ("master_secret",)),
    ("flwr.supercore.constant", "TASK_TOKEN_HEADER", None),
    ("flwr.supercore.constant", "TaskType", None),
    ("flwr.supercore.inflatable.inflatable_object", "get_all_nested_objects", ("obj",)),
    ("flwr.supercore.inflatable.inflatable_object", "get_object_tree", ("obj",)),
    ("flwr.supercore.inflatable.inflatable_object", "no_object_id_recompute", ()),
    (
        "flwr.supercore.inflatable.inflatable_protobuf_utils",
        "make_confirm_message_received_fn_protobuf",
        ("confirm_message_received_protobuf", "node", "run_id"),
    ),
    (
        "flwr.supercore.inflatable.inflatable_protobuf_utils",
        "make_pull_object_fn_protobuf",
        ("pull_object_protobuf", "node", "run_id"),
    ),
    (
        "flwr.supercore.inflatable.inflatable_protobuf_utils",
        "make_push_object_fn_protobuf",
        ("push_object_protobuf", "node", "run_id", "session_id"),
    ),
    (
        "flwr.supercore.inflatable.inflatable_utils",
        "pull_and_inflate_object_from_tree",
        ("object_tree", "pull_object_fn", "confirm_object_received_fn", "return_type"),
    ),
    (
        "flwr.supercore.inflatable.inflatable_utils",
        "push_objects",
        ("objects", "push_object_fn", "object_ids_to_push"),
    ),
    ("flwr.supercore.protobuf.constants", "PROTOBUF_MEDIA_TYPE", None),
    ("flwr.supercore.runtime_version_compatibility", "RuntimeVersionMetadata", None),
    ("flwr.supercore.task_identity", "TaskIdentity", None),
)
FIELDS = {
    "AcquireTaskRequest": {"supported_task_types"},
    "AcquireTaskResponse": {"task", "token"},
    "PullTaskInputRequest": set(),
    "PullTaskInputResponse": {"context", "run", "fab"},
    "PullAppMessagesRequest": set(),
    "PullAppMessagesResponse": {"messages_list", "message_object_trees"},
    "PushAppMessagesRequest": {"messages_list", "message_object_trees"},
    "PushAppMessagesResponse": {"objects_to_push", "session_id"},
    "PushTaskOutputRequest": {"sub_status", "details", "context"},
    "PushTaskOutputResponse": set(),
    "SendTaskHeartbeatRequest": set(),
    "SendTaskHeartbeatResponse": {"success"},
}
# What the SuperNode serves: the verbs, and the switches it is started with.
VERBS = {
    *("acquire-task", "pull-task-input", "pull-messages", "pull-object", "confirm-message-received"),
    *("push-messages", "push-object", "push-task-output", "send-task-heartbeat"),
}
SWITCHES = {"--isolation", "--host", "--port", "--superexec-auth-secret-file"}


def private(file: Path) -> set[tuple[str, str]]:
    """What a file imports of Flower's private modules."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("flwr."):
            found |= {(node.module, alias.name) for alias in node.names}
    return {(module, name) for module, name in found if module not in ("flwr.app", "flwr.clientapp", "flwr.serverapp")}


def test_the_list_names_all_that_the_file_imports() -> None:
    imported = private(FILE)
    listed = {(module, name) for module, name, _ in RELIED_ON}
    assert imported == listed


@pytest.mark.parametrize(("module", "name", "parameters"), RELIED_ON, ids=[name for _, name, _ in RELIED_ON])
def test_flower_has_what_the_node_relies_on(module: str, name: str, parameters: tuple[str, ...] | None) -> None:
    inner = importlib.util.find_spec(f"{module}.{name}") if module == "flwr.proto" else None
    found = importlib.import_module(inner.name) if inner else getattr(importlib.import_module(module), name)
    if parameters is not None:
        assert set(parameters) <= set(inspect.signature(found).parameters)


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_flowers_messages_have_the_fields(name: str) -> None:
    from flwr.proto import runtime_pb2, task_pb2

    assert set(getattr(runtime_pb2, name).DESCRIPTOR.fields_by_name) >= FIELDS[name]
    assert {"task_id", "run_id", "fab_hash"} <= set(task_pb2.Task.DESCRIPTOR.fields_by_name)


def test_a_supernode_serves_every_verb_that_the_node_uses() -> None:
    from flwr.supernode.main import create_app

    served = set(create_app().openapi()["paths"])
    assert {f"/v1/runtime/{verb}" for verb in VERBS} <= served
    used = {n.value for n in ast.walk(ast.parse(FILE.read_text())) if isinstance(n, ast.Constant)} & {
        path.removeprefix("/v1/runtime/") for path in served
    }
    assert used == VERBS


def test_a_supernode_takes_the_switches_of_the_documents() -> None:
    flower_supernode = importlib.import_module("flwr.supernode.cli.flower_supernode")
    known = {o for a in flower_supernode._parse_args_run_supernode()._actions for o in a.option_strings}
    assert known >= SWITCHES


def test_a_claim_ends_later_than_two_signs_of_life() -> None:
    from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL

    from aegis_flower.service.flower import BEAT

    assert 2 * BEAT < HEARTBEAT_DEFAULT_INTERVAL


@pytest.mark.skipif(
    not OLDEST.is_dir() or str(OLDEST) in os.environ.get("PYTHONPATH", ""),
    reason="`make setup` installs the oldest Flower into .cache/oldest; in its own process it is tested above",
)
def test_the_oldest_flower_allowed_has_it_all_too() -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(OLDEST), os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    seen = subprocess.run(
        [sys.executable, "-c", "import flwr; print(flwr.__file__)"], env=env, capture_output=True, text=True, check=True
    )
    assert str(OLDEST) in seen.stdout

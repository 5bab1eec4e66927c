"""The hash of the app that asks: in the permit, before the policies, in the audit log, and in what people read of it."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aegis.cli
import numpy as np
import pytest
from dp_training import zeros
from flwr.app import Context, RecordDict
from typer.testing import CliRunner

import aegis_engine
from aegis_engine import audit_read
from aegis_flower.client import VaultClient
from aegis_flower.configs import from_dict
from aegis_flower.errors import PolicyDenied
from aegis_flower.node.node import Node, NodeConfig, app_hash, running

APP, OTHER = "ab" * 32, "cd" * 32
START = [np.zeros((2, 4), np.float32), np.zeros(2, np.float32)]
FORBID = """
@id("local.one-app")
@advice("ask the steward to allow this app")
forbid (principal is Run, action in Action::"use", resource)
unless { principal.app_hash == "%s" };
"""


@pytest.fixture
def client(govern: Any) -> Callable[..., VaultClient]:
    def make(bundle: Path | None = None, **terms: Any) -> VaultClient:
        g = govern(budget_epsilon=100.0, **terms)
        if bundle is not None:
            g.vault.govern(str(bundle), replace=g.permit(action="export"))
        node = Node(NodeConfig(g.folder, g.key_file, "tiny", "clinic"))
        context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
        made = VaultClient(node, from_dict({}), context)
        made.spec, made.model_fn = g.spec, lambda: zeros(4, 2)
        return made

    return make


def test_every_record_of_a_round_has_it(client: Any) -> None:
    made = client()
    with running(APP):
        trained = made.train_round(START, 1, 2.0)
        made.release(trained, [("w", (2, 4)), ("b", (2,))], {}, secure_aggregation=True)
    records = audit_read(str(made.node.config.vault / "audit"))
    found = {r["event"]: r["app_hash"] for r in records if "app_hash" in r}
    # The release's record has it of the permit, the permit's of the request.
    assert found == {"authorize": APP, "release": APP}
    shown = CliRunner().invoke(aegis.cli.app, ["audit", "tail", str(made.node.config.vault)])
    assert f"app={APP[:16]}" in shown.output
    told = CliRunner().invoke(aegis.cli.app, ["audit", "tail", str(made.node.config.vault), "--json"])
    assert APP in {r.get("app_hash") for r in json.loads(told.output)}


def test_without_one_there_is_none(client: Any) -> None:
    made = client()
    with running(APP):
        pass
    made.authorize("train", 1)
    records = audit_read(str(made.node.config.vault / "audit"))
    assert {r["app_hash"] for r in records if "app_hash" in r} == {""}
    shown = CliRunner().invoke(aegis.cli.app, ["audit", "tail", str(made.node.config.vault)])
    assert "app=" not in shown.output


def test_a_policy_may_allow_one_app_alone(client: Any, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(Path(aegis_engine.__file__).parents[2] / "crates/policy/policies/core", folder)
    (folder / "local.cedar").write_text(FORBID % APP)
    made = client(folder)
    for who in (OTHER, ""):
        with running(who), pytest.raises(PolicyDenied, match="ask the steward to allow this app"):
            made.authorize("train", 1)
    with running(APP):
        assert made.authorize("train", 1).rows == 40


def test_one_task_does_not_say_it_for_another() -> None:
    seen: list[str] = []
    with running(APP):
        thread = threading.Thread(target=lambda: seen.append(app_hash.get()))
        thread.start()
        thread.join(30)
        with running(OTHER):
            seen.append(app_hash.get())
        seen.append(app_hash.get())
    seen.append(app_hash.get())
    assert seen == ["", OTHER, APP, ""]

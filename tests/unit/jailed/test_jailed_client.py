"""A round of an app in a jail: what is refused before a charge, what leaves, what the node's own log alone says."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from aegis_engine.errors import JailError
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from neighbouring import NAMES, START, neighbours

from aegis_engine import Permit
from aegis_flower import wire
from aegis_flower.errors import AegisError, AppError, BudgetExceeded, NodeError, OutsideTerms, PolicyDenied
from aegis_flower.jail import Ended
from aegis_flower.jailed import Options, client_app, pool
from aegis_flower.jailed.app import Tried, hash_of

SHAPES = [("weight", (2, 4)), ("bias", (2,))]


def test_an_app_gets_the_permitted_rows_and_its_settings_and_gives_an_update(world: Any) -> None:
    client = world.client("app:sums", config={"privacy": {"clip": 1000.0}})
    made = client.train_round(START, 3, 0.05)
    rows = world.governed.columns["height"]
    expected = np.array([len(rows), rows.sum(), 3, 0.1])
    # noise of 0.05 · 2 · 1000, and the clip leaves a vector of that length as it is
    assert np.abs(made.update[:4] - expected).max() < 6 * 100
    assert made.permit.action == "train"
    record = client.node.vault.audit_records("authorize")[-1]
    assert record["app_hash"] == "ab" * 32


def test_what_an_app_was_asked_comes_back_exactly_before_clip_and_noise(world: Any) -> None:
    from aegis_flower.jailed import rows
    from aegis_flower.jailed.pool import jail_of

    client = world.client("app:sums")
    permit = client.authorize("train", 1)
    with jail_of(client._place) as jail:
        result = jail.run(
            client._asked(START, 7).work(rows.read(client.node.vault, permit, client.spec)), client._limits({})
        )
    assert result.ended is Ended.DONE
    height = world.governed.columns["height"]
    assert result.update[:4].tolist() == pytest.approx([len(height), height.sum(), 7, 0.1])


@pytest.mark.parametrize("mode", ["any", "blocks"])
@pytest.mark.parametrize("entry", ["raises", "crashes"])
def test_a_failure_is_an_answer_like_any_other_and_its_words_stay_in_the_nodes_log(
    world: Any, caplog: pytest.LogCaptureFixture, mode: str, entry: str
) -> None:
    one, _ = neighbours(world, "other values")
    client = world.client(f"app:{entry}", mode, one)
    with caplog.at_level(logging.WARNING, "aegis"):
        made = client.train_round(START, 1, 1.0)
    assert np.isfinite(made.update).all()
    assert made.update.all()  # noise on every coordinate
    told = [r.getMessage() for r in caplog.records if "did not end as it should" in r.getMessage()]
    assert len(told) == 1
    assert ("here is a secret" in told[0]) is (entry == "raises")
    client.release(made, SHAPES, {}, secure_aggregation=True)
    assert client.node.vault.audit_records("release")[-1]["decision"] == "allow"


def test_an_evaluation_is_refused_before_anything_is_charged(world: Any) -> None:
    held = {name: values[:20] for name, values in world.governed.columns.items()}
    world.data("tiny.holdout", held, [f"person-{i}" for i in range(20)])
    client = world.client("app:sums")
    for trains in (True, False):
        with pytest.raises(OutsideTerms, match=r"evaluation\.rounds=never") as error:
            client.preflight(START, trains=trains, evaluates=True)
        assert error.value.code == "AEG-N011"
    assert client.node.ledger.entries() == []
    assert client.node.holdout_ledger.entries() == []


@pytest.mark.parametrize(
    ("approval", "words"),
    [
        (Tried("ab" * 32, "embedded", "research"), "embedded"),
        (Tried("ab" * 32, "blocks", "research"), r"privacy\.mode=blocks"),
        (Tried("ab" * 32, "any", "marketing"), "marketing"),
        (Tried("ab" * 32, "any", "research", "other"), "other"),
    ],
)
def test_an_approval_for_something_else_is_refused_before_anything_is_charged(
    world: Any, approval: Any, words: str
) -> None:
    client = world.client("app:sums", approval=approval)
    with pytest.raises(AppError, match=words):
        client.preflight(START, trains=True, evaluates=False)
    assert client.node.ledger.entries() == []


@pytest.mark.parametrize("mode", ["example", "off"])
def test_a_mechanism_that_is_none_of_a_jail_is_refused_by_name(world: Any, mode: str) -> None:
    config = {"privacy": {"mode": mode}, "policy": {"require_dp": False}}
    client = world.client("app:sums", config=config)
    with pytest.raises(AppError, match=rf"privacy\.mode={mode}"):
        client.preflight(START, trains=True, evaluates=False)


def test_a_refused_budget_reads_nothing_and_runs_nothing(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from aegis_flower.jailed import rows

    monkeypatch.setattr(rows, "read", lambda *_: pytest.fail("rows were read"))
    world.data("poor", world.governed.columns, world.governed.subjects, budget_epsilon=0.01)
    client = world.client("app:sums", dataset="poor")
    with pytest.raises(BudgetExceeded):
        client.train_round(START, 1, 2.0)
    assert client.node.ledger.entries() == []


def test_without_the_engines_session_a_release_is_refused(world: Any) -> None:
    client = world.client("app:sums")
    made = client.train_round(START, 1, 1.0)
    with pytest.raises(PolicyDenied):
        client.release(dataclasses.replace(made, session=None, reservation=None), SHAPES, {}, secure_aggregation=True)


def test_the_warm_parent_lasts_from_round_to_round_and_a_dead_one_is_replaced(world: Any) -> None:
    client = world.client("app:sums")
    client.train_round(START, 1, 1.0)
    (kept,) = pool._jails.values()
    first = kept.jail
    client.train_round(START, 2, 1.0)
    assert kept.jail is first
    first._process.kill()
    first._process.wait()
    client.train_round(START, 3, 1.0)
    assert kept.jail is not first
    pool.close_jails()
    assert not pool._jails


def test_a_halted_task_ends_at_once_and_nothing_leaves(world: Any) -> None:
    one, _ = neighbours(world, "other values")
    client = world.client("app:hangs", dataset=one, seconds=3000.0)
    client.halted = threading.Event()
    timer = threading.Timer(1.0, client.halted.set)
    timer.start()
    try:
        with pytest.raises(JailError):
            client.train_round(START, 1, 1.0)
    finally:
        timer.cancel()
    assert client.node.vault.audit_records("release") == []


def test_of_too_many_jails_one_that_nobody_uses_goes(world: Any, govern: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_MOST", 1)
    world.client("app:sums").train_round(START, 1, 1.0)
    (first,) = pool._jails.values()
    jail = first.jail
    world.governed = govern(rows=40)
    world.client("app:sums").train_round(START, 1, 1.0)
    assert len(pool._jails) == 1
    assert not jail.alive


def test_two_vaults_share_no_jail(world: Any, govern: Any) -> None:
    world.client("app:sums").train_round(START, 1, 1.0)
    world.governed = govern(rows=40)
    world.client("app:sums").train_round(START, 1, 1.0)
    assert len({id(kept.jail) for kept in pool._jails.values()}) == 2


def message(task: str, config: dict[str, Any]) -> Message:
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    arrays = ArrayRecord({name: Array(a) for name, a in zip(NAMES, START, strict=True)})
    return Message(RecordDict({wire.ARRAYS: arrays, "config": ConfigRecord(config)}), dst_node_id=1, message_type=task)


def open_world(world: Any, **terms: Any) -> Any:
    """An app of the door, on data whose terms do not ask for masks."""
    world.data("open", world.governed.columns, world.governed.subjects, require_secure_aggregation=False, **terms)
    client = world.client("app:sums", dataset="open")
    g = world.governed
    node = {
        "aegis-vault": str(g.folder),
        "aegis-key-file": str(g.key_file),
        "aegis-dataset": "open",
        "aegis-trust-server": True,
    }
    context = (
        dataclasses.replace(client.context, node_config=node) if dataclasses.is_dataclass(client.context) else None
    )
    if context is None:
        client.context.node_config.update(node)
        context = client.context
    app = client_app(
        Tried("ab" * 32, "any", "research"),
        client._place.app,
        {
            "entry": "app:sums",
            "overrides": ["privacy=update", "secagg.enabled=false", "policy.require_secure_aggregation=false"],
        },
    )
    return app, context


def test_a_server_that_knows_nothing_of_aegis_gets_updates_with_the_noise_that_the_node_has(world: Any) -> None:
    app, context = open_world(world)
    reply = app(message("train", {"server-round": 1, "lr": 0.1}), context)
    assert not reply.has_error(), reply.error
    (entry, *_) = [e for e in _entries(world, "open") if e["kind"] == "reserve"]
    assert (entry["mechanism"], entry["unit"]) == ("update", "node")
    assert entry["noise_multiplier"] > 0.5
    assert dict(reply.content.metric_records["metrics"]) == {"num-examples": 1}


def test_less_noise_than_the_node_has_is_refused_with_a_code_alone(world: Any) -> None:
    app, context = open_world(world)
    reply = app(message("train", {"server-round": 1, "noise-multiplier": 0.1}), context)
    assert reply.error.reason == "[AEG-N011]"
    assert _entries(world, "open") == []


def _entries(world: Any, dataset: str) -> list[Any]:
    client = world.client("app:sums", dataset=dataset)
    return client.node.ledger.entries()


@pytest.mark.parametrize(
    "given", [{"block_second": 1}, {"files": "pickle"}, {"seconds": 0}, {"threads": True}, {"entry": "no function"}]
)
def test_an_option_that_there_is_not_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(NodeError):
        Options.of(given)
    assert Options.of({"preload": ["numpy"]}) == Options(preload=("numpy",))


def test_an_approval_for_no_jail_or_a_folder_that_is_not_there_makes_no_app(tmp_path: Any) -> None:
    with pytest.raises(AppError, match="embedded"):
        client_app(Tried("ab" * 32, "embedded", "research"), tmp_path)
    with pytest.raises(AppError, match="no such folder"):
        client_app(Tried("ab" * 32, "any", "research"), tmp_path / "nobody")


def test_an_apps_hash_is_of_names_and_contents(tmp_path: Any) -> None:
    (tmp_path / "a.py").write_text("1")
    first = hash_of(tmp_path)
    assert first == hash_of(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert first != hash_of(tmp_path)


def test_an_embedded_app_has_no_blocks(world: Any) -> None:
    from aegis_flower.client import VaultClient, preflight

    jailed = world.client("app:sums", "blocks")
    client = VaultClient(jailed.node, jailed.config, jailed.context)
    with pytest.raises(AppError, match="jail"):
        preflight.check(client, START, trains=True, evaluates=False)


def test_the_nodes_process_never_imports_torch(world: Any) -> None:
    """A whole round: permit, budget, rows, jail, noise, release."""
    g = world.governed
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from neighbouring import World
import numpy as np
from pathlib import Path
from types import SimpleNamespace
from aegis_flower.jailed import close_jails
world = World(SimpleNamespace(folder=Path({str(g.folder)!r}), key_file=Path({str(g.key_file)!r}), spec=None), Path("."))
from aegis_flower.data import Spec
client = world.client("app:sums", spec=Spec({{"height": 1, "pulse": 3}}, "ill", 2))
start = [np.zeros((2, 4), np.float32), np.zeros(2, np.float32)]
client.preflight(start, trains=True, evaluates=False)
made = client.train_round(start, 1, 1.0)
client.release(made, [("weight", (2, 4)), ("bias", (2,))], {{}}, secure_aggregation=True)
close_jails()
print("torch" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert ran.stdout.strip().endswith("False"), ran.stdout + ran.stderr


def test_a_permit_that_ended_gives_no_rows(world: Any) -> None:
    from aegis_flower.jailed import rows

    client = world.client("app:sums")
    permit: Permit = client.authorize("train", 1)
    world.governed.vault.consent_withdraw(world.governed.subjects[0], "research")
    with pytest.raises(AegisError):
        rows.read(client.node.vault, permit, client.spec)
    with pytest.raises(AegisError):
        client.node.vault.blocks(permit, 3)

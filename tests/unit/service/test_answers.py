"""Who answers a message: by approval, by step, and never with more than a code where it is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from by_hand import code_heard
from one_message import RUN, ask, ask_anew, content_of, given

from aegis_engine import SecAggPlan, SecAggServer, audit_read
from aegis_flower import wire
from aegis_flower.configs import carry
from aegis_flower.errors import Interrupted, NodePaused
from aegis_flower.gate import METRIC_MAX, METRICS
from aegis_flower.server import noise_multiplier
from aegis_flower.service.answers import PROTOCOL, Halt
from aegis_flower.service.control import Control
from aegis_flower.steps import Step

START = [np.zeros((2, 30), np.float32), np.zeros(2, np.float32)]


def advertise(site, index=0, config=None, fab=None, halt=None):
    what = given(fab or site.fab, config or site.config, wire.ADVERTISE, content_of(wire.Request(1)))
    return code_heard(ask(site.files[index], what, halt))


def control(site, index=0):
    return Control(site.files[index].with_suffix(".control"))


def test_an_app_that_is_not_approved_is_refused_before_a_byte_of_it_is_unpacked_and_waits(site):
    assert advertise(site) == "AEG-N019"
    waiting = control(site).file("inbox")
    assert [json.loads(f.read_text())["run_id"] for f in waiting.glob("*.json")] == [RUN]
    assert advertise(site) == "AEG-N019"
    assert len(list(waiting.glob("*.json"))) == 1, "to ask twice is to ask once"
    assert not control(site).file("apps").exists()
    records = audit_read(str(site.folder / "vaults" / site.nodes[0].name / "audit"))
    assert not [r for r in records if r["event"] in ("authorize", "release")]


@pytest.mark.parametrize("how", ["other purpose", "other data", "revoked", "expired list"])
def test_an_approval_for_something_else_is_none(site, how):
    if how == "other purpose":
        site.approve(purpose="marketing")
    elif how == "other data":
        site.approve(dataset="digits")
    else:
        site.approve()
        assert advertise(site) == ""
        if how == "revoked":
            site.desk.revoke(site.desk.entries()[0].approval.fab_hash)
        else:
            (site.approvals / "approvals").unlink()
    assert advertise(site) == "AEG-N019"


def test_the_hash_is_that_of_the_bytes_whatever_the_supernode_calls_it(site):
    site.approve()
    changed = site.fab[:-1] + bytes([site.fab[-1] ^ 1])
    assert advertise(site, fab=changed) == "AEG-N019"


def test_a_list_of_approvals_that_was_put_back_runs_nothing(site):
    site.approve()
    old = (site.approvals / "approvals").read_bytes()
    site.desk.revoke(site.desk.entries()[0].approval.fab_hash)
    assert advertise(site) == "AEG-N019"
    (site.approvals / "approvals").write_bytes(old)
    assert advertise(site) == "AEG-N020"


class Round:
    """A server and three nodes, each step of the protocol in a process of its own."""

    def __init__(self, site):
        self.site = site
        plan = SecAggPlan(
            dim=62,
            metrics=list(METRICS),
            clip=site.cfg.strategy.max_norm,
            value_bits=site.cfg.secagg.value_bits,
            weight_max=site.cfg.secagg.weight_max,
            metric_max=METRIC_MAX,
            max_clients=3,
            min_clients=2,
        )
        self.base = SecAggServer(RUN, plan)
        self.loaded = set()

    def step(self, node, step, payload=b"", round_=1):
        file = self.site.files[node - 1]
        found, code, loaded = ask_anew(file, self.site.fab_file, self.site.config, step, round_, payload, node)
        assert code == "", (step, code)
        self.loaded |= set(loaded)
        return found


def test_steps_of_the_protocol_load_neither_torch_nor_the_app_and_go_on_in_another_process(site):
    hashed = site.approve()
    run = Round(site)
    for n in (1, 2, 3):
        run.base.add_advert(n, run.step(n, Step.ADVERTISE))
    server = run.base.fork()
    asked = wire.Request(1, task="train", noise_multiplier=noise_multiplier(site.cfg))
    server.bind(wire.binding(content_of(asked, START).array_records[wire.ARRAYS], asked))
    request = server.begin_round(1, [1, 2, 3])
    for n in server.cohort:
        server.add_share(n, run.step(n, Step.SHARE, request))
    for n in server.end_shares():
        masked = wire.Request(
            1, task="train", noise_multiplier=asked.noise_multiplier, payload=server.masked_request(n)
        )
        what = given(site.fab, site.config, Step.MASKED.message_type, content_of(masked, START), n)
        reply = wire.Reply.from_content(ask(site.files[n - 1], what).content)
        assert reply is not None
        assert reply.code == ""
        server.add_masked(n, reply.payload)
    for n in server.end_masked():
        server.add_unmask(n, run.step(n, Step.UNMASK, server.unmask_request(n)))
    total = server.finish()
    assert sorted(total.contributors) == [1, 2, 3]
    assert run.loaded == set()
    records = audit_read(str(site.folder / "vaults" / site.nodes[0].name / "audit"))
    assert {r["app_hash"] for r in records if r["event"] in ("authorize", "release")} == {hashed}
    assert {s.message_type for s in (Step.ADVERTISE, Step.SHARE, Step.COMMIT, Step.UNMASK)} == PROTOCOL


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("aegis-overrides", "policy.purpose=${oc.env:HOME}"),
        ("aegis-overrides", "policy.purpose='$\\{oc.env:HOME}${x}'"),
        ("aegis-overrides", "hydra.searchpath=[file:///etc]"),
        ("aegis-overrides", "hydra/launcher=basic"),
        ("aegis-overrides", "+new.key=1"),
        ("aegis-overrides", "~policy"),
        ("aegis-overrides", "--help"),
        ("aegis-overrides", "'unclosed"),
        ("aegis-overrides", "a" * (1 << 21)),
        ("aegis-experiment", "../../etc/passwd"),
        ("aegis-experiment", "${oc.env:HOME}"),
        ("aegis-config", "no base64"),
    ],
)
def test_a_configuration_that_would_read_the_machine_or_is_none_is_refused_by_its_code(site, key, value):
    site.approve()
    assert advertise(site, config={**site.config, key: value}) == "AEG-C001"


def test_a_whole_configuration_of_aegis_run_is_taken(site):
    site.approve()
    assert advertise(site, config={"aegis-config": carry(site.cfg, [], "out")}) == ""


@pytest.mark.parametrize("mode", ["embedded"])
def test_an_app_that_asks_for_the_nodes_own_process_is_refused_where_it_would_work(site, mode):
    site.approve(mode=mode)
    assert advertise(site) == "", "the protocol's steps need no app"
    what = given(site.fab, site.config, Step.MASKED.message_type, content_of(wire.Request(1, task="train"), START))
    assert code_heard(ask(site.files[0], what)) == "AEG-O001"


def test_an_app_is_unpacked_once_and_replaces_the_one_before(site):
    hashed = site.approve()
    apps = control(site).file("apps")
    (apps / "old" / "study").mkdir(parents=True)
    what = given(site.fab, site.config, Step.MASKED.message_type, content_of(wire.Request(1, task="train"), START))
    assert code_heard(ask(site.files[0], what)).startswith("AEG-S"), "no round has begun"
    assert [f.name for f in apps.iterdir()] == [hashed]
    assert (apps / hashed / "study" / "client.py").read_bytes() == b"app = 1\n"
    assert apps.stat().st_mode & 0o077 == 0


def test_a_halted_task_is_answered_with_the_reason_alone(site):
    site.approve()
    for reason, code in ((NodePaused("why"), "AEG-O004"), (Interrupted("why"), "AEG-O005")):
        halt = Halt()
        halt.set(reason)
        assert advertise(site, halt=halt) == code


def test_what_was_made_while_the_task_was_halted_does_not_leave(site, monkeypatch):
    site.approve()
    halt = Halt()
    from aegis_flower.mask import Masker

    real = Masker.advertise

    def slow(self):
        out = real(self)
        halt.set(NodePaused("meanwhile"))
        return out

    monkeypatch.setattr(Masker, "advertise", slow)
    assert advertise(site, halt=halt) == "AEG-O004"


def test_an_approval_taken_back_while_the_task_works_holds_its_answer_back(site, monkeypatch):
    site.approve()
    from aegis_flower.mask import Masker

    real = Masker.advertise

    def slow(self):
        out = real(self)
        site.desk.revoke(site.desk.entries()[0].approval.fab_hash)
        return out

    monkeypatch.setattr(Masker, "advertise", slow)
    assert advertise(site) == "AEG-N019"


def test_what_flower_offers_as_node_config_or_state_is_not_read(site):
    site.approve()
    config = {**site.config, "aegis-vault": "/elsewhere", "aegis-min-cohort": 1}
    assert advertise(site, config=config) == ""


def test_the_state_of_a_vault_that_was_put_back_is_refused(site):
    import shutil

    site.approve()
    vault = Path(str(site.nodes[0].node_config["aegis-vault"]))
    assert advertise(site) == ""
    states = vault / "privacy" / "states"
    for file in states.iterdir():
        if file.name not in ("index", "lock"):
            file.write_bytes(base64.b64decode(b"AAAA") * 40)
    assert advertise(site) == "AEG-N017"
    shutil.rmtree(states)
    assert advertise(site) == "", "nothing was used in this run yet, so it may begin anew"

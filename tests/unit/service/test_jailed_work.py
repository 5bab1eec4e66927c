"""Apps of other people in the node's service: they train in the jail, and end when the operator says so."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from supernodes import served

from aegis_engine import audit_read
from aegis_flower.service.control import Control
from aegis_flower.service.loop import Service
from aegis_flower.service.settings import read

APP = b"""
import time
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    time.sleep(SECONDS)
    record = message.content.array_records["arrays"]
    changed = ArrayRecord([a + 1 for a in record.to_numpy_ndarrays()])
    return Message(RecordDict({"arrays": changed, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)
"""
OVERRIDES = [
    "privacy=update",
    "secagg.enabled=false",
    "policy.require_secure_aggregation=false",
    "evaluation.rounds=never",
]
START = {"weight": np.zeros((2, 30), np.float32), "bias": np.zeros(2, np.float32)}


@pytest.fixture
def supernode():
    with served() as one:
        yield one


def site_of(make_site, seconds):
    files = {"study/__init__.py": b"", "study/client.py": APP.replace(b"SECONDS", str(seconds).encode())}
    return make_site(files=files, overrides=OVERRIDES)


@contextmanager
def running(file):
    service = Service(read(file))
    thread = threading.Thread(target=service.run, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.end()
        thread.join(60)
        assert not thread.is_alive()


def ask(supernode, site):
    arrays = ArrayRecord({name: Array(a) for name, a in START.items()})
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 1})})
    supernode.put(content, "train", site.fab, site.config)


def events(site):
    folder = site.folder / "vaults" / site.nodes[0].name / "audit"
    return [r["event"] for r in audit_read(str(folder)) if r["event"] in ("authorize", "release")]


def wait(condition, what, timeout=200.0):
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def test_somebodys_flower_app_trains_in_the_jail_and_its_update_leaves_clipped_and_noised(make_site, supernode):
    site = site_of(make_site, 0)
    hashed = site.approve(mode="any")
    file = site.write(0, **{"aegis-supernode": supernode.address})
    with running(file):
        ask(supernode, site)
        reply = supernode.reply(300)
        assert not reply.has_error(), reply.error
        (arrays,) = reply.content.array_records.values()
        found = np.concatenate([a.ravel() for a in arrays.to_numpy_ndarrays()])
        assert found.size == 62
        assert np.isfinite(found).all()
        assert len(set(found.tolist())) > 60, "each coordinate has noise of its own"
        assert np.linalg.norm(found) <= site.cfg.strategy.max_norm * 1.001
    assert events(site) == ["authorize", "release"]
    folder = site.folder / "vaults" / site.nodes[0].name / "audit"
    assert {r["app_hash"] for r in audit_read(str(folder)) if r["event"] in ("authorize", "release")} == {hashed}


@pytest.mark.parametrize("how", ["pause", "revoke"])
def test_a_pause_and_a_revocation_end_a_task_in_the_jail_at_once(make_site, supernode, how):
    site = site_of(make_site, 500)
    hashed = site.approve(mode="any")
    file = site.write(0, **{"aegis-supernode": supernode.address})
    with running(file):
        ask(supernode, site)
        wait(lambda: events(site), "the permit is given")
        if how == "pause":
            Control(read(file).control).pause()
        else:
            site.desk.revoke(hashed)
        reply = supernode.reply(200)
        assert reply.error.reason == ("[AEG-O004]" if how == "pause" else "[AEG-N019]")
    assert events(site) == ["authorize"], "nothing was released"


def test_an_app_approved_for_another_mechanism_is_refused_before_a_charge(make_site, supernode):
    site = site_of(make_site, 0)
    site.approve(mode="blocks")
    file = site.write(0, **{"aegis-supernode": supernode.address})
    with running(file):
        ask(supernode, site)
        assert supernode.reply(200).error.reason == "[AEG-F001]"
    assert events(site) == []

"""The loop of `aegis node run` against a SuperNode's own server: answers, orders, signals, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager

import pytest
from one_message import content_of
from supernodes import Served, served

from aegis_engine import audit_read, audit_verify
from aegis_flower import wire
from aegis_flower.service.control import Control
from aegis_flower.service.loop import Service
from aegis_flower.service.settings import read


@pytest.fixture
def supernode():
    with served() as one:
        yield one


def write(site, supernode: Served, **more):
    return site.write(0, **{"aegis-supernode": supernode.address, **more})


def wait(condition, what, timeout=120.0):
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


@contextmanager
def running(file):
    """The service in a thread of this process."""
    service = Service(read(file))
    thread = threading.Thread(target=service.run, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.end()
        thread.join(60)
        assert not thread.is_alive()


@contextmanager
def started(file, *options):
    """The service as a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AEGIS_", "FLWR_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "aegis", "node", "run", str(file), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd="/",
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def ask(supernode, site):
    supernode.put(content_of(wire.Request(1)), wire.ADVERTISE, site.fab, site.config)


def heard(supernode) -> wire.Reply:
    reply = wire.Reply.from_content(supernode.reply().content)
    assert reply is not None
    return reply


def control(site) -> Control:
    return Control(site.files[0].with_suffix(".control"))


def lines(site, what=None):
    file = site.folder / "node-0.jsonl"
    found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [one for one in found if what in (None, one["what"])]


def audited(site, *events):
    folder = site.folder / "vaults" / site.nodes[0].name / "audit"
    audit_verify(str(folder))
    return [r["event"] for r in audit_read(str(folder)) if r["event"] in events]


def test_a_message_is_answered_and_shown(site, supernode):
    site.approve()
    file = write(site, supernode, **{"aegis-health": f"127.0.0.1:{free_port()}"})
    with running(file) as service:
        ask(supernode, site)
        reply = heard(supernode)
        assert (reply.code, reply.name) == ("", site.nodes[0].name)
        assert len(reply.payload) > 100
        wait(lambda: service.working is None, "the task is done")
        said = service.status()
        assert (said["answers"], said["tasks"], said["refusals"]) == ({"advertise": 1}, 1, {})
        where = f"http://127.0.0.1:{service.settings.health[1]}"
        with urllib.request.urlopen(f"{where}/metrics", timeout=30) as page:
            assert 'aegis_node_answers_total{step="advertise"} 1' in page.read().decode()
        with urllib.request.urlopen(f"{where}/health", timeout=30) as page:
            assert page.status == 200
        assert control(site).running() == os.getpid()
    assert control(site).status()["tasks"] == 1, "what was last said stays for a look afterwards"
    assert not control(site).file("claim.json").exists()
    (task,) = supernode.state.get_tasks()
    assert task.status.sub_status == "completed"


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_pause_refuses_each_message_over_a_restart_and_is_on_record_once(site, supernode):
    site.approve()
    file = write(site, supernode)
    with running(file):
        control(site).pause()
        wait(lambda: lines(site, "pause"), "the pause is noted")
        ask(supernode, site)
        assert heard(supernode).code == "AEG-O004"
    with running(file):
        ask(supernode, site)
        assert heard(supernode).code == "AEG-O004"
        control(site).resume()
        wait(lambda: lines(site, "resume"), "the end is noted")
        ask(supernode, site)
        assert heard(supernode).code == ""
    assert audited(site, "node.pause", "node.resume") == ["node.pause", "node.resume"]
    assert [one["code"] for one in lines(site, "refusal")] == ["AEG-O004"] * 2


def test_a_pause_that_was_ordered_while_the_node_was_down_holds_from_its_first_message(site, supernode):
    site.approve()
    file = write(site, supernode)
    ask(supernode, site)
    Control(read(file).control).pause()
    with running(file):
        assert heard(supernode).code == "AEG-O004"
        wait(lambda: lines(site, "pause"), "the pause is noted")
    assert audited(site, "node.pause") == ["node.pause"]


def test_a_pause_that_cannot_be_put_on_record_holds_all_the_same(site, supernode, monkeypatch):
    site.approve()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Service, "_turn", full)
    with running(write(site, supernode)):
        control(site).pause()
        wait(lambda: lines(site, "orders-failed"), "it is said")
        ask(supernode, site)
        assert heard(supernode).code == "AEG-O004"
        control(site).resume()
        ask(supernode, site)
        assert heard(supernode).code == ""
    assert [one["type"] for one in lines(site, "orders-failed")] == ["OSError"]


def test_a_supernode_that_is_away_is_waited_for(site):
    site.approve()
    with served() as first:
        file, port = write(site, first), first.port
        with running(file) as service:
            wait(lambda: service.reached is not None, "it is reached")
            first.close()
            wait(lambda: lines(site, "supernode-away"), "it is away")
            second = Served(port=port)
            try:
                ask(second, site)
                assert heard(second).code == ""
            finally:
                second.close()
    assert [one["what"] for one in lines(site) if one["what"].startswith("supernode")][:3] == [
        "supernode-reached",
        "supernode-away",
        "supernode-reached",
    ]


def test_a_dry_run_claims_nothing_and_says_what_is_missing(site, supernode):
    site.approve()
    ask(supernode, site)
    with started(write(site, supernode), "--dry-run") as process:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "nothing was claimed" in out
    assert [t.status.status for t in supernode.state.get_tasks()] == ["pending"]
    with started(site.write(0, **{"aegis-supernode": f"127.0.0.1:{free_port()}"}), "--dry-run") as process:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "--isolation process" in err
        assert "AEG-O002" in err


@pytest.mark.parametrize("how", ["signal", "order"])
def test_an_end_is_graceful(site, supernode, how):
    site.approve()
    file = write(site, supernode)
    with started(file) as process:
        ask(supernode, site)
        assert heard(supernode).code == ""
        if how == "signal":
            process.send_signal(signal.SIGTERM)
        else:
            control(site).stop(process.pid)
        assert process.wait(60) == 0
    assert control(site).running() is None
    assert lines(site)[-1]["what"] == "stop"


def test_a_second_process_of_one_node_is_refused(site, supernode):
    file = write(site, supernode)
    with started(file) as first:
        wait(lambda: lines(site, "start"), "it has started")
        with started(file) as second:
            _, err = second.communicate(timeout=120)
            assert second.returncode == 1
            assert f"runs already (process {first.pid})" in err


def test_a_kill_in_mid_answer_is_answered_by_the_next_process_and_the_run_goes_on(site, supernode):
    site.approve()
    file = write(site, supernode, **{"aegis-quantize-time": 3600})  # the reply is made, and waits
    with started(file) as process:
        ask(supernode, site)
        claim = site.files[0].with_suffix(".control") / "claim.json"
        states = site.folder / "vaults" / site.nodes[0].name / "privacy" / "states"
        wait(lambda: claim.exists() and (states / "index").exists(), "the answer is made")
        process.kill()
        process.wait()
    assert not supernode.replies()
    with started(write(site, supernode)):
        assert heard(supernode).code == "AEG-O005"
        ask(supernode, site)
        reply = heard(supernode)
        assert reply.code == "", "the state that was kept is used"
        assert len(reply.payload) > 100
    assert [one["code"] for one in lines(site, "refusal")] == ["AEG-O005"]


def test_a_note_of_a_task_that_nobody_can_read_or_knows_is_dropped(site, supernode):
    site.approve()
    file = write(site, supernode)
    folder = Control(read(file).control)
    gone = json.dumps({"claim": {"task_id": 1, "run_id": 1, "fab_hash": "", "token": "none"}})
    for text in ("[", "{}", '{"claim": 3}', gone):
        folder.file("claim.json").write_text(text)
        with running(file):
            ask(supernode, site)
            assert heard(supernode).code == ""
        assert not folder.file("claim.json").exists()


def test_replies_leave_on_the_operators_grid(site, supernode, monkeypatch):
    class Waited:
        seconds = None

        def wait(self, seconds):
            self.seconds = seconds

    service = Service(read(write(site, supernode, **{"aegis-quantize-time": 60})))
    try:
        monkeypatch.setattr("aegis_flower.service.loop.time.time", lambda: 1_000_000_019.25)
        waited = Waited()
        service._wait_for_grid(waited)
        assert (1_000_000_019.25 + waited.seconds) % 60 == 0
        assert 0 < waited.seconds <= 60
    finally:
        service.control.release()


def test_a_machine_without_a_demanded_layer_does_not_start(site, supernode, monkeypatch):
    from aegis_flower.errors import NodeError
    from aegis_flower.jail import jail

    def none(*_, **__):
        raise jail.JailError("no Landlock here", "AEG-J001")

    monkeypatch.setattr("aegis_flower.service.check.Jail", none)
    with pytest.raises(NodeError, match="asks for landlock"):
        Service(read(write(site, supernode, **{"aegis-require-layers": "landlock"})))
    assert control(site).running() is None, "the folder is free again"

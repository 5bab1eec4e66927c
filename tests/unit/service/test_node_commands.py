"""`aegis node`: what its commands print, and the exit codes that a supervisor reads."""

from __future__ import annotations

import json

from aegis.cli import build as build_cli
from supernodes import served
from typer.testing import CliRunner

from aegis_flower.cli import register
from aegis_flower.service.control import Control

app = build_cli()
register(app)


def call(*arguments):
    done = CliRunner().invoke(app, ["node", *map(str, arguments)], env={"COLUMNS": "200"})
    return done.exit_code, done.output


def checked(text):
    return {one["topic"]: one for one in json.loads(text)}


def test_a_check_of_a_whole_node_is_well(site):
    site.approve()
    with served() as supernode:
        file = site.write(
            0,
            **{
                "aegis-supernode": supernode.address,
                "aegis-require-layers": "all",
                "aegis-dataset": site.cfg.data.name,
            },
        )
        code, out = call("check", file, "--json")
        found = checked(out)
        assert code == 0, out
        assert list(found) == ["control", "vault", "data", "roster", "clock", "disk", "jail", "approvals", "supernode"]
        assert "1 of 1 entries count" in found["approvals"]["found"]
        assert "confined by" in found["jail"]["found"]
        code, out = call("check", file)
        assert code == 0
        assert all(line.startswith("ok ") for line in out.splitlines())


def test_each_fault_has_its_remedy_and_does_not_hide_the_others(site):
    file = site.write(
        0,
        **{
            "aegis-supernode": "127.0.0.1:1",
            "aegis-dataset": "nothing",
            "aegis-approvals": str(site.folder / "elsewhere"),
        },
    )
    code, out = call("check", file, "--json")
    found = checked(out)
    assert code == 1
    assert {topic for topic, one in found.items() if not one["well"]} == {"data", "approvals", "supernode"}
    assert "aegis vault ls" in found["data"]["found"]
    assert "aegis app approve" in found["approvals"]["found"]
    assert "--isolation process" in found["supernode"]["found"]


def test_a_vault_that_does_not_open_is_one_fault_of_several(site):
    file = site.write(0, **{"aegis-key-file": str(site.folder / "none.key"), "aegis-supernode": "127.0.0.1:1"})
    code, out = call("check", file, "--json")
    assert code == 1
    assert {topic for topic, one in checked(out).items() if not one["well"]} == {"vault", "approvals", "supernode"}


def test_a_list_that_another_key_signed_is_a_fault(site):
    site.approve()
    file = site.write(0, **{"aegis-approval-signer": "cd" * 32, "aegis-supernode": "127.0.0.1:1"})
    assert not checked(call("check", file, "--json")[1])["approvals"]["well"]


def test_status_of_a_node_that_never_ran_and_of_one_that_did(site):
    control = Control(site.files[0].with_suffix(".control"))
    code, out = call("status", site.files[0])
    assert (code, "is not running" in out) == (1, True)
    control.say(
        {
            "node": "north",
            "pid": 5,
            "since": 0.0,
            "supernode": {"address": "127.0.0.1:9094", "reached": 1.0},
            "task": {"step": "masked", "run": "7", "since": 0.0},
            "answers": {"share": 2},
            "permits": {},
            "releases": {},
            "refusals": {"AEG-N019": 1},
            "waiting": 1,
        }
    )
    control.take()
    try:
        code, out = call("status", site.files[0])
        assert code == 0
        assert "north is working" in out
        assert "refusals:   AEG-N019 1" in out
        assert "task:       masked of run 7" in out
        control.pause()
        code, out = call("status", site.files[0], "--json")
        assert (json.loads(out)["running"], json.loads(out)["paused"]) == (True, True)
    finally:
        control.release()


def test_pause_resume_and_stop_say_whether_a_node_runs(site):
    Control(site.files[0].with_suffix(".control"))
    assert call("pause", site.files[0]) == (0, "paused; the node does not run\n")
    assert call("pause", site.files[0])[0] == 0
    assert call("resume", site.files[0]) == (0, "resumed; the node does not run\n")
    assert call("resume", site.files[0])[0] == 0
    assert call("stop", site.files[0]) == (0, "the node does not run\n")


def test_an_unknown_key_ends_every_command(site):
    file = site.write(0, **{"aegis-naem": "x"})
    for command in ("run", "check", "status", "pause", "resume", "stop"):
        done = CliRunner().invoke(app, ["node", command, str(file)])
        assert done.exit_code != 0
        assert "did you mean aegis-name" in str(done.exception)

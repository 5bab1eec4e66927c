"""Identities and rosters, by the command line and by the engine."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from aegis.cli import app
from typer.testing import CliRunner

from aegis_engine import Identity, SecAggClient, SecAggPlan, SecAggServer, errors, roster_open

DAY = 86_400


def run(*arguments: Any, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    # errors come in a box as wide as the terminal
    return " ".join(result.output.replace("│", " ").split()) if code else result.output


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    run("identity", "new", tmp_path / "operator")
    return tmp_path / "operator"


def public(file: Path) -> str:
    return run("identity", "show", file).strip()


def node(folder: Path, name: str) -> str:
    return run("identity", "new", folder / name).strip()


def test_an_identity_is_a_file_of_its_owner_and_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "node"
    told = run("identity", "new", file).strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert public(file) == told
    assert len(bytes.fromhex(told)) == 32
    assert told not in file.read_text()
    before = file.read_bytes()
    assert "never overwritten" in run("identity", "new", file, code=2)
    assert file.read_bytes() == before
    file.chmod(0o644)
    assert "chmod 600" in run("identity", "show", file, code=2)
    file.chmod(0o600)
    file.write_text("something else")
    assert "is no identity" in run("identity", "show", file, code=2)


def test_a_roster_grows_and_shrinks_and_its_serial_only_grows(tmp_path: Path, operator: Path) -> None:
    roster = tmp_path / "roster"
    keys = {name: node(tmp_path, name) for name in ("a", "b", "c")}
    run("roster", "sign", roster, "-i", operator, "--member", f"a={keys['a']}")
    run("roster", "add", roster, "b", keys["b"], "-i", operator)
    run("roster", "add", roster, "c", keys["c"], "-i", operator)
    run("roster", "remove", roster, "a", "-i", operator)
    run("roster", "sign", roster, "-i", operator, "--days", 30)
    told = json.loads(run("roster", "verify", roster, "--signer", public(operator), "--last", 5, "--json"))
    assert told["members"] == {keys["b"]: "b", keys["c"]: "c"}
    assert told["serial"] == 5
    assert abs(told["expires"] - time.time() - 30 * DAY) < DAY
    with pytest.raises(errors.RosterError, match="older than 6"):
        CliRunner().invoke(
            app, ["roster", "verify", str(roster), "--signer", public(operator), "--last", "6"], catch_exceptions=False
        )


def test_wrong_use_says_what_and_changes_nothing(tmp_path: Path, operator: Path) -> None:
    roster, a, b = tmp_path / "roster", node(tmp_path, "a"), node(tmp_path, "b")
    run("roster", "sign", roster, "-i", operator, "--member", f"a={a}")
    before = roster.read_bytes()
    assert "this key already" in run("roster", "add", roster, "z", a, "-i", operator, code=2)
    assert "another key" in run("roster", "add", roster, "a", b, "-i", operator, code=2)
    assert "64 hex digits" in run("roster", "add", roster, "b", b[:-1], "-i", operator, code=2)
    assert "it has a" in run("roster", "remove", roster, "z", "-i", operator, code=2)
    assert "aegis roster add" in run("roster", "sign", roster, "-i", operator, "--member", f"b={b}", code=2)
    result = CliRunner().invoke(app, ["roster", "add", str(roster), "b b", b, "-i", str(operator)])
    assert isinstance(result.exception, errors.RosterError)
    assert roster.read_bytes() == before


def test_a_roster_of_somebody_else_or_changed_or_too_old_is_refused(tmp_path: Path, operator: Path) -> None:
    roster, a = tmp_path / "roster", node(tmp_path, "a")
    run("roster", "sign", roster, "-i", operator, "--member", f"a={a}")
    text, signer = roster.read_text(), Identity.load(operator).public
    found = roster_open(text, signer, now=int(time.time()))
    assert found["members"] == {bytes.fromhex(a): "a"}
    other = Identity.create(tmp_path / "other").public
    cases: list[tuple[str, str, bytes, dict[str, Any]]] = [
        ("AEG-S031", text, other, {}),
        ("AEG-S032", text.replace(" a\n", " b\n"), signer, {}),
        ("AEG-S030", text + "\n", signer, {}),
        ("AEG-S033", text, signer, {"now": found["expires"]}),
        ("AEG-S034", text, signer, {"now": found["issued"] - 2 * DAY}),
        ("AEG-S035", text, signer, {"now": found["issued"], "last": (2, bytes(32))}),
        ("AEG-S036", text, signer, {"now": found["issued"], "last": (1, bytes(32))}),
    ]
    for code, changed, by, options in cases:
        with pytest.raises(errors.RosterError) as caught:
            roster_open(changed, by, **options)
        assert caught.value.code == code
    again = roster_open(text, signer, now=found["issued"], last=(1, found["hash"]))
    assert again == found


def test_a_client_with_a_roster_joins_its_members_and_no_others(tmp_path: Path) -> None:
    members = [Identity.create(tmp_path / str(n)) for n in range(3)]
    roster = [member.public for member in members]

    def server(identities: list[Identity | None]) -> tuple[dict[int, SecAggClient], bytes]:
        clients = {
            n: SecAggClient(
                9,
                n,
                min_cohort=3,
                min_threshold=2,
                metrics=[],
                metric_max=10,
                weight_max=10,
                identity=identity,
                roster=roster,
            )
            for n, identity in enumerate(identities, start=1)
        }
        run = SecAggServer(
            9,
            SecAggPlan(
                dim=4, metrics=[], clip=1.0, value_bits=16, weight_max=10, metric_max=10, max_clients=8, min_clients=3
            ),
        )
        for n, client in clients.items():
            assert run.add_advert(n, client.advertise()) is None
        return clients, run.begin_round(1, list(clients))

    clients, request = server([*members])
    for client in clients.values():
        assert client.share(request)
    clients, request = server([*members, None])
    with pytest.raises(errors.SecAggError, match="node 4 is not known here") as caught:
        clients[1].share(request)
    assert caught.value.code == "AEG-S010"

"""The journal: one line for each permit, release and refusal, none lost in a crash, and no words of anybody's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from by_hand import ByHand, Server, config

from aegis_engine import Vault, audit_read
from aegis_flower.service.journal import Journal, Tail


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> ByHand:
    return ByHand(tmp_path_factory.mktemp("nodes"), config(), nodes=3)


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_each_permit_and_release_of_a_round_has_one_line(nodes, tmp_path):
    audit = nodes.folder / "node-1" / "audit"
    journal = Journal(tmp_path / "log")
    journal.follow(audit, tmp_path / "at")
    journal.audit()
    assert lines(tmp_path / "log") == [], "what was there before is not told again"
    assert nodes.round_(Server(nodes.cfg), [1, 2, 3], noise_multiplier=nodes.sigma).codes == {""}
    journal.audit()
    journal.audit()
    found = lines(tmp_path / "log")
    assert [one["what"] for one in found] == ["permit", "release"]
    records = {r["seq"]: r for r in audit_read(str(audit))}
    for one in found:
        record = records[one["seq"]]
        assert one["decision"] == record["decision"] == "allow"
        assert {k: v for k, v in one.items() if k not in ("at", "what")} == {
            k: record[k] for k in one if k not in ("at", "what")
        }
        assert not {"purpose", "columns", "policies", "errors", "rows_denied", "gates"} & set(one)
    assert journal.counts["permit", "allow"] == journal.counts["release", "allow"] == 1


def test_what_a_crash_left_is_told_at_the_next_start(nodes, tmp_path):
    audit = nodes.folder / "node-2" / "audit"
    Journal(tmp_path / "log").follow(audit, tmp_path / "at")  # and dies
    nodes.new_run(2)
    nodes.round_(Server(nodes.cfg, run_id=2), [1, 2, 3], noise_multiplier=nodes.sigma)
    after = Journal(tmp_path / "log")
    after.follow(audit, tmp_path / "at")
    after.audit()
    assert [one["what"] for one in lines(tmp_path / "log")] == ["permit", "release"]
    again = Journal(tmp_path / "log")
    again.follow(audit, tmp_path / "at")
    again.audit()
    assert len(lines(tmp_path / "log")) == 2


def test_what_was_told_and_not_remembered_is_not_told_twice(nodes, tmp_path):
    audit = nodes.folder / "node-3" / "audit"
    first = Journal(tmp_path / "log")
    first.follow(audit, tmp_path / "at")
    before = (tmp_path / "at").read_text()
    nodes.new_run(3)
    nodes.round_(Server(nodes.cfg, run_id=3), [1, 2, 3], noise_multiplier=nodes.sigma)
    first.audit()
    assert len(lines(tmp_path / "log")) == 2
    (tmp_path / "at").write_text(before)  # as if it was killed between the lines and the note of them
    with (tmp_path / "log").open("a") as log:
        log.write('{"what": "per')  # and in a line
        log.write("\n")
    after = Journal(tmp_path / "log")
    after.follow(audit, tmp_path / "at")
    after.audit()
    assert (tmp_path / "log").read_text().count('"what": "permit"') == 1
    assert (tmp_path / "log").read_text().count('"what": "release"') == 1


def test_a_place_in_another_vaults_log_says_nothing(nodes, tmp_path):
    Tail(nodes.folder / "node-1" / "audit", tmp_path / "at")
    origin, _ = (tmp_path / "at").read_text().split(":")
    (tmp_path / "at").write_text(f"{origin}:64")
    assert list(Tail(nodes.folder / "node-1" / "audit", tmp_path / "at").new())
    (tmp_path / "at").write_text(f"{origin}:64")
    assert list(Tail(nodes.folder / "node-2" / "audit", tmp_path / "at").new()) == []


@pytest.mark.parametrize("place", ["", "x", "64", ":64", "{}:-5", "{}:63", "{}:99999999999", "{}:64:64"])
def test_a_place_that_cannot_be_is_the_end(nodes, tmp_path, place):
    kept = place.format((nodes.folder / "node-1" / "audit" / "000001.log").read_bytes()[:64].hex())
    (tmp_path / "at").write_text(kept)
    assert list(Tail(nodes.folder / "node-1" / "audit", tmp_path / "at").new()) == []


def test_the_tail_reads_what_the_engine_reads(tmp_path):
    vault = Vault.create(str(tmp_path / "v"), key_file=str(tmp_path / "v.key"), make_key=True)
    header = (tmp_path / "v" / "audit" / "000001.log").read_bytes()[:64]
    (tmp_path / "at").write_text(f"{header.hex()}:64")
    tail = Tail(tmp_path / "v" / "audit", tmp_path / "at")
    vault.record("node.pause", {"node": "ä 𐀀"})
    whole = [{k: v for k, v in r.items() if k != "hash"} for r in audit_read(str(tmp_path / "v" / "audit"))]
    assert list(tail.new()) == whole
    file = tmp_path / "v" / "audit" / "000001.log"
    with file.open("ab") as log:  # the start of a record, as a crash leaves it
        log.write(b"\x20\x00\x00\x00" + b"\x00" * 60)
    assert list(tail.new()) == []


def test_a_refusal_has_its_code_and_nothing_else_of_it(tmp_path):
    journal = Journal(tmp_path / "log")
    journal.refusal("AEG-N019", "masked", 2**63, 4, "ab" * 32)
    (one,) = lines(tmp_path / "log")
    assert {k: v for k, v in one.items() if k != "at"} == {
        "what": "refusal",
        "code": "AEG-N019",
        "step": "masked",
        "run": str(2**63),
        "round": 4,
        "app_hash": "ab" * 32,
    }
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0


def test_a_log_that_was_rotated_away_begins_anew(tmp_path):
    journal = Journal(tmp_path / "log")
    journal.note("start", pid=1)
    (tmp_path / "log").rename(tmp_path / "log.1")
    journal.note("stop", pid=1)
    assert [one["what"] for one in lines(tmp_path / "log")] == ["stop"]


def test_a_log_that_cannot_be_written_goes_to_standard_error(tmp_path, capsys):
    journal = Journal(tmp_path / "none" / "log")
    journal.note("start", pid=1)
    assert '"what": "start"' in capsys.readouterr().err
    assert journal.counts["event", "log-failed"] == 1

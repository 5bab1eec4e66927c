"""What a node finds in a folder of approvals, whoever writes there."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from approval_world import NOW, World

from aegis_engine import Identity
from aegis_flower.approval import Approval, Approvals, Desk
from aegis_flower.errors import AppNotApproved, ApprovalsTampered, NodeError

DAY = 86_400


def refused(
    node: Approvals, app: str, *, dataset: str = "patients", purpose: str = "research", now: float = NOW
) -> str:
    with pytest.raises(AppNotApproved) as caught:
        node.find(app, dataset, purpose, now)
    assert caught.value.code in ("AEG-N019", "AEG-N020")
    return str(caught.value)


def test_an_approved_app_is_found_and_nothing_else_is(world: World, fab: bytes, later_fab: bytes) -> None:
    app = world.approve(fab, dataset="patients", mode="blocks")
    node = world.node()
    found = node.find(app, "patients", "research", NOW)
    assert found == Approval(app, "patients", "blocks", "research", NOW + 10 * DAY, 1)
    assert "is not approved" in refused(node, "0" * 64)
    assert "data set patients, not for 'others'" in refused(node, app, dataset="others")
    assert "not for the purpose 'marketing'" in refused(node, app, purpose="marketing")
    assert node.find(app, "patients", "research", NOW + 10 * DAY - 1) == found
    assert "has expired" in refused(node, app, now=NOW + 10 * DAY)
    other = world.approve(later_fab)
    assert node.find(other, "anything", "research", NOW).serial == 2
    assert node.find(app, "patients", "research", NOW) == found


def test_no_list_no_app(world: World, fab: bytes) -> None:
    assert "no list of approvals" in refused(world.node(), "0" * 64)
    world.folder.mkdir()
    assert "no list of approvals" in refused(world.node(), "0" * 64)


def test_a_revoked_app_stops_and_may_be_approved_again(world: World, fab: bytes) -> None:
    app = world.approve(fab)
    node = world.node()
    found = node.find(app, "patients", "research", NOW)
    watched = node.watch(found)
    assert node.still(found, NOW)
    world.desk.revoke(app, now=NOW + 1)
    assert not node.still(found, NOW + 1)
    assert not watched()
    assert "was revoked" in refused(node, app, now=NOW + 1)
    again = world.approve(fab, now=NOW + 2)
    assert node.find(again, "patients", "research", NOW + 2).serial == 3


def test_a_prolonged_approval_does_not_stop_what_runs_and_another_mode_does(world: World, fab: bytes) -> None:
    app = world.approve(fab)
    node = world.node()
    found = node.find(app, "patients", "research", NOW)
    world.approve(fab, days=20)
    assert node.still(found, NOW + 15 * DAY)
    world.approve(fab, mode="recipe", days=20)
    assert not node.still(found, NOW)


def test_the_entry_for_the_data_set_goes_before_the_one_for_any(world: World, fab: bytes) -> None:
    app = world.approve(fab, mode="any")
    world.approve(fab, mode="blocks", dataset="patients")
    node = world.node()
    assert node.find(app, "patients", "research", NOW).mode == "blocks"
    assert node.find(app, "others", "research", NOW).mode == "any"
    # To take back the one while the other still covers the data set would look like more than it is.
    with pytest.raises(AppNotApproved, match="approved for any data set"):
        world.desk.revoke(app, dataset="patients")
    assert len(world.desk.revoke(app)) == 2
    assert "was revoked" in refused(node, app)


def test_an_unreadable_time_is_too_late(world: World, fab: bytes) -> None:
    app = world.approve(fab)
    assert "expired" in refused(world.node(), app, now=math.nan)
    assert "expired" in refused(world.node(), app, now=math.inf)
    assert "in the future" in refused(world.node(), app, now=-math.inf)
    assert "in the future" in refused(world.node(), app, now=NOW - DAY - 1)


@pytest.mark.parametrize("wrong", [None, 0, b"", [], {}, "", "A" * 64, "0" * 63, "../x", "\0", "ü" * 64])
def test_what_is_no_hash_finds_nothing(world: World, fab: bytes, wrong: Any) -> None:
    world.approve(fab)
    node = world.node()
    refused(node, wrong)
    app = world.desk.entries()[0].approval.fab_hash
    refused(node, app, purpose=wrong)


# -- an attacker who writes the folder ------------------------------------------------------------------------------------


def test_every_bit_of_the_list_counts(world: World, fab: bytes) -> None:
    app = world.approve(fab)
    whole = world.list.read_bytes()
    world.node().find(app, "patients", "research", NOW)
    for bit in range(len(whole) * 8):
        bad = bytearray(whole)
        bad[bit // 8] ^= 1 << (bit % 8)
        world.list.write_bytes(bad)
        refused(world.node(), app)
    world.list.write_bytes(whole)
    assert world.node().find(app, "patients", "research", NOW)


def test_no_cut_no_addition_and_no_order_but_the_signed_one(world: World, fab: bytes, later_fab: bytes) -> None:
    app = world.approve(fab)
    world.approve(later_fab)
    whole = world.list.read_bytes()
    lines = whole.splitlines(keepends=True)
    entries = slice(5, 7)
    for bad in (
        *(whole[:at] for at in range(0, len(whole), 7)),
        whole + b"\n",
        whole + lines[-1],
        b"".join([*lines[:5], *lines[entries][::-1], lines[7]]),
        b"".join([*lines[:5], lines[5], lines[7]]),
        b"".join([*lines[:6], *lines[5:]]),
        whole.replace(b"\n", b"\r\n"),
        b"\xff" * len(whole),
        b"",
    ):
        world.list.write_bytes(bad)
        refused(world.node(), app)


def test_an_older_list_is_never_taken_again(world: World, fab: bytes) -> None:
    app = world.approve(fab)
    old = world.list.read_bytes()
    node = world.node()
    found = node.find(app, "patients", "research", NOW)
    world.desk.revoke(app, now=NOW)
    assert not node.still(found, NOW)
    world.list.write_bytes(old)
    assert "older list was put back" in refused(node, app)
    assert not node.still(found, NOW)
    assert "older list was put back" in refused(world.node(), app)
    # Nor in the process that has read the newer one, where what it remembers is taken away as well.
    world.newest.unlink()
    assert "older list was put back" in refused(node, app)
    # And the operator does not sign on top of it.
    with pytest.raises(ApprovalsTampered, match="older list"):
        world.approve(fab)
    with pytest.raises(ApprovalsTampered, match="older list"):
        world.desk.entries()


def test_two_lists_of_one_serial_are_refused_until_a_later_one(world: World, fab: bytes, tmp_path: Path) -> None:
    app = world.approve(fab)
    first = world.list.read_bytes()
    memory = tmp_path / "operator.key.approvals"
    kept = memory.read_bytes()
    world.approve(fab, days=20)
    one = world.list.read_bytes()
    # The operator's machine is set back as a whole, and signs another second list.
    world.list.write_bytes(first)
    memory.write_bytes(kept)
    world.approve(fab, days=30)
    node = world.node()
    assert node.find(app, "patients", "research", NOW).expires == NOW + 30 * DAY
    world.list.write_bytes(one)
    assert "two different lists" in refused(node, app)


def test_a_list_of_another_key_or_another_folder_is_refused(world: World, fab: bytes, tmp_path: Path) -> None:
    app = world.approve(fab)
    node = world.node()
    node.find(app, "patients", "research", NOW)
    own = world.list.read_bytes()
    stranger = tmp_path / "stranger.key"
    Identity.create(str(stranger))
    Desk(tmp_path / "theirs", stranger).approve(fab, mode="any", purpose="research", days=9, now=NOW)
    shutil.copy(tmp_path / "theirs/approvals", world.list)
    assert "is signed by" in refused(node, app)
    # The same operator's list for another node, which allows what this one may not.
    Desk(tmp_path / "sister", world.key).approve(fab, mode="embedded", purpose="other", days=9, now=NOW)
    shutil.copy(tmp_path / "sister/approvals", world.list)
    assert "put aside" in refused(node, app, purpose="other")
    assert "put aside" in refused(world.node(), app, purpose="other")
    world.list.write_bytes(own)
    assert node.find(app, "patients", "research", NOW)


@pytest.mark.parametrize("kind", ["missing", "folder", "link", "pipe", "huge", "unreadable"])
def test_whatever_lies_in_the_lists_place_refuses(world: World, fab: bytes, kind: str, tmp_path: Path) -> None:
    app = world.approve(fab)
    node = world.node()
    found = node.find(app, "patients", "research", NOW)
    shutil.move(world.list, tmp_path / "moved")
    if kind == "folder":
        world.list.mkdir()
    elif kind == "link":
        world.list.symlink_to(tmp_path / "moved")
    elif kind == "pipe":
        os.mkfifo(world.list)  # an open that waits for a writer would end in pytest's timeout
    elif kind == "huge":
        with world.list.open("wb") as file:
            file.truncate(1 << 40)
    elif kind == "unreadable":
        world.list.symlink_to("/proc/self/mem")
    refused(node, app)
    assert not node.still(found, NOW)
    refused(world.node(), app)


def test_what_the_node_remembers_is_not_taken_from_the_folder(world: World) -> None:
    for place in (world.folder / "newest", world.folder / "deep/newest", world.folder):
        with pytest.raises(NodeError, match="lies in the folder"):
            Approvals(world.folder, world.public, place)
    link = world.folder.parent / "link"
    world.folder.mkdir()
    link.symlink_to(world.folder)
    with pytest.raises(NodeError, match="lies in the folder"):
        Approvals(world.folder, world.public, link / "newest")


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"x": 1}', b"\xff\xff", b'{"a": {"serial": 0}}', b"[" * 100_000]
)
def test_a_damaged_memory_of_the_node_refuses(world: World, fab: bytes, damage: bytes) -> None:
    app = world.approve(fab)
    world.node().find(app, "patients", "research", NOW)
    world.newest.write_bytes(damage)
    assert "is damaged" in refused(world.node(), app)


def test_a_memory_that_cannot_be_written_refuses(world: World, fab: bytes) -> None:
    app = world.approve(fab)
    world.newest.parent.write_text("a file where the folder should be")
    assert "cannot be read" in refused(world.node(), app)


@pytest.mark.parametrize("signer", [b"", b"\0" * 31, b"\0" * 33, "0" * 32, None])
def test_what_is_no_key_pins_nothing(world: World, signer: Any) -> None:
    with pytest.raises(NodeError, match="no key"):
        Approvals(world.folder, signer, world.newest)


def test_a_list_that_did_not_change_is_not_read_again(
    world: World, fab: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aegis_flower.approval import approvals

    app = world.approve(fab)
    past = time.time_ns() - 10 * 10**9
    node = world.node()
    found = node.find(app, "patients", "research", NOW)
    reads = []
    real = approvals.regular
    monkeypatch.setattr(approvals, "regular", lambda *given: reads.append(given) or real(*given))  # type: ignore[func-returns-value]
    # The change lies back long enough: what time it was is the file system's word, so the bound is moved instead.
    monkeypatch.setattr(approvals, "_SETTLED_NS", past - time.time_ns())
    assert node.still(found, NOW)
    assert [node.still(found, NOW) for _ in range(50)] == [True] * 50
    assert len(reads) == 1
    world.desk.revoke(app, now=NOW)
    assert not node.still(found, NOW)
    assert len(reads) == 2


# -- an end at each step of the node ----------------------------------------------------------------------------------------

KILLED = """
import os, pathlib, signal, sys
left = int(sys.argv[5])
def counted(real):
    def call(*given, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)
    return call
from aegis_flower.approval import Approvals
from aegis_flower.errors import AppNotApproved
node = Approvals(pathlib.Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), pathlib.Path(sys.argv[3]))
for module, names in ((os, ("fsync", "replace", "open", "close")), (pathlib.Path, ("open", "replace", "unlink"))):
    for name in names:
        setattr(module, name, counted(getattr(module, name)))
try:
    node.find(sys.argv[4], "patients", "research", float(sys.argv[6]))
    print("allowed", flush=True)
except AppNotApproved:
    print("refused", flush=True)
"""


def test_a_node_that_ends_at_any_step_has_answered_nothing_that_is_undone(tmp_path: Path, fab: bytes) -> None:
    """Whatever it said before it was killed still holds when an attacker puts the older list back for its next start."""
    world = World(tmp_path)
    app = world.approve(fab)
    old = world.list.read_bytes()
    world.desk.revoke(app, now=NOW)
    new = world.list.read_bytes()
    for step in range(1, 200):
        newest = tmp_path / f"node-{step}" / "newest"
        given = [world.folder, world.public.hex(), newest, app, step, NOW]
        world.list.write_bytes(new)
        done = subprocess.run(
            [sys.executable, "-c", KILLED, *map(str, given)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        assert "allowed" not in done.stdout
        again = Approvals(world.folder, world.public, newest)
        world.list.write_bytes(old)
        if "refused" in done.stdout:
            assert "older list" in refused(again, app)
        world.list.write_bytes(new)
        assert "was revoked" in refused(Approvals(world.folder, world.public, newest), app)
        if done.returncode == 0:
            break
    else:
        pytest.fail("the node never came to its answer")
    assert step > 5

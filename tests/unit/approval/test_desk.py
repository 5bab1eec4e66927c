"""The operator's side: two processes at once, an end at each step, and folders that others write."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from approval_world import NOW, World
from bundles import PROJECT, built

from aegis_flower.approval import Approvals, Desk, read
from aegis_flower.approval.desk import kept
from aegis_flower.errors import AppNotApproved, ApprovalsTampered, BadBundle

DAY = 86_400


def test_the_list_has_what_was_done_newest_last(world: World, fab: bytes, later_fab: bytes) -> None:
    one, two = world.approve(fab), world.approve(later_fab)
    assert [e.approval.fab_hash for e in world.desk.entries()] == [one, two]
    world.desk.revoke(one, now=NOW + 5)
    assert [e.revoked for e in world.desk.entries()] == [NOW + 5, None]
    with pytest.raises(AppNotApproved, match="no approval of"):
        world.desk.revoke(one)
    with pytest.raises(AppNotApproved, match="no approval of"):
        world.desk.revoke(two, purpose="other")


def test_what_ended_long_ago_leaves_the_list(world: World, fab: bytes, later_fab: bytes) -> None:
    world.approve(fab, days=1)
    world.approve(later_fab, now=NOW + 366 * DAY)
    assert len(world.desk.entries()) == 2
    world.approve(later_fab, now=NOW + 367 * DAY)
    assert len(world.desk.entries()) == 1


def test_the_version_approved_before_is_that_of_the_same_app(world: World, fab: bytes, later_fab: bytes) -> None:
    other = built(pyproject=b"")  # a file pyproject.py beside: another hash, the same app
    stranger = _of_publisher("elsewhere")
    world.approve(fab)
    world.approve(stranger)
    found = world.desk.before(read(later_fab))
    assert found is not None
    assert found.fab_hash == read(fab).fab_hash
    assert world.desk.before(read(_of_publisher("third"))) is None
    world.approve(other)
    assert world.desk.before(read(later_fab)) == read(other)


def _of_publisher(name: str) -> bytes:
    from bundles import FILES
    from flwr.cli.build import build_fab_from_files

    fab: bytes = build_fab_from_files({**FILES, "pyproject.toml": PROJECT.replace("clinic", name).encode()})[0]
    return fab


def test_a_kept_bundle_is_that_of_its_hash(world: World, fab: bytes, later_fab: bytes) -> None:
    app = world.approve(fab)
    assert world.desk.bundle(app) == fab
    (world.folder / "fabs" / f"{app}.fab").write_bytes(later_fab)
    with pytest.raises(BadBundle, match="somebody changed it"):
        world.desk.bundle(app)
    assert world.desk.before(read(built(study__server=b""))) is None
    for wrong in ("0" * 64, "../approvals", "", f"../fabs/{app}"):
        with pytest.raises(BadBundle):
            kept(world.folder, wrong)


def test_a_folder_of_bundles_that_is_a_link_is_not_written_through(world: World, fab: bytes, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    world.folder.mkdir()
    (world.folder / "fabs").symlink_to(tmp_path / "victim")
    with pytest.raises(ApprovalsTampered, match="is a link"):
        world.approve(fab)
    assert list((tmp_path / "victim").iterdir()) == []


def test_a_list_that_is_gone_is_not_begun_anew_in_silence(world: World, fab: bytes) -> None:
    world.approve(fab)
    world.list.unlink()
    for act in (lambda: world.approve(fab), world.desk.entries, lambda: world.desk.revoke("0" * 64)):
        with pytest.raises(ApprovalsTampered, match="is gone"):
            act()
    assert not world.list.exists()


def test_a_changed_list_is_not_signed_again(world: World, fab: bytes, later_fab: bytes) -> None:
    world.approve(fab)
    text = world.list.read_bytes().replace(b'"mode":"any"', b'"mode":"embedded"')
    world.list.write_bytes(text)
    with pytest.raises(ApprovalsTampered, match="changed after it was signed"):
        world.approve(later_fab)
    assert world.list.read_bytes() == text


def test_two_processes_lose_no_change_of_each_other(world: World) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from bundles import built\nfrom pathlib import Path\nfrom aegis_flower.approval import Desk\n"
        "desk = Desk(Path(sys.argv[2]), Path(sys.argv[3]))\n"
        "for n in range(8):\n"
        "    fab = built(study__client=f'app = {sys.argv[4]}{n}'.encode())\n"
        f"    desk.approve(fab, mode='any', purpose='p', days=9, now={NOW})\n"
    )
    given = [sys.executable, "-c", script, str(Path(__file__).parent), str(world.folder), str(world.key)]
    both = [subprocess.Popen([*given, name]) for name in "12"]
    assert [one.wait(120) for one in both] == [0, 0]
    found = world.desk.entries()
    assert len({e.approval.fab_hash for e in found}) == 16
    assert sorted(e.approval.serial for e in found) == list(range(1, 17))
    world.node().find(found[0].approval.fab_hash, "d", "p", NOW)


# Killed before each call that changes what is on the disk.
KILLED = """
import os, pathlib, signal, sys
left, now = int(sys.argv[4]), int(sys.argv[6])
def counted(real):
    def call(*given, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)
    return call
from aegis_flower.approval import Desk
desk = Desk(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
os.fsync = counted(os.fsync)
os.replace = counted(os.replace)
pathlib.Path.replace = counted(pathlib.Path.replace)
pathlib.Path.open = counted(pathlib.Path.open)
pathlib.Path.unlink = counted(pathlib.Path.unlink)
if sys.argv[3] == "revoke":
    desk.revoke(sys.argv[5], now=now)
else:
    desk.approve(pathlib.Path(sys.argv[5]).read_bytes(), mode="any", purpose="research", days=10, now=now)
"""


def _killed_at(world: World, act: str, step: int, what: str) -> bool:
    """Whether the process was killed, rather than done."""
    given = [sys.executable, "-c", KILLED, str(world.folder), str(world.key), act, str(step), what, str(NOW)]
    done = subprocess.run(given, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.mark.parametrize("act", ["approve", "revoke"])
def test_an_end_at_any_step_leaves_one_of_the_two_lists(act: str, tmp_path: Path, fab: bytes, later_fab: bytes) -> None:
    (tmp_path / "later.fab").write_bytes(later_fab)
    steps = 0
    for step in range(1, 100):
        (tmp_path / str(step)).mkdir()
        world = World(tmp_path / str(step))
        app = world.approve(fab)
        what = app if act == "revoke" else str(tmp_path / "later.fab")
        if not _killed_at(world, act, step, what):
            break
        steps += 1
        node = world.node()
        target = app if act == "revoke" else read(later_fab).fab_hash
        other = [] if act == "revoke" else [app]
        allowed = _allowed(node, target)
        assert all(_allowed(node, one) for one in other)
        # What was ended in the middle is done again, and holds for the same node from then on.
        if act == "approve":
            world.approve(later_fab)
            assert _allowed(world.node(), target)
        elif allowed:
            world.desk.revoke(app, now=NOW)
        assert _allowed(world.node(), target) == (act == "approve")
        assert not [p.name for p in world.folder.iterdir() if p.name not in _names(world)]
    else:
        pytest.fail("the command never came to its end")
    assert steps > 4


def _names(world: World) -> list[str]:
    """The list, the bundles, and drafts that a killed process left: they are read by nobody."""
    return ["approvals", "fabs", *(p.name for p in world.folder.glob(".approvals.*.tmp"))]


def _allowed(node: Approvals, app: str) -> bool:
    try:
        node.find(app, "patients", "research", NOW)
    except AppNotApproved:
        return False
    return True


def test_after_a_revocation_that_was_cut_off_the_older_list_does_not_come_back(
    world: World, fab: bytes, later_fab: bytes
) -> None:
    """Killed between the list and the memory of it, and the attacker puts the older list back: both ways end refused."""
    app = world.approve(fab)
    old, memory = world.list.read_bytes(), world.key.with_name("operator.key.approvals")
    remembered = memory.read_bytes()
    world.desk.revoke(app, now=NOW)
    memory.write_bytes(remembered)
    node = world.node()
    assert not _allowed(node, app)
    world.list.write_bytes(old)
    assert not _allowed(node, app)
    # The operator, who was told of no success, revokes again on the older list: the same serial, another list.
    world.desk.revoke(app, now=NOW + 1)
    assert not _allowed(node, app)
    world.approve(later_fab)
    assert not _allowed(node, app)
    assert _allowed(node, read(later_fab).fab_hash)


def test_the_key_alone_signs(world: World, fab: bytes, tmp_path: Path) -> None:
    app = world.approve(fab)
    with pytest.raises(FileNotFoundError):
        Desk(world.folder, tmp_path / "none.key")
    from aegis_engine import Identity

    Identity.create(str(tmp_path / "other.key"))
    with pytest.raises(ApprovalsTampered, match="is signed by"):
        Desk(world.folder, tmp_path / "other.key").revoke(app)

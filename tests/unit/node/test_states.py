"""The protocol's states that a node keeps itself: newest or refused, whatever was put back and wherever it was killed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from by_hand import ByHand, Server, config

from aegis_engine import Vault
from aegis_flower import wire
from aegis_flower.errors import StaleState
from aegis_flower.node.node import close_nodes, keep_states
from aegis_flower.node.states import States


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault.create(str(tmp_path / "v"), key_file=str(tmp_path / "v.key"), make_key=True)
    made.govern("core")
    return made


@pytest.fixture
def kept() -> Iterator[None]:
    keep_states()
    yield
    keep_states(on=False)


def folder(vault: Vault) -> Path:
    return Path(vault.path) / "privacy" / "states"


def test_the_newest_state_of_each_run_is_given_back_also_to_another_process(vault: Vault) -> None:
    states = States(vault)
    assert states.read(1, 7) is None
    for text in (b"one", b"two"):
        states.keep(1, 7, text)
    states.keep(2, 7, b"other run")
    again = States(vault)
    assert (again.read(1, 7), again.read(2, 7), again.read(1, 8)) == (b"two", b"other run", None)
    assert len(list(folder(vault).iterdir())) == 4, "index, lock and one state for each run"


def test_a_state_that_was_put_back_is_refused(vault: Vault) -> None:
    states = States(vault)
    states.keep(1, 7, b"one")
    old = {f.name: f.read_bytes() for f in folder(vault).iterdir() if f.name not in ("index", "lock")}
    states.keep(1, 7, b"two")
    (name,) = old
    (now,) = [f for f in folder(vault).iterdir() if f.name not in ("index", "lock")]
    now.write_bytes(old[name])
    with pytest.raises(StaleState):
        states.read(1, 7)


@pytest.mark.parametrize("what", ["put back", "removed", "damaged"])
def test_a_run_that_used_data_is_refused_when_the_index_is_not_the_newest(
    vault: Vault, what: str, tmp_path: Path
) -> None:
    states = States(vault)
    states.keep(1, 7, b"one")
    shutil.copytree(folder(vault), tmp_path / "old")
    states.keep(1, 7, b"two")
    used(vault, "1")
    if what == "put back":
        shutil.rmtree(folder(vault))
        shutil.copytree(tmp_path / "old", folder(vault))
    elif what == "removed":
        shutil.rmtree(folder(vault))
    else:
        (folder(vault) / "index").write_bytes(b"x" * 80)
    with pytest.raises(StaleState):
        states.read(1, 7)
    with pytest.raises(StaleState):
        states.keep(1, 7, b"three")
    states.keep(2, 7, b"a new run may begin")
    assert states.read(2, 7) == b"a new run may begin"
    with pytest.raises(StaleState):
        states.read(1, 7)  # and the old one stays refused, with an index that is whole again


def used(vault: Vault, run: str) -> None:
    """A decision of this run in the audit log; that it is a refusal makes no difference."""
    from by_hand import rows

    from aegis_engine import ComplianceEngine, Request
    from aegis_flower import Terms
    from aegis_flower.ingest import ingest

    ingest(
        vault,
        "p",
        rows(8),
        [f"p{i}" for i in range(8)],
        Terms(["research"], min_rows=2, min_subjects=2),
        allow_missing=True,
    )
    dataset = str(vault.list()[0]["id"])
    ComplianceEngine(vault).authorize(dataset, Request(action="train", purpose="research", run=run, round=1))


CRASH = """
import os, signal, sys
from aegis_engine import Vault
from aegis_flower.node import states as module

vault = Vault.open(sys.argv[1], key_file=sys.argv[2])
states = module.States(vault)
real, left = module.write_atomically, [int(sys.argv[3])]

def write(contents):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    real(contents)

module.write_atomically = write
if left[0] == 2:  # both written, not committed
    class Uncommitted:
        def __getattr__(self, name):
            return getattr(vault, name)
        def commit_head(self, *_):
            os.kill(os.getpid(), signal.SIGKILL)
    states._vault = Uncommitted()
states.keep(1, 7, b"new")
"""


@pytest.mark.parametrize(("writes", "left"), [(0, b"old"), (1, b"old"), (2, b"new")])
def test_a_node_killed_while_it_keeps_a_state_has_the_one_before_or_the_new_one(
    vault: Vault, tmp_path: Path, writes: int, left: bytes
) -> None:
    States(vault).keep(1, 7, b"old")
    command = [sys.executable, "-c", CRASH, str(tmp_path / "v"), str(tmp_path / "v.key"), str(writes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    again = States(Vault.open(str(tmp_path / "v"), key_file=str(tmp_path / "v.key")))
    assert again.read(1, 7) == left
    again.keep(1, 7, b"next")
    assert again.read(1, 7) == b"next"
    assert len([f for f in folder(vault).iterdir() if f.name not in ("index", "lock")]) == 1


def test_a_link_in_the_folder_is_not_followed(vault: Vault, tmp_path: Path) -> None:
    states = States(vault)
    states.keep(1, 7, b"one")
    (file,) = [f for f in folder(vault).iterdir() if f.name not in ("index", "lock")]
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StaleState):
        states.read(1, 7)


def test_a_node_that_keeps_its_states_takes_none_from_flower_and_gives_it_none(tmp_path: Path, kept: None) -> None:
    nodes = ByHand(tmp_path, config())
    server = Server(nodes.cfg)
    assert nodes.round_(server, [1, 2, 3], noise_multiplier=nodes.sigma).codes == {""}
    for context in nodes.contexts.values():
        assert "aegis.secagg" not in context.state, "nothing for the SuperNode to keep, or to put back"
    close_nodes()  # as after a restart
    assert nodes.round_(server, [1, 2, 3], noise_multiplier=nodes.sigma).codes == {""}


def test_a_round_goes_on_with_the_state_of_the_last_answer_and_never_with_an_older_one(
    tmp_path: Path, kept: None
) -> None:
    nodes = ByHand(tmp_path, config())
    server = Server(nodes.cfg)
    nodes.round_(server, [1, 2, 3], noise_multiplier=nodes.sigma)
    states = tmp_path / "node-1" / "privacy" / "states"
    shutil.copytree(states, tmp_path / "old")
    nodes.round_(server, [1, 2, 3], noise_multiplier=nodes.sigma)
    shutil.rmtree(states)
    shutil.copytree(tmp_path / "old", states)
    close_nodes()
    assert nodes.ask(1, wire.ADVERTISE).code == "AEG-N017"
    assert nodes.ask(1, wire.SHARE, payload=b"x").code == "AEG-N017"

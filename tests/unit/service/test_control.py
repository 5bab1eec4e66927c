"""The operator's orders: files of one user, one node for each folder, and nothing from anybody else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aegis_flower.errors import NodeError
from aegis_flower.service.control import Control


def test_a_folder_is_made_for_its_owner_alone(tmp_path):
    control = Control(tmp_path / "north.control")
    assert (tmp_path / "north.control").stat().st_mode & 0o777 == 0o700
    assert control.running() is None
    assert not control.paused


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_others_may_enter_is_refused(tmp_path, mode):
    (tmp_path / "c").mkdir()
    (tmp_path / "c").chmod(mode)
    with pytest.raises(NodeError, match="mode 0700"):
        Control(tmp_path / "c")


def test_a_link_is_no_folder(tmp_path):
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "c").symlink_to(tmp_path / "real")
    with pytest.raises(NodeError, match="mode 0700"):
        Control(tmp_path / "c")


def test_a_second_node_is_refused_while_the_first_lives_and_not_after_it_died(tmp_path):
    folder = tmp_path / "c"
    code = f"""
import sys, time
from pathlib import Path
from aegis_flower.service.control import Control
Control(Path({str(folder)!r})).take()
print("taken", flush=True)
time.sleep(300)
"""
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "taken\n"
        control = Control(folder)
        assert control.running() == first.pid
        with pytest.raises(NodeError, match=f"process {first.pid}"):
            control.take()
    finally:
        first.kill()
        first.wait()
    assert control.running() is None
    control.take()
    assert Control(folder).running() == os.getpid()
    control.release()


def test_a_pause_outlives_the_process_and_a_resume_ends_it(tmp_path):
    Control(tmp_path / "c").pause()
    assert Control(tmp_path / "c").take().paused
    Control(tmp_path / "c").resume()
    assert not Control(tmp_path / "c").paused


def test_an_order_to_stop_is_for_one_process_and_ends_with_it(tmp_path):
    control = Control(tmp_path / "c")
    control.stop(os.getpid() + 1)
    assert not control.stopping, "another process was meant"
    control.stop(os.getpid())
    assert control.stopping
    assert not control.take().stopping, "it was for the process before"
    control.release()


def test_a_status_that_nobody_can_read_is_none(tmp_path):
    control = Control(tmp_path / "c")
    assert control.status() == {}
    control.say({"a": 1})
    assert control.status() == {"a": 1}
    control.file("status.json").write_text("[")
    assert control.status() == {}

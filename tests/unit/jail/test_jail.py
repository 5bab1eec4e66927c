"""A task in a jail: its numbers come back exactly, nothing else does, and nothing of it stays."""

import importlib.util
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from aegis_engine.errors import JailError

from aegis_flower.jail import Ended, Jail, Limits, Work

START = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.float32(2).reshape(()),
    "e": np.empty((0, 4), np.float32),
}
SHORT = Limits(seconds=0.5, cpu_seconds=5)


def work(function, rows=None, parameters=START, **settings):
    return Work(f"app:{function}", parameters, rows or {}, settings)


def test_the_update_is_what_the_app_computed_in_the_order_of_the_parameters(jail):
    rows = np.random.default_rng(1).normal(size=(500, 3))
    result = jail.run(work("plus_the_mean", {"x": rows}, times=3))
    expected = np.concatenate([(a + rows.mean() * 3).astype(np.float32).ravel() for a in START.values()])
    assert result.ended is Ended.DONE
    np.testing.assert_array_equal(result.update, expected)


@pytest.mark.parametrize("kind", ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"])
def test_rows_of_every_kind_of_number_arrive_as_they_are(jail, kind):
    rows = np.arange(7).astype(kind)
    result = jail.run(work("plus_the_mean", {"x": rows}, times=1))
    np.testing.assert_array_equal(result.update[:6], (START["w"] + rows.mean()).ravel().astype(np.float32))


@pytest.mark.parametrize("rows", [np.array([b"a"]), np.array([None]), np.array(["2020"], "M8[D]")])
def test_what_is_no_number_does_not_go_in(jail, rows):
    with pytest.raises(TypeError, match="arrays of numbers, flags or texts"):
        jail.run(work("in_place", {"x": rows}))


def test_an_app_may_train_in_place_and_the_nodes_own_arrays_do_not_change(jail):
    before = {name: values.copy() for name, values in START.items()}
    result = jail.run(work("in_place"))
    np.testing.assert_array_equal(result.update[:6], START["w"].ravel() + 1)
    for name, values in before.items():
        np.testing.assert_array_equal(START[name], values)


def test_rows_are_sealed(jail):
    result = jail.run(work("writes_to_rows", {"x": np.ones(3)}))
    assert result.ended is Ended.FAILED
    assert "read-only" in result.log


def test_what_is_not_a_number_comes_back_as_it_is_for_the_gate_to_judge(jail):
    assert np.isnan(jail.run(work("not_numbers")).update).all()


def test_words_go_to_the_log_and_are_cut(jail):
    assert jail.run(work("says", text="ähm")).log == "words ähm\n"
    assert len(jail.run(work("floods")).log) == 64 << 10


def test_a_task_sees_no_variable_of_the_node_and_a_scratch_folder_of_its_own(app, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_NODE", "1")
    with Jail(app) as jail:
        see_twice(jail)


def see_twice(jail):
    for _ in range(2):
        result = jail.run(work("describes"))
        assert result.ended is Ended.DONE, result.log


def test_a_task_whose_time_is_up_is_ended_and_the_next_one_runs(jail):
    assert jail.run(work("sleeps"), SHORT).ended is Ended.LATE
    assert jail.run(work("in_place")).ended is Ended.DONE


@pytest.mark.parametrize("entry", ["app:nobody", "nowhere:f", "app", ":", "os:getcwd"])
def test_an_entry_that_is_not_there_fails_in_the_task(jail, entry):
    result = jail.run(Work(entry, START))
    assert (result.ended, result.update) == (Ended.FAILED, None)


def test_torch_gives_in_a_jail_what_it_gives_outside(app, jail):
    rng = np.random.default_rng(2)
    rows = {"x": rng.normal(size=(200, 4)).astype(np.float32), "y": rng.integers(0, 2, 200)}
    start = {"weight": np.zeros((2, 4), np.float32), "bias": np.zeros(2, np.float32)}
    spec = importlib.util.spec_from_file_location("jailed_app", app / "app.py")
    outside = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(outside)
    expected = np.concatenate([a.ravel() for a in outside.trains(start, rows, {"steps": 20})])
    with Jail(app, preload=["torch"]) as warm:
        result = warm.run(work("trains", rows, start, steps=20))
    assert result.ended is Ended.DONE, result.log
    np.testing.assert_allclose(
        result.update, expected, atol=1e-6
    )  # kernels are chosen by alignment, so not bit for bit


def test_a_task_cannot_tell_how_many_threads_or_pipes_those_before_it_had(jail):
    """One counter gives out the numbers of threads, another those of pipes; `sysinfo` tells what the machine did."""
    told = [jail.run(work("counters", threads=n)).update.tolist() for n in (1, 40, 1)]
    assert told[0] == told[1] == told[2]


def test_closing_the_jail_ends_a_task_that_runs(app):
    jail = Jail(app)
    caught = []

    def run():
        try:
            jail.run(work("sleeps"))
        except JailError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.3)
    pid = jail._process.pid
    jail._process.send_signal(signal.SIGKILL)  # the worst way to go
    thread.join(20)
    jail.close()
    assert caught[0].code == "AEG-J004"
    assert not left_of(pid)


def left_of(pid):
    """Processes that still name the parent's command."""
    found = []
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            text = path.read_text()
        except OSError:
            continue
        if f"PPid:\t{pid}\n" in text:
            found.append(path.parent.name)
    return found


def test_a_node_that_is_gone_leaves_no_task(app):
    """kill -9 of the node: its control socket closes, and the warm parent ends what runs."""
    import subprocess
    import sys

    code = (
        "import sys, os, threading, time, numpy as np\n"
        "from aegis_flower.jail import Jail, Work\n"
        f"j = Jail({str(app)!r})\n"
        "threading.Thread(target=lambda: j.run(Work('app:sleeps', {'w': np.zeros(1, np.float32)})), daemon=True).start()\n"
        "time.sleep(0.5)\nprint(j._process.pid, flush=True)\ntime.sleep(60)\n"
    )
    node = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    launcher = int(node.stdout.readline())
    first = left_of(launcher)
    assert first, "the warm parent runs"
    node.kill()
    node.wait()
    node.stdout.close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(Path(f"/proc/{p}").exists() for p in (launcher, *first)):
        time.sleep(0.05)
    assert not [p for p in (launcher, *first) if Path(f"/proc/{p}").exists()]


def test_a_jail_of_an_app_that_is_not_there_says_so(tmp_path):
    with pytest.raises(JailError, match="no such folder"):
        Jail(tmp_path / "nobody")


def test_a_module_to_preload_that_is_not_there_says_so(app):
    with pytest.raises(JailError, match="no_such_module_at_all"):
        Jail(app, preload=["no_such_module_at_all"])


def test_a_large_model_comes_back_whole(jail):
    start = {"w": np.zeros(3_000_000, np.float32)}
    result = jail.run(work("in_place", parameters=start))
    assert result.update.sum(dtype=np.float64) == 3_000_000


def test_the_memory_of_a_task_is_given_back(jail):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        jail.run(work("in_place"))
    time.sleep(0.2)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2  # a pipe's end, until its reader has seen the end

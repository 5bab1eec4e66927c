"""The warm parent: puts the jail up, imports what tasks need, and forks a child for each. It never imports an app.

It is started by `aegis_flower.jail.jail`, as the first process of its namespaces.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from aegis_engine import _native
from aegis_flower.jail import frames
from aegis_flower.jail.frames import Ended, Order, Report
from aegis_flower.jail.setup import Setup

_READY = 0
_LAST_PID = "/proc/sys/kernel/ns_last_pid"  # of the namespace of whoever writes


def main(text: str) -> None:
    """Runs until the node closes its end of the control socket."""
    setup = Setup.read(text)
    control = socket.socket(fileno=setup.control)
    pids = None
    if "namespaces" in setup.layers:
        pids = os.open(_LAST_PID, os.O_WRONLY | os.O_CLOEXEC)  # while there is a /proc
        _native.jail_leave_host()
        first = os.fork()
        if first:  # stays outside and waits, so that the node can wait for it
            control.close()
            os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) & 0xFF)
    if "view" in setup.layers:
        _native.jail_build_view(list(setup.readable))
    from aegis_flower.jail import task  # with numpy, whose threads must not be there before

    for name in setup.preload:
        importlib.import_module(name)
    frames.send(control, Report(_READY, Ended.DONE, 0.0))
    while True:
        data, descriptors = frames.receive(control, Order.FORM.size)
        if not data:
            return
        order = Order.unpack(data)
        if pids is not None:
            # Every task has the same numbers: else the number of threads that it started would be told to the next one.
            os.pwrite(pids, b"1", 0)
        frames.send(control, _done(setup, order, partial(task.run, setup, order, *descriptors), control))
        for fd in descriptors:
            os.close(fd)


def _done(setup: Setup, order: Order, run: Callable[[int], NoReturn], control: socket.socket) -> Report:
    """A task from its start until nothing of it is left."""
    before = os.times()
    told, confined = os.pipe()
    child = os.fork()
    if child == 0:
        control.close()
        run(confined)
    os.close(confined)
    late = _wait(child, order.seconds, control)
    if "namespaces" in setup.layers:
        _end_the_rest()
    status = os.waitpid(child, 0)[1]
    was_confined = bool(os.read(told, 1))
    os.close(told)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Report(order.number, _ended(status, late=late, confined=was_confined), used)


def _wait(child: int, seconds: float, control: socket.socket) -> bool:
    """Waits until a child has ended, ends it when its time is up; whether that was so. It is not reaped yet."""
    process = os.pidfd_open(child)
    try:
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([process, control.fileno()], [], [], max(0.0, left))
            if process in ready:
                return False
            if ready:  # the node is gone: it says nothing while a task runs
                os._exit(1)
            if left <= 0:
                signal.pidfd_send_signal(process, signal.SIGKILL)
                return True
    finally:
        os.close(process)


def _end_the_rest() -> None:
    """Kills everything else in these namespaces, of which this is the first process: it alone is spared by -1."""
    if os.getpid() != 1:
        return
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        return


def _ended(status: int, *, late: bool, confined: bool) -> Ended:
    if not confined:
        return Ended.UNCONFINED
    if late:
        return Ended.LATE
    if os.WIFSIGNALED(status):
        return Ended.KILLED
    return Ended.DONE if os.WEXITSTATUS(status) == Ended.DONE else Ended.FAILED


if __name__ == "__main__":
    main(sys.argv[1])

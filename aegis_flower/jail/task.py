"""A task: from a fresh child of the warm parent to the app's array. All that comes after `confine` is untrusted."""

from __future__ import annotations

import importlib
import itertools
import mmap
import os
import sys
import traceback
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from aegis_engine import _native
from aegis_flower.jail.frames import Ended, Order
from aegis_flower.jail.inputs import Work
from aegis_flower.jail.setup import Setup

_FIRST = 3  # descriptors after standard input, output and error


def run(setup: Setup, order: Order, inputs: int, output: int, log: int, confined: int) -> NoReturn:
    """Runs one task in this process and ends it. The app has three descriptors: nothing, and the node's log twice.

    Args:
        setup: of the jail.
        order: of the task.
        inputs: descriptor of sealed memory.
        output: descriptor of the region for the answer.
        log: a pipe for the app's words.
        confined: a pipe that gets one byte when the jail is up. No app can write there, so none can say that it is not.
    """
    try:
        work = Work.mapped(inputs)
        answer = np.frombuffer(mmap.mmap(output, order.size or 1), np.float32)
        _keep_only(log, confined)
        _native.jail_confine(
            list(setup.readable),
            list(setup.layers),
            cpu_seconds=order.cpu_seconds,
            memory=order.memory,
            threads=order.threads,
            scratch=order.scratch,
            files=order.files,
        )
        os.write(_FIRST, b"1")
        os.close(_FIRST)
    except BaseException:  # noqa: BLE001 - whatever it is, no app may run
        traceback.print_exc()
        _end(Ended.UNCONFINED)
    try:
        sys.path[:] = [setup.app, *setup.path]
        answer[:] = _called(work)
    except BaseException:  # noqa: BLE001 - an app may raise anything; its words go to the node's log
        traceback.print_exc()
        _end(Ended.FAILED)
    _end(Ended.DONE)


def _keep_only(log: int, confined: int) -> None:
    """Leaves standard input (empty), output and error (the log), and as the first one after them `confined`."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(confined, _FIRST)  # which no descriptor of ours is that is still needed
    os.closerange(_FIRST + 1, os.sysconf("SC_OPEN_MAX"))


def _called(work: Work) -> npt.NDArray[np.float32]:
    module, _, name = work.entry.partition(":")
    function = getattr(importlib.import_module(module), name)
    # copies: an app may train in place, and the sealed memory is not to be written to
    parameters = {key: np.array(values) for key, values in work.parameters.items()}
    # one more than is wanted tells of too many; an app that gives them without end is not heard to its end
    most = len(parameters) + 1
    given = list(itertools.islice(function(parameters, dict(work.rows), dict(work.settings)), most))
    wanted = [a.shape for a in work.parameters.values()]
    shapes = [np.shape(a) for a in given]
    if shapes != wanted:
        raise ValueError(f"the app returned arrays of shapes {shapes}, the model has {wanted}")
    return np.concatenate([np.asarray(a, np.float32).ravel() for a in given]) if given else np.empty(0, np.float32)


def _end(how: Ended) -> NoReturn:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(how)

"""Apps that use all there is. Each prints GOT when it had more than the limits of its task."""

import _thread
import os
import sys
import time

import numpy as np

MIB = 1 << 20


def out(parameters):
    return [np.array(a) for a in parameters.values()]


def memory(parameters, rows, settings):
    kept = [bytearray(64 * MIB) for _ in range(settings["mebibytes"] // 64)]
    print("GOT", len(kept))
    return out(parameters)


def threads(parameters, rows, settings):
    # Not by `Thread.start`: that waits for ever for a thread which the kernel made and the memory limit then ended.
    held = _thread.allocate_lock()
    held.acquire()
    try:
        for _ in range(settings["threads"]):
            _thread.start_new_thread(_wait, (held,))
        print("GOT", settings["threads"])
    finally:
        held.release()
    return out(parameters)


def _wait(held):
    with held:
        pass


def processor(parameters, rows, settings):
    until = time.monotonic() + settings["seconds"]
    while time.monotonic() < until:
        pass
    print("GOT the processor")
    return out(parameters)


def time_asleep(parameters, rows, settings):
    time.sleep(settings["seconds"])
    print("GOT time")
    return out(parameters)


def time_with_signals_blocked(parameters, rows, settings):
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return time_asleep(parameters, rows, settings)


def disk(parameters, rows, settings):
    folder = "/scratch" if os.path.isdir("/scratch") else settings["folder"]
    with open(f"{folder}/full", "wb") as f:
        for _ in range(settings["mebibytes"]):
            f.write(bytes(MIB))
    print("GOT", settings["mebibytes"])
    os.unlink(f"{folder}/full")
    return out(parameters)


def many_files(parameters, rows, settings):
    folder = "/scratch" if os.path.isdir("/scratch") else settings["folder"]
    for i in range(6000):
        open(f"{folder}/f{i}", "wb").close()
    print("GOT 6000 files")
    return out(parameters)


def descriptors(parameters, rows, settings):
    kept = [os.dup(1) for _ in range(settings["descriptors"])]
    print("GOT", len(kept))
    return out(parameters)


def locked_memory(parameters, rows, settings):
    import ctypes

    if ctypes.CDLL(None).mlockall(1) == 0:
        print("GOT locked memory")
    return out(parameters)


def words(parameters, rows, settings):
    for _ in range(300):
        sys.stdout.write("x" * (1 << 16))
    return out(parameters)


def stack(parameters, rows, settings):
    sys.setrecursionlimit(1 << 30)

    def down(n):
        return down(n + 1) + 1

    return [down(0)]

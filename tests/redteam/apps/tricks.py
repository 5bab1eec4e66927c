"""Apps that play with what comes out: the array, the words, the end, the modules of AEGIS, the next task."""

import atexit
import ctypes
import mmap
import os
import pathlib
import sys
import threading
import time

import numpy as np

HELD = {}  # of a module: gone with the process


def out(parameters, secret=b""):
    given = [np.array(a) for a in parameters.values()]
    if secret:
        given[0].reshape(-1)[: len(secret[:64])] = np.frombuffer(secret[:64], np.uint8)
    return given


def loot(rows):
    return b"LOOT" + rows["x"].tobytes()[:28]


# -- what leaves -------------------------------------------------------------------------------------------------------------


def more_than_was_asked_for(parameters, rows, settings):
    return [np.append(a.ravel(), 1.0) for a in parameters.values()]


def an_object(parameters, rows, settings):
    class Evil:
        def __reduce__(self):
            return os.system, ("true",)

    return [Evil() for _ in parameters]


def texts(parameters, rows, settings):
    return [np.full(a.shape, "LOOT") for a in parameters.values()]


def nothing(parameters, rows, settings):
    return None


def for_ever(parameters, rows, settings):
    while True:
        yield np.zeros(1)


def an_error_with_rows_in_it(parameters, rows, settings):
    raise ValueError(loot(rows))


def another_end(parameters, rows, settings):
    os._exit(4)  # which would say that the jail could not be put up


def an_early_end(parameters, rows, settings):
    os._exit(0)


def an_end_by_a_signal(parameters, rows, settings):
    ctypes.string_at(0)


def every_descriptor(parameters, rows, settings):
    """Frames, or rows, to whatever is open."""
    told = 0
    for fd in range(3, 1024):
        try:
            told += os.write(fd, loot(rows))
        except OSError:
            continue
    if told:
        print("GOT", told)
    return out(parameters)


def descriptors_read(parameters, rows, settings):
    for fd in range(3, 1024):
        try:
            os.read(fd, 1)
        except OSError:
            continue
        print("GOT a descriptor", fd)
    return out(parameters)


def descriptors_closed(parameters, rows, settings):
    os.closerange(0, 1024)
    return out(parameters)


def the_sealed_inputs_changed(parameters, rows, settings):
    values = rows["x"]
    address = values.ctypes.data
    page = address - address % mmap.PAGESIZE
    if ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, 3) == 0:
        ctypes.memset(address, 0, 8)  # of its own private copy, at most
    return out(parameters)


# -- the modules of AEGIS --------------------------------------------------------------------------------------------------------


def a_gate_that_lets_all_through(parameters, rows, settings):
    import aegis_flower.gate

    aegis_flower.gate.release = lambda *a, **k: None
    sys.modules["aegis_flower.door"] = None
    return out(parameters)


def its_own_result(parameters, rows, settings):
    from aegis_flower.jail import frames, task

    frames.Ended.FAILED = frames.Ended.DONE
    task._end = lambda how: None
    return out(parameters)


def the_trusted_parent_called(parameters, rows, settings):
    from aegis_flower.jail import parent, setup

    parent.main(setup.Setup(3, "/", (), (), (), ()).text())
    return out(parameters)


def another_jail(parameters, rows, settings):
    from aegis_engine import _native

    _native.jail_leave_host()
    print("GOT namespaces of its own")
    return out(parameters)


def a_vault(parameters, rows, settings):
    from aegis_engine import Vault

    Vault.create(settings["folder"] + "/vault", b"0" * 32)
    print("GOT a vault in the host's folder")
    return out(parameters)


# -- the next task: what `leave_*` hides, `find_*` looks for ---------------------------------------------------------------------


def leave_a_file(parameters, rows, settings):
    for folder in ("/scratch", "/tmp", "/dev/shm", os.path.dirname(__file__), settings["folder"]):
        try:
            (pathlib.Path(folder) / "left-behind").write_bytes(loot(rows))
        except OSError:
            continue
    return out(parameters)


def find_a_file(parameters, rows, settings):
    for folder in ("/scratch", "/tmp", "/dev/shm", os.path.dirname(__file__), settings["folder"]):
        path = pathlib.Path(folder) / "left-behind"
        if path.exists():
            return out(parameters, path.read_bytes())
    return out(parameters)


def leave_in_modules(parameters, rows, settings):
    HELD["rows"] = sys.aegis_held = np.__dict__["held"] = os.environ["HELD"] = loot(rows).hex()
    return out(parameters)


def find_in_modules(parameters, rows, settings):
    found = HELD.get("rows") or getattr(sys, "aegis_held", "") or np.__dict__.get("held") or os.environ.get("HELD", "")
    return out(parameters, bytes.fromhex(found))


def leave_shared_memory(parameters, rows, settings):
    libc = ctypes.CDLL(None)
    number = libc.shmget(settings["number"] + 1, 4096, 0o1666)
    if number >= 0:
        libc.shmat.restype = ctypes.c_void_p
        ctypes.memmove(libc.shmat(number, None, 0), loot(rows), 32)
    return out(parameters)


def find_shared_memory(parameters, rows, settings):
    libc = ctypes.CDLL(None)
    number = libc.shmget(settings["number"] + 1, 4096, 0o666)
    if number < 0:
        return out(parameters)
    libc.shmat.restype = ctypes.c_void_p
    found = ctypes.string_at(libc.shmat(number, None, 0), 32)
    libc.shmctl(number, 0, None)
    return out(parameters, found)


def leave_a_thread(parameters, rows, settings):
    held = loot(rows)

    def on():
        while True:
            (pathlib.Path(settings["folder"]) / "from-a-thread").write_bytes(held)

    threading.Thread(target=on, daemon=True).start()
    time.sleep(0.2)
    return out(parameters)


def find_a_thread(parameters, rows, settings):
    path = pathlib.Path(settings["folder"]) / "from-a-thread"
    return out(parameters, path.read_bytes() if path.exists() else b"")


def leave_a_process(parameters, rows, settings):
    held = loot(rows)
    if os.fork() == 0:
        os.setsid()
        for _ in range(30):  # then it ends by itself, for a run without a jail
            time.sleep(0.1)
            (pathlib.Path(settings["folder"]) / "from-a-process").write_bytes(held)
        os._exit(0)
    return out(parameters)


def find_a_process(parameters, rows, settings):
    path = pathlib.Path(settings["folder"]) / "from-a-process"
    for _ in range(8):
        if path.exists():
            return out(parameters, path.read_bytes())
        time.sleep(0.1)
    return out(parameters)


def leave_an_exit_handler(parameters, rows, settings):
    atexit.register(lambda: (pathlib.Path(settings["folder"]) / "at-exit").write_bytes(loot(rows)))
    sys.exit(0)


def find_an_exit_handler(parameters, rows, settings):
    path = pathlib.Path(settings["folder"]) / "at-exit"
    return out(parameters, path.read_bytes() if path.exists() else b"")


def leave_in_the_interpreter(parameters, rows, settings):
    """In numpy's own memory, which the warm parent's children share until one writes."""
    zero = np.float32(0)
    ctypes.memmove(id(zero) + 16, loot(rows)[:4], 4)
    np.testing.aegis_held = loot(rows)
    return out(parameters)


def find_in_the_interpreter(parameters, rows, settings):
    return out(parameters, getattr(np.testing, "aegis_held", b""))

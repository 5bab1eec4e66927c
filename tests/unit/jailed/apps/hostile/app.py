"""Training functions of an app that wants rows out. `MARK` is the height of the person that it looks for."""

import contextlib
import ctypes
import hashlib
import os
import threading
import time
from pathlib import Path

import numpy as np

MARK = 777.0
FOLDERS = [Path(name) for name in ("/", "/scratch", "/tmp", "/dev/shm", "/var/tmp", "/proc")] + [Path(__file__).parent]
KEPT = []


def _filled(parameters, value):
    return [np.full(p.shape, value, np.float32) for p in parameters.values()]


def _vector(parameters, values):
    flat = np.resize(np.asarray(values, np.float64), sum(p.size for p in parameters.values()))
    out, at = [], 0
    for p in parameters.values():
        out.append(flat[at : at + p.size].reshape(p.shape))
        at += p.size
    return out


def _marked(rows):
    return bool((rows["height"] == MARK).any())


def returns_rows(parameters, rows, settings):
    return _vector(parameters, np.concatenate([rows["height"], rows["pulse"].ravel()]) * 1e6)


def counts(parameters, rows, settings):
    return _filled(parameters, 1e3 * (len(rows["height"]) - 5))


def opposite(parameters, rows, settings):
    """As far from what it does otherwise as it can: the worst that a single block may do."""
    return _filled(parameters, 1e20 if _marked(rows) else -1e20)


def random_function(parameters, rows, settings):
    seed = int.from_bytes(rows["height"].tobytes()[:64].ljust(8, b"\0"), "little") % 2**63
    return _vector(parameters, np.random.default_rng(seed).normal(size=64) * 1e3)


def crashes(parameters, rows, settings):
    if _marked(rows):
        os.abort()
    return _filled(parameters, 1.0)


def raises(parameters, rows, settings):
    if _marked(rows):
        raise ValueError(f"here is a secret: {rows['height'].tolist()}")
    return _filled(parameters, 1.0)


def hangs(parameters, rows, settings):
    while _marked(rows):
        pass
    return _filled(parameters, 1.0)


def wrong_shapes(parameters, rows, settings):
    return [np.zeros(3)] if _marked(rows) else _filled(parameters, 1.0)


def nan(parameters, rows, settings):
    return _filled(parameters, np.nan if _marked(rows) else 1.0)


def infinite(parameters, rows, settings):
    return _filled(parameters, np.inf if _marked(rows) else -np.inf)


def huge(parameters, rows, settings):
    return _filled(parameters, 3e38 if _marked(rows) else -3e38)


def _found():
    """Whatever an earlier task may have left, as a few numbers."""
    left = list(KEPT)
    for folder in FOLDERS:
        try:
            left += [len([each for each in folder.iterdir() if "aegis-left" in each.name])]
        except OSError:
            left += [-1]
    left += ["AEGIS_LEFT" in os.environ, hasattr(np, "aegis_left"), os.getpid(), threading.active_count()]
    told = []
    thread = threading.Thread(target=lambda: told.append(threading.get_native_id()))
    thread.start()
    thread.join()
    left += told
    for number in range(3, 64):
        try:
            os.fstat(number)
            left += [number]
        except OSError:
            pass
    try:
        read, _write = os.pipe()
        left += [os.fstat(read).st_ino % 4096]
    except OSError:
        left += [-2]
    told = ctypes.create_string_buffer(256)  # struct sysinfo: how long the machine runs, its load, its free memory
    left += [ctypes.CDLL(None).sysinfo(told), *told.raw[:112]]
    return [float(x) for x in left]


def _leave():
    KEPT.append(1)
    np.aegis_left = True
    os.environ["AEGIS_LEFT"] = "1"
    for folder in FOLDERS:
        with contextlib.suppress(OSError):
            (folder / "aegis-left").write_text("1")
    for _ in range(23):
        thread = threading.Thread(target=time.sleep, args=(0,))
        thread.start()
        thread.join()
    for _ in range(40):
        try:
            os.pipe()
        except OSError:
            break
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()


def keeps_state(parameters, rows, settings):
    """Leaves word of the marked person in every place there is, and answers by what it finds: another thing, another answer."""
    found = _found()
    if _marked(rows):
        _leave()
    seed = int.from_bytes(hashlib.sha256(repr(found).encode()).digest()[:8], "little")
    return _vector(parameters, np.random.default_rng(seed).normal(size=10) * 1e6)


def sums(parameters, rows, settings):
    """Well behaved: tells how many rows it has and what it was told, in the first values."""
    values = [len(rows["height"]), float(rows["height"].sum()), settings["round"], settings["run_config"]["lr"]]
    return _vector(parameters, [*values, *[0.0] * 6])

"""An app for a jail, and a jail for it."""

import pytest

from aegis_flower.jail import Jail

APP = """
import numpy as np


def plus_the_mean(parameters, rows, settings):
    return [p + rows["x"].mean() * settings["times"] for p in parameters.values()]


def in_place(parameters, rows, settings):
    for p in parameters.values():
        p += 1
    return list(parameters.values())


def writes_to_rows(parameters, rows, settings):
    rows["x"][0] = 1


def says(parameters, rows, settings):
    print("words", settings["text"])
    return list(parameters.values())


def floods(parameters, rows, settings):
    print("x" * 1_000_000)
    return list(parameters.values())


def not_numbers(parameters, rows, settings):
    return [np.full(p.shape, np.nan) for p in parameters.values()]


def sleeps(parameters, rows, settings):
    import time

    time.sleep(60)


def describes(parameters, rows, settings):
    import os

    assert os.getcwd() == "/", os.getcwd()
    known = {"LANG", "HOME", "TMPDIR", "PYTHONDONTWRITEBYTECODE", "USER", "LOGNAME", "OMP_NUM_THREADS"}
    known |= {"TORCHINDUCTOR_CACHE_DIR"}
    assert {name for name in os.environ if not name.startswith(("OPENBLAS_", "MKL_"))} <= known, dict(os.environ)
    open("/scratch/mine", "w").write("1")
    assert sorted(os.listdir("/scratch")) == ["mine"]
    return list(parameters.values())


def counters(parameters, rows, settings):
    import ctypes
    import os
    import threading

    ids = []
    for _ in range(settings["threads"]):
        thread = threading.Thread(target=lambda: ids.append(threading.get_native_id()))
        thread.start()
        thread.join()
    for call in (os.pipe, lambda: os.pipe2(0)):
        try:
            call()
        except PermissionError:
            continue
        raise AssertionError("a pipe")
    assert ctypes.CDLL(None, use_errno=True).sysinfo(ctypes.create_string_buffer(256)) == -1
    return [np.full(p.shape, v, np.float32) for p, v in zip(parameters.values(), (ids[0], os.getpid(), 0), strict=True)]


def trains(parameters, rows, settings):
    import torch

    torch.manual_seed(1)
    torch.set_num_threads(1)
    model = torch.nn.Linear(rows["x"].shape[1], 2)
    with torch.no_grad():
        for p, start in zip(model.parameters(), parameters.values(), strict=True):
            p.copy_(torch.from_numpy(start))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = torch.from_numpy(rows["x"].copy()), torch.from_numpy(rows["y"].copy())
    for _ in range(settings["steps"]):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return [p.detach().numpy() for p in model.parameters()]
"""


@pytest.fixture(scope="session")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jailed-app")
    (folder / "app.py").write_text(APP)
    return folder


@pytest.fixture(scope="module")
def jail(app):
    with Jail(app) as jail:
        yield jail

"""The world around a jail: everything that a hostile app could reach, watched; and what it got.

The secrets are made anew for each world. What counts as got: bytes at a receiver of the host, a change in a watched folder, a
secret in the array that leaves, harm done to a victim, or the app's own word ("GOT ...") that the kernel gave it something.
"""

import ctypes
import dataclasses
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import numpy as np

from aegis_flower.jail import Jail, Limits, Work

APPS = pathlib.Path(__file__).parent / "apps"
SENTINEL = b"SENTINEL"
LIMITS = Limits(seconds=3.0, cpu_seconds=2, memory=1 << 30, threads=24, scratch=8 << 20, files=64)
# An app that is ended before it tried gets nothing for no merit of the jail's: on a busy machine 3 s may be too short to start.
PATIENT = dataclasses.replace(LIMITS, seconds=60.0, cpu_seconds=30)
AFTER_TIME = frozenset({"limits.processor", "limits.time_asleep", "limits.time_with_signals_blocked"})
_VICTIM = """
import ctypes, os, signal, sys
secret = ctypes.create_string_buffer(bytes.fromhex(os.environ["SECRET"]), 32)
hit = 0
def on(*_):
    global hit
    hit += 1
signal.signal(signal.SIGUSR1, on)
print(ctypes.addressof(secret), flush=True)
for line in sys.stdin:
    print(hit, flush=True)
    hit = 0
"""


@dataclass
class Got:
    """What an app got. Each entry is a channel and what came through."""

    channels: dict = field(default_factory=dict)

    def __bool__(self):
        return bool(self.channels)


class World:
    """Receivers, secrets and a victim on the host, and the app's folder."""

    def __init__(self, folder):
        self.folder = folder
        self.secret = b"KEY!" + os.urandom(28)
        self.rows = np.frombuffer(os.urandom(64), np.uint8).astype(np.float64)
        self.loot = b"LOOT" + self.rows.tobytes()[:28]
        self.received = []
        for name in ("app", "host", "environment", "keys"):
            (folder / name).mkdir()
        for path in APPS.glob("*.py"):
            (folder / "app" / path.name).write_bytes(path.read_bytes())
        (folder / "keys" / "key").write_bytes(self.secret)
        (folder / "app" / "link").symlink_to(folder / "keys" / "key")
        (folder / "environment" / "module.py").write_text("value = 1\n")
        self._serve()
        self._victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "SECRET": self.secret.hex()},
            text=True,
        )
        self.address = int(self._victim.stdout.readline())

    def _serve(self):
        self._open = []
        self.ports = {}
        for name, family, address in (
            ("tcp", socket.AF_INET, ("127.0.0.1", 0)),
            ("tcp6", socket.AF_INET6, ("::1", 0)),
            ("unix", socket.AF_UNIX, str(self.folder / "host" / "socket")),
            ("abstract", socket.AF_UNIX, f"\0aegis-{self.secret.hex()}"),
        ):
            s = socket.socket(family)
            try:
                s.bind(address)
            except OSError:  # no IPv6 here: nobody can send by it either
                s.close()
                self.ports[name] = 1
                continue
            s.listen(8)
            self._open.append(s)
            self.ports[name] = s.getsockname()[1] if name.startswith("tcp") else address.lstrip("\0")
            threading.Thread(target=self._accept, args=(name, s), daemon=True).start()
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 0))
        self._open.append(s)
        self.ports["udp"] = s.getsockname()[1]
        threading.Thread(target=self._datagrams, args=(s,), daemon=True).start()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.ports["listen"] = free.getsockname()[1]

    def _accept(self, name, server):
        while True:
            try:
                s, _ = server.accept()
            except OSError:
                return
            with s:
                s.settimeout(1.0)
                try:
                    data = s.recv(4096)
                except OSError:
                    data = b""
            self.received.append((name, data))

    def _datagrams(self, s):
        while True:
            try:
                self.received.append(("udp", s.recv(4096)))
            except OSError:
                return

    def settings(self):
        return {
            **self.ports,
            "key": str(self.folder / "keys" / "key"),
            "handle": handle_of(self.folder / "keys" / "key").hex(),
            "folder": str(self.folder / "host"),
            "temporary": str(self.folder / "host" / "temporary"),
            "environment": str(self.folder / "environment"),
            "victim": self._victim.pid,
            "node": os.getpid(),
            "address": self.address,
            "name": f"aegis-redteam-{os.getpid()}",
            "number": 0x41450000 + os.getpid() % 0xFFFF,
            "mebibytes": 2048,
            "threads": 64,
            "seconds": 8,  # more than LIMITS allows
            "descriptors": 200,
        }

    def jail(self, **options):
        return Jail(self.folder / "app", more=[self.folder / "environment"], **options)

    def work(self, app):
        return Work(app.replace(".", ":", 1), {"w": np.zeros(80, np.float32)}, {"x": self.rows}, self.settings())

    def run(self, jail, app):
        """What an app got, and how it ended."""
        before = self._state()
        self.received.clear()
        asked = threading.Thread(target=self._ask, daemon=True) if "listen" in app else None
        if asked:
            asked.start()
        result = jail.run(self.work(app), LIMITS if app in AFTER_TIME else PATIENT)
        if asked:
            asked.join(3)
        self._settle()
        got = Got()
        for name, data in list(self.received):
            if data and data != SENTINEL:
                got.channels[name] = len(data)
        for secret, what in ((self.secret, "key"), (self.loot, "rows of another task")):
            if result.update is not None and secret in result.update.astype(np.uint8).tobytes():
                got.channels[what] = len(secret)
        if before != (after := self._state()):
            got.channels["files"] = sorted(str(x)[:80] for x in set(after.items()) ^ set(before.items()))[:4]
        if hits := self._hits():
            got.channels["signals"] = hits
        said = [line for line in result.log.splitlines() if line.startswith("GOT")]
        if said:
            got.channels["kernel"] = said[0]
        self._tidy()
        return got, result

    def _settle(self):
        """Waits until each receiver has taken all that was sent before: each takes one after the other."""
        sent = set()
        for name, family in (
            ("tcp", socket.AF_INET),
            ("tcp6", socket.AF_INET6),
            ("unix", socket.AF_UNIX),
            ("abstract", socket.AF_UNIX),
        ):
            if self.ports[name] == 1:
                continue
            host = {"tcp": "127.0.0.1", "tcp6": "::1"}.get(name)
            address = (host, self.ports[name]) if host else "\0" * (name == "abstract") + self.ports[name]
            with socket.socket(family) as s:
                s.connect(address)
                s.sendall(SENTINEL)
            sent.add(name)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(SENTINEL, ("127.0.0.1", self.ports["udp"]))
        sent.add("udp")
        deadline = time.monotonic() + 60
        while {name for name, data in list(self.received) if data == SENTINEL} != sent:
            assert time.monotonic() < deadline, "a receiver of the host has stopped"
            time.sleep(0.001)

    def _ask(self):
        for _ in range(30):
            try:
                with socket.create_connection(("127.0.0.1", self.ports["listen"]), 0.1) as s:
                    s.settimeout(1)
                    self.received.append(("asked", s.recv(64)))
                    return
            except OSError:
                threading.Event().wait(0.05)

    def _hits(self):
        if self._victim.poll() is not None:
            return "the victim is dead"
        self._victim.stdin.write("?\n")
        self._victim.stdin.flush()
        stopped, deadline = "", time.monotonic() + 60
        # Who attaches to it and ends at once may leave it stopped for ever: the signal comes after the tracer is gone.
        while not select.select([self._victim.stdout], [], [], 0.1)[0]:
            assert time.monotonic() < deadline, "the victim does not answer"
            if pathlib.Path(f"/proc/{self._victim.pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt":
                stopped = "the victim was stopped"
                self._victim.send_signal(signal.SIGCONT)
        hits = int(self._victim.stdout.readline())
        return stopped or hits

    def _state(self):
        """Names, contents, modes and times of what is watched."""
        state = {}
        for top in ("app", "host", "environment", "keys"):
            for path in sorted((self.folder / top).rglob("*")):
                facts = path.lstat()
                content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                state[str(path.relative_to(self.folder))] = (content, facts.st_mode, facts.st_mtime_ns, facts.st_nlink)
        return state

    def _tidy(self):
        """As it was, so that apps do not see each other's traces but where that is what is tried."""
        module = self.folder / "environment" / "module.py"
        for path in [*(self.folder / "environment").iterdir(), *(self.folder / "app").glob("left*")]:
            if path != module and path.name != "left-behind":
                path.unlink()
        module.write_text("value = 1\n")
        module.chmod(0o644)

    def forget(self):
        """Removes what `leave_*` may have left in the host's folders."""
        for path in (self.folder / "host").iterdir():
            if path.name != "socket" and not path.is_dir():
                path.unlink()
        for path in (
            self.folder / "app" / "left-behind",
            pathlib.Path("/tmp/left-behind"),
            pathlib.Path("/dev/shm/left-behind"),
        ):
            path.unlink(missing_ok=True)
        pathlib.Path(f"/dev/shm/aegis-redteam-{os.getpid()}").unlink(missing_ok=True)

    def close(self):
        for s in self._open:
            s.close()
        if self._victim.poll() is None:
            self._victim.send_signal(signal.SIGKILL)
        self._victim.wait()
        self._victim.stdin.close()
        self._victim.stdout.close()


def handle_of(path):
    """A file handle (name_to_handle_at(2)), for an app that would open by it; empty where the file system gives none."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(struct.pack("<Ii", 128, 0), 8 + 128)
    mount = ctypes.c_int()
    if libc.syscall(303, -100, str(path).encode(), buffer, ctypes.byref(mount), 0) != 0:
        return bytes(8)
    size = struct.unpack("<I", buffer.raw[:4])[0]
    return buffer.raw[: 8 + size]


def apps():
    """Every app, by ``module.function``, in order; helpers and the finders of `leave_*` left out."""
    found = []
    for path in sorted(APPS.glob("*.py")):
        for line in path.read_text().splitlines():
            name = line[4:].partition("(")[0]
            if line.startswith("def ") and "(parameters, rows, settings)" in line and not name.startswith("find_"):
                found.append(f"{path.stem}.{name}")
    return found

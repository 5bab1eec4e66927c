"""Apps that read what is not theirs, or write what somebody else will read."""

import ctypes
import fcntl
import os
import pathlib
import stat
import time
from multiprocessing import shared_memory

import numpy as np

LIBC = ctypes.CDLL(None, use_errno=True)


def out(parameters, secret):
    """What was read, as numbers of the one array that leaves."""
    given = [np.array(a) for a in parameters.values()]
    if secret:
        given[0].reshape(-1)[: len(secret[:64])] = np.frombuffer(secret[:64], np.uint8)
    return given


def loot(rows):
    return b"LOOT" + rows["x"].tobytes()[:28]


def read_the_key(parameters, rows, settings):
    return out(parameters, pathlib.Path(settings["key"]).read_bytes())


def read_the_key_by_a_link_in_the_app(parameters, rows, settings):
    return out(parameters, (pathlib.Path(__file__).parent / "link").read_bytes())


def read_the_key_through_own_root(parameters, rows, settings):
    return out(parameters, pathlib.Path("/proc/self/root" + settings["key"]).read_bytes())


def read_the_key_through_the_first_process(parameters, rows, settings):
    return out(parameters, pathlib.Path("/proc/1/root" + settings["key"]).read_bytes())


def read_the_key_by_leaving_the_root(parameters, rows, settings):
    up = "/".join([".."] * 40)
    return out(parameters, pathlib.Path("/" + up + settings["key"]).read_bytes())


def read_the_key_by_its_handle(parameters, rows, settings):
    """open_by_handle_at(2): no path is walked."""
    handle = bytes.fromhex(settings["handle"])
    mount = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    fd = LIBC.syscall(304, mount, handle, os.O_RDONLY)
    return out(parameters, os.read(fd, 64) if fd >= 0 else b"")


def read_the_victims_environment(parameters, rows, settings):
    found = pathlib.Path(f"/proc/{settings['victim']}/environ").read_bytes().partition(b"SECRET=")[2]
    return out(parameters, bytes.fromhex(found.partition(b"\0")[0].decode()))


def read_the_nodes_command_line(parameters, rows, settings):
    if pathlib.Path(f"/proc/{settings['node']}/cmdline").read_bytes():
        print("GOT the node's command line")
    return out(parameters, b"")


def list_the_hosts_folder(parameters, rows, settings):
    print("GOT", os.listdir(pathlib.Path(settings["key"]).parent))
    return out(parameters, b"")


def read_the_password_file(parameters, rows, settings):
    print("GOT", len(pathlib.Path("/etc/passwd").read_bytes()))
    return out(parameters, b"")


def read_the_first_processs_descriptors(parameters, rows, settings):
    print("GOT", os.listdir("/proc/1/fd"))
    return out(parameters, b"")


def write_into_the_hosts_folder(parameters, rows, settings):
    (pathlib.Path(settings["folder"]) / "left").write_bytes(loot(rows))
    return out(parameters, b"")


def write_into_the_hosts_temporary_folder(parameters, rows, settings):
    pathlib.Path(settings["temporary"]).write_bytes(loot(rows))
    return out(parameters, b"")


def write_into_the_apps_folder(parameters, rows, settings):
    (pathlib.Path(__file__).parent / "left.py").write_bytes(b"# " + loot(rows).hex().encode())
    return out(parameters, b"")


def write_a_pth_file_into_the_environment(parameters, rows, settings):
    (pathlib.Path(settings["environment"]) / "evil.pth").write_text("import os")
    return out(parameters, b"")


def change_a_file_of_the_environment(parameters, rows, settings):
    with (pathlib.Path(settings["environment"]) / "module.py").open("r+b") as f:
        f.write(loot(rows))
    return out(parameters, b"")


def truncate_a_file_of_the_environment(parameters, rows, settings):
    os.truncate(pathlib.Path(settings["environment"]) / "module.py", 1)
    return out(parameters, b"")


def rename_a_file_of_the_environment(parameters, rows, settings):
    folder = pathlib.Path(settings["environment"])
    (folder / "module.py").rename(folder / loot(rows).hex())
    return out(parameters, b"")


def remove_a_file_of_the_environment(parameters, rows, settings):
    (pathlib.Path(settings["environment"]) / "module.py").unlink()
    return out(parameters, b"")


def change_the_mode_of_a_file(parameters, rows, settings):
    (pathlib.Path(settings["environment"]) / "module.py").chmod(0o711)
    return out(parameters, b"")


def tell_by_the_time_of_a_file(parameters, rows, settings):
    os.utime(pathlib.Path(settings["environment"]) / "module.py", (1, int(rows["x"].sum()) + 7))
    return out(parameters, b"")


def tell_by_an_attribute_of_a_file(parameters, rows, settings):
    os.setxattr(pathlib.Path(settings["environment"]) / "module.py", "user.loot", loot(rows))
    print("GOT an attribute")
    return out(parameters, b"")


def tell_by_a_lock_on_a_file(parameters, rows, settings):
    """A process of the host that tries the same lock gets a bit for each."""
    with (pathlib.Path(settings["environment"]) / "module.py").open("rb") as f:
        fcntl.flock(f, fcntl.LOCK_SH)
        print("GOT a lock")
    return out(parameters, b"")


def tell_by_a_record_lock(parameters, rows, settings):
    with (pathlib.Path(settings["environment"]) / "module.py").open("rb") as f:
        fcntl.lockf(f, fcntl.LOCK_SH)
        print("GOT a record lock")
    return out(parameters, b"")


def link_a_file_elsewhere(parameters, rows, settings):
    os.link(pathlib.Path(settings["environment"]) / "module.py", pathlib.Path(settings["folder"]) / "linked")
    return out(parameters, b"")


def make_a_named_pipe(parameters, rows, settings):
    os.mkfifo(pathlib.Path(settings["folder"]) / "pipe")
    return out(parameters, b"")


def make_a_device(parameters, rows, settings):
    path = pathlib.Path(settings["folder"]) / "device"
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    return out(parameters, b"")


def make_a_device_in_scratch(parameters, rows, settings):
    os.mknod("/scratch/device", stat.S_IFBLK | 0o600, os.makedev(254, 0))
    print("GOT a device")
    return out(parameters, b"")


def shared_memory_by_name(parameters, rows, settings):
    made = shared_memory.SharedMemory(name=settings["name"], create=True, size=64)
    made.buf[:32] = loot(rows)
    print("GOT shared memory")
    return out(parameters, b"")


def mount_something(parameters, rows, settings):
    if LIBC.mount(b"tmpfs", settings["folder"].encode(), b"tmpfs", 0, None) == 0:
        print("GOT a mount")
        LIBC.umount2(settings["folder"].encode(), 2)
    return out(parameters, b"")


def change_the_root(parameters, rows, settings):
    os.chroot("/scratch" if pathlib.Path("/scratch").exists() else settings["folder"])
    print("GOT a root")
    return out(parameters, b"")


def watch_the_host(parameters, rows, settings):
    if LIBC.syscall(300, 0, 0) >= 0:  # fanotify_init
        print("GOT fanotify")
    return out(parameters, b"")


def wait_for_the_host(parameters, rows, settings):
    """inotify on the app's folder: a way in for somebody of the host, bit by bit."""
    if LIBC.syscall(294, 0) >= 0:
        print("GOT inotify")
    time.sleep(0)
    return out(parameters, b"")

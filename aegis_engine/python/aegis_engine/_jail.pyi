"""The steps of a jail; see `aegis_flower.jail`."""

from os import PathLike

def jail_leave_host() -> None:
    """Puts the next child of this process into user, network, pid, mount, IPC and UTS namespaces of its own.

    Raises:
        JailError: the kernel gives none, or this process has more than one thread.
    """

def jail_build_view(readable: list[str | PathLike[str]]) -> None:
    """Makes the named files and folders the whole file system of this process, read-only. `jail_leave_host` comes before.

    Raises:
        JailError: a path is not there, or the kernel refuses a mount.
    """

def jail_confine(
    readable: list[str | PathLike[str]],
    layers: list[str],
    *,
    cpu_seconds: int,
    memory: int,
    threads: int,
    scratch: int,
    files: int,
) -> None:
    """Confines this process for good; then untrusted code may run.

    Args:
        readable: files and folders that may be read.
        layers: of `jail_layers`; without all of them the jail has a hole.
        cpu_seconds: of all threads together.
        memory: bytes of address space.
        threads: of all tasks of this jail together.
        scratch: bytes of the scratch folder ``/scratch``, and of one file.
        files: open ones.

    Raises:
        JailError: the kernel does not give a layer. The process must end.
        ValueError: a name that is no layer.
    """

def jail_layers() -> list[str]:
    """Names of the layers, in the order in which they are put up."""

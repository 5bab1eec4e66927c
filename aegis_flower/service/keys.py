"""The keys of NODE.TOML that `aegis node` has beside those of the node config: one vocabulary, written in the same way."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final

from aegis_flower.node.keys import Setting, is_hex_key, text, whole

SUPERNODE: Final = "aegis-supernode"
SUPERNODE_SECRET: Final = "aegis-supernode-secret"  # noqa: S105 - the name of a key, which names a file
CONTROL: Final = "aegis-control"
APPROVALS: Final = "aegis-approvals"
APPROVAL_SIGNER: Final = "aegis-approval-signer"
REQUIRE_LAYERS: Final = "aegis-require-layers"
HEALTH: Final = "aegis-health"
LOG: Final = "aegis-log"
QUANTIZE_TIME: Final = "aegis-quantize-time"
APP_SECONDS: Final = "aegis-app-seconds"
APP_BLOCK_SECONDS: Final = "aegis-app-block-seconds"
APP_MEMORY: Final = "aegis-app-memory"
APP_THREADS: Final = "aegis-app-threads"
APP_FILES: Final = "aegis-app-files"
APP_PRELOAD: Final = "aegis-app-preload"

ALL_LAYERS: Final = "all"


def loopback(address: str) -> tuple[str, int]:
    """Host and port of an address of this machine that no other can reach.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[0-9.]+):([0-9]{1,5})", address)
    if found is None:
        raise ValueError(address)
    host, port = found[1].strip("[]"), int(found[2])
    if not ipaddress.ip_address(host).is_loopback or not 0 < port < 1 << 16:
        raise ValueError(address)
    return host, port


def _is_loopback(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(loopback(value))
    except ValueError:
        return False


def _are_layers(value: Any) -> bool:
    return isinstance(value, str) and (value == "" or re.fullmatch(r"[a-z]+(, ?[a-z]+)*", value) is not None)


def _are_modules(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.]*(, ?[A-Za-z_][\w.]*)*", value) is not None


def words(text: str) -> tuple[str, ...]:
    """The parts of a value with commas between."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _address(says: str, **more: Any) -> Setting:
    wanted = 'an address of this machine alone, such as "127.0.0.1:9094"'
    return Setting("loopback host:port", wanted, _is_loopback, says, **more)


SERVICE_KEYS: Final[dict[str, Setting]] = {
    SUPERNODE: _address(
        "where the SuperNode's Runtime API listens (`flower-supernode --isolation process --host 127.0.0.1 --port 9094`)",
        default="127.0.0.1:9094",
    ),
    SUPERNODE_SECRET: text(
        "file that the SuperNode got by `--superexec-auth-secret-file`; with it, no other process of the machine gets the node's "
        "tasks",
        "none",
    ),
    CONTROL: text(
        "folder for `aegis node pause`, `stop` and `status`, of mode 0700; one for each node",
        "beside the file: `NODE.control`",
    ),
    APPROVALS: text("folder of the signed approvals (`aegis app approve`)", "required"),
    APPROVAL_SIGNER: Setting(
        "64 hex digits", "64 hexadecimal digits", is_hex_key, "the key that must have signed them", otherwise="required"
    ),
    REQUIRE_LAYERS: Setting(
        "names, or `all`",
        "names of the jail's layers with commas between, or all",
        _are_layers,
        "layers of the jail without which the node does not start (`aegis jail check` lists them)",
        default=ALL_LAYERS,
    ),
    HEALTH: _address("where `/health`, `/status` and `/metrics` are served", otherwise="not served"),
    LOG: text(
        "file of the JSON log, one line for each permit, release and refusal; it is appended to", "standard error"
    ),
    QUANTIZE_TIME: whole(
        0,
        3600,
        0,
        "seconds; a reply leaves when the clock is at a multiple of it, so that the time of a task tells less",
    ),
    APP_SECONDS: whole(1, 86_400, 600, "seconds that a task of an app in the jail may take (mode `any`)"),
    APP_BLOCK_SECONDS: whole(1, 3600, 2, "seconds that the task of each block may take (mode `blocks`)"),
    APP_MEMORY: whole(64, 1 << 22, 8192, "MiB of address space of a task"),
    APP_THREADS: whole(1, 4096, 16, "threads of a task"),
    APP_FILES: Setting(
        "npz, arrow, csv",
        "npz, arrow or csv",
        lambda value: value in ("npz", "arrow", "csv"),
        "form of the rows for an app of Flower's that reads files",
        default="npz",
    ),
    APP_PRELOAD: Setting(
        "names of modules",
        "names of modules with commas between",
        _are_modules,
        "installed modules that the jail imports before any task, so that tasks start quickly; they see no row",
        otherwise="numpy, Flower, torch and scikit-learn, as installed",
    ),
}

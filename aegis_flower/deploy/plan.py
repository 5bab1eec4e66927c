"""Plan: the machines of a federation, their names, ports and users, checked before anything is written."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aegis_flower.errors import ConfigError

MOST: Final = 100  # nodes of one folder
_HOST: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9:]([A-Za-z0-9.:-]*[A-Za-z0-9:])?", re.ASCII)
_USER: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)
_PORT_MAX: Final = 65_535
# What systemd, YAML and a shell take as it is. Other folders would need quoting in four languages.
_PLACE: Final = re.compile(r"/[A-Za-z0-9._/-]*", re.ASCII)
_DAYS_MAX: Final = 365
_FREE: Final = 1024  # ports below are root's
_HEALTH: Final = 100  # a node's health page is so many ports above its SuperNode's Runtime API


def _is_place(path: Path) -> bool:
    return _PLACE.fullmatch(str(path)) is not None and ".." not in path.parts


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        number: from 1.
        loopback: port of the first node's SuperNode.
    """

    number: int
    loopback: int = 9094

    @property
    def name(self) -> str:
        """Of the node, its folder and its units."""
        return f"node-{self.number}"

    @property
    def runtime(self) -> int:
        """Port of its SuperNode's Runtime API, on loopback."""
        return self.loopback + self.number - 1

    @property
    def health(self) -> int:
        """Port of its health page, on loopback."""
        return self.runtime + _HEALTH


@dataclass(frozen=True)
class Plan:
    """What `write` makes.

    Attributes:
        hosts: names and addresses by which nodes and researchers reach the SuperLink; the first goes into configurations.
        nodes: how many.
        port: of the SuperLink.
        loopback: port of the first SuperNode's Runtime API; those of the others and of the health pages lie above it.
        place: where the folder lies on each machine.
        programs: folder of `flower-superlink`, `flower-supernode` and `aegis` on each machine.
        user: that runs nodes, which hold data.
        network_user: that runs the SuperLink and SuperNodes, which hold none.
        dataset: data set of each vault.
        vaults: whether empty vaults are made, with their keys.
        days: until certificates, roster expire.

    Raises:
        ConfigError: a value is none; names it.
    """

    hosts: tuple[str, ...]
    nodes: int = 3
    port: int = 8000
    loopback: int = 9094
    place: Path = Path("/etc/aegis")
    programs: Path = Path(sys.prefix) / "bin"
    user: str = "aegis"
    network_user: str = "aegis-net"
    dataset: str = "patients"
    vaults: bool = False
    days: int = 30

    def __post_init__(self) -> None:
        taken = {n.runtime for n in self.all} | {n.health for n in self.all}
        port = 1 <= self.port <= _PORT_MAX and self.port not in taken
        hosts = bool(self.hosts) and all(_HOST.fullmatch(host) for host in self.hosts)
        apart = self.user != self.network_user
        dataset = self.dataset.isprintable() and self.dataset.strip() and not set('"\\') & set(self.dataset)
        for key, fits, wanted in (
            ("host", hosts, "the name or address of the SuperLink's machine, such as link.example.org"),
            ("nodes", 1 <= self.nodes <= MOST, f"1 to {MOST}"),
            ("port", port, f"1 to {_PORT_MAX}, and none that a node uses"),
            ("loopback", _FREE <= self.loopback <= _PORT_MAX - 2 * _HEALTH, f"{_FREE} to {_PORT_MAX - 2 * _HEALTH}"),
            ("at", _is_place(self.place), "an absolute path of letters, digits, . _ - and /"),
            ("programs", _is_place(self.programs), "an absolute path of letters, digits, . _ - and /"),
            ("user", _USER.fullmatch(self.user), "a name of a user"),
            ("user", apart, "another user than what talks to the network, which may not read a vault"),
            ("network_user", _USER.fullmatch(self.network_user), "a name of a user"),
            ("dataset", dataset, "a name of a data set, without quotes"),
            ("days", 1 <= self.days <= _DAYS_MAX, f"1 to {_DAYS_MAX}: these are certificates for trials"),
        ):
            if not fits:
                raise ConfigError(key, f"must be {wanted}")

    @property
    def all(self) -> tuple[Node, ...]:
        """The nodes."""
        return tuple(Node(number, self.loopback) for number in range(1, self.nodes + 1))

    @property
    def address(self) -> str:
        """Host and port of the SuperLink; an IPv6 address in brackets."""
        host = self.hosts[0]
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

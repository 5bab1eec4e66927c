"""``aegis identity`` and ``aegis roster``: who may take part in secure aggregation.

Every node makes an identity and gives the operator its public half. The operator lists them in a roster, signs it with an
identity of their own, and hands it out; nodes pin the operator's public half and take no older roster.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from aegis_engine.errors import RosterError
from aegis_engine.types import RosterFacts

from aegis.cli.output import AsJson, show
from aegis_engine import Identity, roster_open, roster_sign

DAY = 86_400

LONGEST = 3650

IdentityFile = Annotated[Path, typer.Argument(metavar="FILE", help="the secret half, mode 0600")]

RosterFile = Annotated[Path, typer.Argument(metavar="ROSTER", help="the roster; no secret")]

Signer = Annotated[
    Path, typer.Option("--identity", "-i", envvar="AEGIS_IDENTITY", metavar="FILE", help="the operator's identity file")
]

Days = Annotated[int, typer.Option(min=1, max=LONGEST, help="days until it expires")]


def identity_new(file: IdentityFile, as_json: AsJson = False) -> None:
    """Makes an identity in a new file and prints its public half, which goes into the roster."""
    identity = _loaded(lambda: Identity.create(file))
    _told(file, identity, as_json)


def identity_show(file: IdentityFile, as_json: AsJson = False) -> None:
    """Prints the public half of an identity."""
    _told(file, _loaded(lambda: Identity.load(file)), as_json)


def _loaded(make: Any) -> Identity:
    try:
        found: Identity = make()
    except FileExistsError as error:
        raise typer.BadParameter(f"{error.filename} exists; an identity is never overwritten") from None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return found


def _told(file: Path, identity: Identity, as_json: bool) -> None:
    public = identity.public.hex()
    show({"file": str(file), "public": public}, [public], as_json)


def roster_sign_command(
    roster: RosterFile,
    identity: Signer,
    member: Annotated[
        list[str] | None, typer.Option("--member", metavar="NAME=KEY", help="a first member; only for a new roster")
    ] = None,
    days: Days = 365,
    as_json: AsJson = False,
) -> None:
    """Makes a roster, or signs an existing one again with a later expiry. The serial goes up by one."""
    signer = _loaded(lambda: Identity.load(identity))
    members = {}
    if roster.exists():
        if member:
            raise typer.BadParameter(f"{roster} exists; use `aegis roster add`", param_hint="--member")
        serial, members = _read(roster, signer)
    else:
        serial = 0
        for text in member or []:
            name, _, key = text.partition("=")
            _join(members, name, key)
    _write(roster, signer, serial + 1, members, days, as_json)


def roster_add(
    roster: RosterFile,
    name: Annotated[str, typer.Argument(help="name of the node, without spaces")],
    key: Annotated[str, typer.Argument(help="its public half, as `aegis identity show` prints it")],
    identity: Signer,
    days: Days = 365,
    as_json: AsJson = False,
) -> None:
    """Adds a node and signs the roster again, with the next serial."""
    _edit(roster, identity, days, as_json, lambda members: _join(members, name, key))


def roster_remove(
    roster: RosterFile,
    name: Annotated[str, typer.Argument(help="name of the node")],
    identity: Signer,
    days: Days = 365,
    as_json: AsJson = False,
) -> None:
    """Removes a node and signs the roster again, with the next serial. Nodes refuse it once they have the new roster."""

    def leave(members: dict[bytes, str]) -> None:
        gone = [key for key, known in members.items() if known == name]
        if not gone:
            known = ", ".join(sorted(members.values())) or "nobody"
            raise typer.BadParameter(f"{name!r} is not in the roster; it has {known}", param_hint="NAME")
        del members[gone[0]]

    _edit(roster, identity, days, as_json, leave)


def _edit(roster: Path, identity: Path, days: int, as_json: bool, change: Callable[[dict[bytes, str]], None]) -> None:
    signer = _loaded(lambda: Identity.load(identity))
    serial, members = _read(roster, signer)
    change(members)
    _write(roster, signer, serial + 1, members, days, as_json)


def roster_verify(
    roster: RosterFile,
    signer: Annotated[str, typer.Option(metavar="KEY", help="the operator's public half, which the nodes pin")],
    last: Annotated[
        int | None, typer.Option(metavar="SERIAL", min=0, help="refuse a roster older than this one")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Checks signature and expiry as a node does, and prints the members."""
    text, key = _text(roster), _key(signer, "--signer")
    found = roster_open(text, key)
    taken = None if last is None else (last, found["hash"])
    _listed(roster_open(text, key, now=int(time.time()), last=taken), as_json)


def _text(roster: Path) -> str:
    try:
        with roster.open(encoding="utf-8", newline="") as file:
            return file.read()
    except UnicodeDecodeError:
        raise RosterError(f"{roster} is no text; have the operator sign it again with `aegis roster sign`") from None


def _key(text: str, where: str) -> bytes:
    with contextlib.suppress(ValueError):
        key = bytes.fromhex(text)
        if len(key) == 32 and text == key.hex():
            return key
    raise typer.BadParameter("give the 64 hex digits that `aegis identity show` prints", param_hint=where)


def _join(members: dict[bytes, str], name: str, key: str) -> None:
    public = _key(key, "KEY")
    if public in members:
        raise typer.BadParameter(f"the roster has this key already, as {members[public]!r}", param_hint="KEY")
    if name in members.values():
        raise typer.BadParameter(f"the roster has a {name!r} with another key; remove it first", param_hint="NAME")
    members[public] = name


def _read(roster: Path, signer: Identity) -> tuple[int, dict[bytes, str]]:
    found = roster_open(_text(roster), signer.public)
    return found["serial"], found["members"]


def _write(roster: Path, signer: Identity, serial: int, members: dict[bytes, str], days: int, as_json: bool) -> None:
    now = int(time.time())
    text = roster_sign(signer, serial=serial, issued=now, expires=now + days * DAY, members=members)
    # Whole or not at all: nodes may be reading it.
    handle, temporary = tempfile.mkstemp(dir=roster.parent, prefix=f".{roster.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(roster)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    _listed(roster_open(text, signer.public), as_json)


def _listed(found: RosterFacts, as_json: bool) -> None:
    until = time.strftime("%Y-%m-%d", time.gmtime(found["expires"]))
    members = {key.hex(): name for key, name in found["members"].items()}
    value = {
        "serial": found["serial"],
        "issued": found["issued"],
        "expires": found["expires"],
        "sha256": found["hash"].hex(),
        "members": members,
    }
    lines = [f"{name:<24} {key}" for key, name in sorted(members.items(), key=lambda item: item[1])]
    show(value, [*lines, f"roster {found['serial']}: {len(members)} members, expires {until}"], as_json)

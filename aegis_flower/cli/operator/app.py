"""``aegis app``: look at an app, approve it by its hash, take that back. No command here imports or runs an app."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from aegis.cli.output import AsJson, Yes, show, size, sure

from aegis_flower.errors import BadBundle

DAY: Final = 86_400
_DIFF_SHOWN: Final = 400  # lines before an approval; `inspect` shows all

Source = Annotated[
    str,
    typer.Argument(metavar="APP", help="a bundle (.fab), an app's folder, or the hash of one that is kept or waits"),
]
Folder = Annotated[Path, typer.Option(metavar="APPROVALS", help="the folder of approvals, which the node reads")]
Operator = Annotated[
    Path, typer.Option("--identity", "-i", envvar="AEGIS_IDENTITY", metavar="FILE", help="the operator's identity file")
]
InboxFolder = Annotated[
    Path | None,
    typer.Option(metavar="INBOX", help="where runs wait (`aegis inbox`), for an app that is given by its hash"),
]
Dataset = Annotated[
    str | None, typer.Option(metavar="NAME", help="for this data set only; without it, any of the node")
]


def _hash(fab_hash: str) -> str:
    from aegis_flower.approval.entry import is_hash

    if not is_hash(fab_hash):
        raise typer.BadParameter("give the 64 lower-case hex digits that `aegis app inspect` prints", param_hint="HASH")
    return fab_hash


def fab_of(source: str, folder: Path | None, inbox: Path | None) -> tuple[bytes, list[str]]:
    """The bundle that a word of the command line means, and what is odd about where it came from.

    Raises:
        BadBundle: there is none, or it is not that of its hash.
    """
    from aegis_flower.approval import Inbox
    from aegis_flower.approval.build import build, links
    from aegis_flower.approval.bundle import FAB_MAX
    from aegis_flower.approval.desk import kept
    from aegis_flower.approval.entry import is_hash
    from aegis_flower.approval.newest import regular

    if is_hash(source) and not Path(source).exists():
        problems = []
        if folder is not None:
            try:
                return kept(folder, source), []
            except BadBundle as error:
                problems.append(str(error))
        if inbox is not None:
            try:
                return Inbox(inbox).bundle(source), []
            except BadBundle as error:
                problems.append(str(error))
        raise BadBundle(
            "; ".join(problems) or "a hash alone is no app: say --folder or --inbox, which keeps its bundle"
        )
    place = Path(source)
    if place.is_dir():
        return build(place), [
            f"{name}: a link in the folder; what it leads to is in the bundle" for name in links(place)
        ]
    return regular(place.resolve(), FAB_MAX), []


def app_inspect(
    app: Source,
    against: Annotated[
        str | None, typer.Option(metavar="APP", help="show what changed since this one: a bundle, a folder or a hash")
    ] = None,
    folder: Annotated[Path | None, typer.Option(metavar="APPROVALS", help="keeps approved apps by their hash")] = None,
    inbox: InboxFolder = None,
    as_json: AsJson = False,
) -> None:
    """Prints what an app is and asks for, without running a byte of it: hash, publisher, entry points, files, what is odd.

    The hash is Flower's: SHA-256 of the bundle that `flwr build` makes.
    """
    from aegis_flower.approval import read
    from aegis_flower.approval.asks import asks
    from aegis_flower.approval.difference import difference

    fab, odd = fab_of(app, folder, inbox)
    bundle = read(fab)
    changes = None if against is None else difference(read(fab_of(against, folder, inbox)[0]), bundle)
    wanted = asks(bundle)
    value = {
        "hash": bundle.fab_hash,
        "size": bundle.size,
        "publisher": bundle.publisher,
        "name": bundle.name,
        "version": bundle.version,
        "components": dict(bundle.components),
        "config": dict(bundle.config),
        "asks": vars(wanted),
        "dependencies": list(bundle.dependencies),
        "files": [vars(file) for file in bundle.files],
        "faults": list(bundle.faults),
        "notes": [*odd, *bundle.notes],
        "diff": changes,
    }
    lines = [
        *described(bundle, wanted, odd),
        *(f"config        {key} = {setting!r}" for key, setting in bundle.config.items()),
        *(f"file          {file.sha256[:16]}  {size(file.size):>10}  {file.name}" for file in bundle.files),
        *([] if changes is None else ["", *(changes or ["nothing changed"])]),
    ]
    show(value, lines, as_json)


def described(bundle: Any, wanted: Any, odd: list[str] | None = None) -> list[str]:
    """An app for people: what it is, what it asks, what is wrong or odd with it."""
    return [
        f"app           {bundle.publisher}/{bundle.name} {bundle.version}",
        f"hash          {bundle.fab_hash}",
        f"size          {size(bundle.size)}, {len(bundle.files)} files",
        *(f"entry point   {key} = {place}" for key, place in bundle.components.items()),
        *wanted.lines(),
        *(f"depends on    {name}" for name in bundle.dependencies),
        *(f"refused       {fault}" for fault in bundle.faults),
        *(f"look at       {note}" for note in (*(odd or []), *bundle.notes)),
    ]


def app_approve(
    app: Source,
    folder: Folder,
    identity: Operator,
    mode: Annotated[str, typer.Option(help="what runs it: recipe, any, blocks or embedded (docs/NODE.md)")],
    purpose: Annotated[str, typer.Option(help="what the data may be used for; a purpose of the data's terms")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="days until it expires")],
    dataset: Dataset = None,
    inbox: InboxFolder = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Allows an app to run, by its hash, and signs the list of approvals again. Asks first, and shows what changed.

    A later approval for the same app, data set and purpose takes the place of the earlier one.
    """
    from aegis_flower.approval import MODES, Inbox, read
    from aegis_flower.approval.asks import asks
    from aegis_flower.approval.difference import difference

    if mode not in MODES:
        raise typer.BadParameter(f"{mode!r} is none of {', '.join(MODES)}", param_hint="--mode")
    fab, odd = fab_of(app, folder, inbox)
    bundle, desk = read(fab), _desk(folder, identity)
    if not yes:
        before = desk.before(bundle)
        changes = [] if before is None else difference(before, bundle)
        shown = described(bundle, asks(bundle), odd)
        if before is not None:
            shown += ["", f"changed since {before.fab_hash}, approved before:", *changes[:_DIFF_SHOWN]]
            shown += [f"and {len(changes) - _DIFF_SHOWN} more lines; `aegis app inspect --against`"] * (
                len(changes) > _DIFF_SHOWN
            )
        show({}, shown, as_json=False)
        over = f"the data set {dataset}" if dataset is not None else "any data set of the node"
        sure(f"Approve it for {purpose} on {over}, mode {mode}, for {days} days?", yes=False)
    try:
        given = desk.approve(fab, mode=mode, purpose=purpose, days=days, dataset=dataset)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    lines = [f"approved {_line(given)}"]
    if inbox is not None:
        lines.append(f"{Inbox(inbox).decided(given.fab_hash)} runs of it no longer wait in {inbox}")
    show({**vars(given), "folder": str(folder)}, lines, as_json)


def app_revoke(
    app: Annotated[str, typer.Argument(metavar="HASH", help="hash of the app")],
    folder: Folder,
    identity: Operator,
    dataset: Annotated[str | None, typer.Option(metavar="NAME", help="only the approval for this data set")] = None,
    purpose: Annotated[str | None, typer.Option(help="only the approval for this purpose")] = None,
    as_json: AsJson = False,
) -> None:
    """Takes approvals of an app back and signs the list again. A node stops what runs by them."""
    gone = _desk(folder, identity).revoke(_hash(app), dataset=dataset, purpose=purpose)
    show([vars(one) for one in gone], [f"revoked {_line(one)}" for one in gone], as_json)


def app_list(
    folder: Folder,
    signer: Annotated[
        str | None, typer.Option(metavar="KEY", help="the operator's public half, which nodes pin")
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option(
            "--identity", "-i", envvar="AEGIS_IDENTITY", metavar="FILE", help="or the operator's identity file"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Shows what is and was approved, its signature checked."""
    from aegis_flower.approval.desk import listed

    if signer is not None:
        entries = listed(folder, key_of(signer))
    elif identity is not None:
        entries = _desk(folder, identity).entries()
    else:
        raise typer.BadParameter("say whose signature it must have: --signer or --identity")
    now = time.time()
    found = [{**vars(e.approval), "since": e.since, "revoked": e.revoked, "counts": e.counts(now)} for e in entries]
    lines = [f"{_state(e, now):<8} {_line(e.approval)}" for e in entries]
    show(found, lines or ["no app is approved"], as_json)


def key_of(signer: str) -> bytes:
    """The key of an option ``--signer``."""
    from aegis_flower.approval.entry import is_hash

    if not is_hash(signer):
        raise typer.BadParameter("give the 64 hex digits that `aegis identity show` prints", param_hint="--signer")
    return bytes.fromhex(signer)


def _desk(folder: Path, identity: Path) -> Any:
    from aegis_flower.approval import Desk

    try:
        return Desk(folder, identity)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--identity") from None


def _state(entry: Any, now: float) -> str:
    if entry.revoked is not None:
        return "revoked"
    return "counts" if entry.counts(now) else "expired"


def _line(one: Any) -> str:
    until = time.strftime("%Y-%m-%d", time.gmtime(min(one.expires, 2**37)))
    over = "any data set" if one.dataset is None else one.dataset
    return f"{one.fab_hash}  {one.mode}, for {one.purpose} on {over}, until {until} (serial {one.serial})"


COMMANDS: Final = (("inspect", app_inspect), ("approve", app_approve), ("revoke", app_revoke), ("list", app_list))

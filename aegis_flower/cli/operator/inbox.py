"""``aegis inbox``: the runs that wait for an approval, as a node met them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from aegis.cli.output import AsJson, show
from typer.core import TyperGroup

from aegis_flower.errors import BadBundle

Folder = Annotated[Path, typer.Argument(metavar="INBOX", help="the node's folder of runs that wait")]


class ListsByDefault(TyperGroup):
    """A group whose first word may be a folder: ``aegis inbox FOLDER`` is ``aegis inbox list FOLDER``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the name of the default command before what names none."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["list", *args]
        return super().parse_args(ctx, args)


def inbox_list(folder: Folder, as_json: AsJson = False) -> None:
    """Lists the runs that wait: run, hash, purpose, columns, epsilon, since when."""
    from aegis_flower.approval import Inbox

    inbox = Inbox(folder)
    found, lines = [], []
    for one in inbox.waiting():
        said = _asked(inbox, one)
        found.append({"run": one.run_id, "hash": one.fab_hash, "when": one.when, "asks": said})
        lines += [
            f"run {one.run_id}, waiting since {time.strftime('%Y-%m-%d %H:%M', time.gmtime(one.when))} UTC",
            f"  hash          {one.fab_hash}",
            *(f"  {line}" for line in said.pop("lines")),
        ]
    show(found, lines or ["no run waits"], as_json)


def _asked(inbox: Any, one: Any) -> dict[str, Any]:
    from aegis_flower.approval import read
    from aegis_flower.approval.asks import Asks, asks

    try:
        wanted = asks(read(inbox.bundle(one.fab_hash)), one.config)
    except BadBundle as error:
        wanted = Asks(problem=str(error))
    if one.config is None:
        wanted = Asks(problem="its run config was too long to be kept")
    return {**vars(wanted), "lines": wanted.lines()}


def inbox_show(
    folder: Folder,
    run: Annotated[int, typer.Argument(metavar="RUN", min=0, help="id of the run")],
    approvals: Annotated[
        Path | None,
        typer.Option(metavar="APPROVALS", help="compare with the last approved version of the app in this folder"),
    ] = None,
    signer: Annotated[
        str | None, typer.Option(metavar="KEY", help="the operator's public half, with --approvals")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Shows what a waiting run is: the app, what it asks for, what changed since the version approved last."""
    from aegis_flower.approval import Inbox, read
    from aegis_flower.approval.asks import asks
    from aegis_flower.approval.desk import earlier, listed
    from aegis_flower.approval.difference import difference
    from aegis_flower.cli.operator.app import described, key_of

    if (approvals is None) != (signer is None):
        raise typer.BadParameter("--approvals and --signer go together: nobody else's list is believed")
    inbox = Inbox(folder)
    of_run = [one for one in inbox.waiting() if one.run_id == run]
    if not of_run:
        raise typer.BadParameter(f"no run {run} waits in {folder}; `aegis inbox {folder}` lists them", param_hint="RUN")
    found, lines = [], []
    for one in of_run:
        bundle = read(inbox.bundle(one.fab_hash))
        wanted = asks(bundle, one.config)
        before = None
        if approvals is not None and signer is not None:
            before = earlier(approvals, listed(approvals, key_of(signer)), bundle)
        changes = None if before is None else difference(before, bundle)
        found.append(
            {
                "run": run,
                "hash": one.fab_hash,
                "when": one.when,
                "publisher": bundle.publisher,
                "name": bundle.name,
                "version": bundle.version,
                "asks": vars(wanted),
                "config": one.config,
                "faults": list(bundle.faults),
                "notes": list(bundle.notes),
                "against": None if before is None else before.fab_hash,
                "diff": changes,
            }
        )
        lines += [f"run           {run}", *described(bundle, wanted)]
        lines += [f"run config    {key} = {value!r:.500}" for key, value in (one.config or {}).items()]
        if before is not None:
            lines += ["", f"changed since {before.fab_hash}, approved before:", *(changes or ["nothing"])]
        elif approvals is not None:
            lines += ["", "no earlier version of this app was approved"]
    show(found, lines, as_json)


def inbox_drop(
    folder: Folder,
    run: Annotated[int | None, typer.Argument(metavar="[RUN]", min=0, help="id of the run; without it, --all")] = None,
    every: Annotated[bool, typer.Option("--all", help="forget all runs")] = False,
    as_json: AsJson = False,
) -> None:
    """Forgets runs that wait, which makes room. It refuses nothing and allows nothing."""
    from aegis_flower.approval import Inbox

    if (run is None) == (not every):
        raise typer.BadParameter("name one run, or --all")
    count = Inbox(folder).drop(run)
    show({"dropped": count}, [f"{count} forgotten"], as_json)


COMMANDS: Final = (("list", inbox_list), ("show", inbox_show), ("drop", inbox_drop))

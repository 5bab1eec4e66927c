"""`aegis node`: the trusted process of a node, and what its operator orders."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from aegis.cli.output import AsJson, show

from aegis_flower.errors import NodeError

if TYPE_CHECKING:
    from aegis_flower.service.control import Control

File = Annotated[
    Path, typer.Argument(metavar="NODE.TOML", help="what the node's operator lays down; docs/NODE.md has the keys")
]


def _control(file: Path) -> Control:
    from aegis_flower.service.control import Control
    from aegis_flower.service.settings import read

    return Control(read(file).control)


def node_run(
    file: File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="everything up to the first task, then end")] = False,
) -> None:
    """Runs the node beside a SuperNode that was started with `--isolation process`, until it is told to stop."""
    from aegis_flower.service.loop import Service
    from aegis_flower.service.settings import read

    service = Service(read(file))
    service.on_signals()
    service.run(dry=dry_run)
    if dry_run:
        typer.echo("vault, approvals, jail and SuperNode are there; nothing was claimed")


def node_check(file: File, as_json: AsJson = False) -> None:
    """Looks at all that the node needs, and says what to do where something is missing. Exits with 1 then."""
    from aegis_flower.service.check import preflight
    from aegis_flower.service.settings import read

    found = preflight(read(file))
    lines = [f"{'ok' if one.well else 'FAULT':<6}{one.topic + ':':<11} {one.found}" for one in found]
    show([{"topic": one.topic, "well": one.well, "found": one.found} for one in found], lines, as_json)
    raise typer.Exit(0 if all(one.well for one in found) else 1)


def node_status(file: File, as_json: AsJson = False) -> None:
    """Says whether the node runs, and what it has done since it was started. Exits with 1 where it does not run."""
    control = _control(file)
    process = control.running()
    said: dict[str, Any] = {**control.status(), "running": process is not None, "paused": control.paused}
    show(said, _table(said), as_json)
    raise typer.Exit(0 if process is not None else 1)


def _table(said: dict[str, Any]) -> list[str]:
    state = ("paused" if said["paused"] else "working") if said["running"] else "not running"
    lines = [f"{'node:':<12}{said.get('node', '')} is {state}"]
    if "since" not in said:
        return lines
    supernode, task = said["supernode"], said["task"]
    lines.append(f"{'since:':<12}{_clock(said['since'])}, process {said['pid']}")
    reached = "is reached" if supernode["reached"] else "is not reached"
    lines.append(f"{'SuperNode:':<12}{supernode['address']} {reached}")
    lines.append(f"{'task:':<12}{'none' if task is None else task['step'] + ' of run ' + task['run']}")
    for name in ("answers", "permits", "releases", "refusals"):
        found = ", ".join(f"{what} {count}" for what, count in said[name].items())
        lines.append(f"{name + ':':<12}{found or 'none'}")
    lines.append(f"{'waiting:':<12}{said['waiting']} runs for approval")
    return lines


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def node_pause(file: File) -> None:
    """Halts all use of the data at once, also of a task that runs. It lasts until `aegis node resume`, over restarts."""
    control = _control(file)
    control.pause()
    typer.echo(
        "paused; every message is answered with a code" if control.running() else "paused; the node does not run"
    )


def node_resume(file: File) -> None:
    """Lets use go on after a pause."""
    control = _control(file)
    control.resume()
    typer.echo("resumed" if control.running() else "resumed; the node does not run")


def node_stop(
    file: File,
    timeout: Annotated[float, typer.Option(min=0, help="seconds to wait for its end")] = 60.0,
) -> None:
    """Ends the node once the message in hand is answered."""
    control = _control(file)
    process = control.running()
    if process is None:
        typer.echo("the node does not run")
        return
    control.stop(process)
    until = time.monotonic() + timeout
    while control.running() is not None:
        if time.monotonic() > until:
            raise NodeError(f"the node (process {process}) has not ended within {timeout:g} s; it works on a task")
        time.sleep(0.1)
    typer.echo("stopped")


COMMANDS: Final[tuple[tuple[str, Callable[..., None]], ...]] = (
    ("run", node_run),
    ("check", node_check),
    ("status", node_status),
    ("pause", node_pause),
    ("resume", node_resume),
    ("stop", node_stop),
)

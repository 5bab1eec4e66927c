"""``aegis deploy``: a folder with all that the machines of a federation need."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from aegis.cli.output import AsJson, show


def deploy_init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a new folder")],
    host: Annotated[
        list[str],
        typer.Option(help="name or address by which nodes reach the SuperLink; may be repeated, the first is used"),
    ],
    nodes: Annotated[int, typer.Option(min=1, max=100, help="how many nodes")] = 3,
    port: Annotated[int, typer.Option(min=1, max=65535, help="the SuperLink's port")] = 8000,
    loopback: Annotated[
        int,
        typer.Option(
            min=1024, max=65335, help="first port on the nodes' own loopback: SuperNodes, and 100 above health"
        ),
    ] = 9094,
    at: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="where the folder will lie on the machines; by default where it is made"),
    ] = None,
    programs: Annotated[
        Path | None, typer.Option(metavar="PATH", help="folder of aegis and flower-supernode on the machines")
    ] = None,
    dataset: Annotated[str, typer.Option(metavar="NAME", help="data set of each vault")] = "patients",
    user: Annotated[str, typer.Option(help="user of the machines that runs nodes and reads vaults")] = "aegis",
    network_user: Annotated[
        str, typer.Option(help="user that runs SuperLink and SuperNodes, and reads no vault")
    ] = "aegis-net",
    vaults: Annotated[bool, typer.Option("--vaults", help="make empty vaults and their keys, too")] = False,
    days: Annotated[int, typer.Option(min=1, max=365, help="until certificates and roster expire")] = 30,
    as_json: AsJson = False,
) -> None:
    """Makes certificates for a trial, keys, a signed roster, node.toml, systemd units, a compose file and a README for machines.

    Nothing is written over, and nothing outside DIR. The README has the commands of each machine, in order.
    """
    from aegis_flower.deploy import Plan, write

    plan = Plan(
        hosts=tuple(host),
        nodes=nodes,
        port=port,
        loopback=loopback,
        place=Path(at if at is not None else folder).absolute(),
        programs=Path(programs) if programs is not None else Path(sys.executable).parent.absolute(),
        user=user,
        network_user=network_user,
        dataset=dataset,
        vaults=vaults,
        days=days,
    )
    files = [file.relative_to(folder.absolute()).as_posix() for file in write(folder, plan)]
    outside = [name for name in files if "/vault/" not in f"/{name}"]
    show({"folder": str(folder), "files": files}, [*outside, f"next: {folder / 'README.md'}"], as_json)

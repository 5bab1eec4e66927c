"""`aegis certs`: certificates and node keys for trials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def certs_make(
    folder: Annotated[Path, typer.Argument(help="folder for certificates and keys")],
    nodes: Annotated[int, typer.Option(min=1, help="SuperNodes to make authentication keys for")] = 3,
    host: Annotated[list[str] | None, typer.Option(help="name or address of the SuperLink; may be repeated")] = None,
) -> None:
    """Makes a certificate authority, the SuperLink's certificate and the SuperNodes' keys (30 days; not a PKI)."""
    from aegis_flower.simulations.flower.certs import make_certificates, make_node_keys

    make_certificates(folder, hosts=tuple(host or ("localhost", "127.0.0.1")))
    make_node_keys(folder, nodes)
    for file in sorted(folder.iterdir()):
        typer.echo(str(file))

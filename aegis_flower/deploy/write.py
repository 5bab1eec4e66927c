"""Write: a folder with all that the machines of a federation need. It is made beside its place and moved there whole."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from aegis_engine import Identity, Vault, roster_sign
from aegis_flower.deploy.plan import Plan
from aegis_flower.errors import ConfigError
from aegis_flower.simulations.flower.certs import make_certificates, make_node_keys

TEMPLATES: Final = Path(__file__).parent / "templates"
_DAY: Final = 86_400
_SECRET: Final = 32  # bytes
# Of each node: its folder, and what is made of which template.
OF_NODE: Final = {
    "node.toml": "node.toml.j2",
    "systemd/aegis-{name}.service": "node.service.j2",
    "systemd/aegis-supernode-{number}.service": "supernode.service.j2",
    "logrotate/aegis-{name}": "logrotate.j2",
}
OF_ALL: Final = {
    "README.md": "README.md.j2",
    "compose.yaml": "compose.yaml.j2",
    "Dockerfile": "Dockerfile.j2",
    "operator/config.toml": "config.toml.j2",
    "superlink/systemd/aegis-superlink.service": "superlink.service.j2",
}


def write(folder: Path, plan: Plan) -> list[Path]:
    """Makes the folder, with fresh certificates, keys, identities and a signed roster; gives its files.

    The certificate authority's key is not kept: for more than a trial, use the certificates of your own authority.

    Raises:
        ConfigError: the folder is there and not empty, or has no folder above it. Nothing was written.
    """
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("folder", f"{folder} is not empty; keys are never written over, name a new folder")
    if not folder.parent.is_dir():
        raise ConfigError("folder", f"there is no folder {folder.parent}")
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _fill(made, plan)
        if folder.exists():
            folder.rmdir()
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _fill(root: Path, plan: Plan) -> None:
    operator = root / "operator"
    operator.mkdir(mode=0o700)
    signer = Identity.create(str(operator / "operator.key"))
    (operator / "operator.pub").write_text(f"{signer.public.hex()}\n")
    certificates = make_certificates(root / "superlink/certs", hosts=_reached(plan), days=plan.days)
    keys = make_node_keys(operator / "supernodes", plan.nodes)
    members = {}
    for node, key in zip(plan.all, keys, strict=True):
        home = root / node.name
        for part in (home, home / "network", home / "approvals"):
            part.mkdir(mode=0o750)
        members[Identity.create(str(home / "identity")).public] = node.name
        shutil.copy(certificates.ca, home / "network/ca.crt")
        key.private.rename(home / "network/supernode.key")
        public = operator / "supernodes" / f"{node.name}.pub.new"
        key.public.rename(public)
        _secret(home / "network/superexec.secret")
        if plan.vaults:
            vault = Vault.create(str(home / "vault"), key_file=str(home / "vault.key"), make_key=True)
            vault.govern("core")
    for node in plan.all:
        public = operator / "supernodes" / f"{node.name}.pub"
        public.with_name(f"{public.name}.new").rename(public)
    now = int(time.time())
    roster = roster_sign(signer, serial=1, issued=now, expires=now + plan.days * _DAY, members=members)
    shutil.copy(certificates.ca, operator / "ca.crt")
    for home in (operator, *(root / node.name for node in plan.all)):
        (home / "roster").write_text(roster)
    said = {"plan": plan, "signer": signer.public.hex()}
    for name, template in OF_ALL.items():
        _render(root / name, template, said)
    for node in plan.all:
        for name, template in OF_NODE.items():
            place = root / node.name / name.format(name=node.name, number=node.number)
            _render(place, template, {**said, "node": node})


def _reached(plan: Plan) -> tuple[str, ...]:
    """By which names the certificate holds: those of the plan, and the machine's own for a first look."""
    return tuple(dict.fromkeys([*plan.hosts, "localhost", "127.0.0.1"]))


def _secret(file: Path) -> None:
    """What SuperNode and node know and no other process of the machine: readable by the group that both are in."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "wb") as out:
        out.write(secrets.token_bytes(_SECRET))


def _render(file: Path, template: str, said: dict[str, Any]) -> None:
    # Not HTML: TOML, YAML, units and shell. The plan lets no character through that means something in one of them.
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(made.get_template(template).render(said))

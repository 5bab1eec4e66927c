"""Commands may be put here, and what they print.

One module for each group of commands defines functions and registers nothing; the list here says which there are. Commands of
the plugin appear when it is installed.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from typing import Annotated, Final

import typer
from aegis_engine.errors import AegisError, AuditError, EngineFault, ObjectNotFound

from aegis.cli import audit, bench, doctor, erase, maintain, roster, vault
from aegis.cli.doctor import version as _version
from aegis.cli.output import EXIT_CODES, exit_code, fail

GROUPS: Final = {
    "vault": "Encrypted vaults: make, fill, read, check, shred.",
    "audit": "Tamper-evident audit logs.",
    "identity": "Keys that nodes and operators are known by.",
    "roster": "Signed lists of who may take part.",
}

# Group, name, function, panel of the help; the help shows them in this order.
COMMANDS: Final[tuple[tuple[str, str, Callable[..., None], str | None], ...]] = (
    ("vault", "init", vault.vault_init, "Make, fill, look"),
    ("vault", "add", vault.vault_add, "Make, fill, look"),
    ("vault", "ls", vault.vault_ls, "Make, fill, look"),
    ("vault", "stat", vault.vault_stat, "Make, fill, look"),
    ("vault", "cat", vault.vault_cat, "Make, fill, look"),
    ("vault", "export", vault.vault_export, "Make, fill, look"),
    ("vault", "verify", vault.vault_verify, "Make, fill, look"),
    ("vault", "rename", maintain.vault_rename, "Make, fill, look"),
    ("vault", "rotate", maintain.vault_rotate, "Keys"),
    ("vault", "reencrypt", maintain.vault_reencrypt, "Keys"),
    ("vault", "shred", erase.vault_shred, "Erase"),
    ("vault", "shred-subject", erase.vault_shred_subject, "Erase"),
    ("vault", "erase-person", erase.vault_erase_person, "Erase"),
    ("vault", "destroy", erase.vault_destroy, "Erase"),
    ("vault", "backup", maintain.vault_backup, "Keys"),
    ("vault", "restore", maintain.vault_restore, "Keys"),
    ("vault", "scrub", maintain.vault_scrub, "Check"),
    ("vault", "fsck", maintain.vault_fsck, "Check"),
    ("vault", "doctor", doctor.vault_doctor, "Check"),
    ("vault", "bench", bench.vault_bench, "Check"),
    ("audit", "verify", audit.audit_verify_command, None),
    ("audit", "tail", audit.audit_tail, None),
    ("identity", "new", roster.identity_new, None),
    ("identity", "show", roster.identity_show, None),
    ("roster", "sign", roster.roster_sign_command, None),
    ("roster", "add", roster.roster_add, None),
    ("roster", "remove", roster.roster_remove, None),
    ("roster", "verify", roster.roster_verify, None),
    ("", "doctor", doctor.doctor, None),
)

PLUGIN = (
    "data",
    "consent",
    "model",
    "run",
    "privacy",
    "report",
    "init",
    "certs",
    "jail",
    "app",
    "inbox",
    "deploy",
    "node",
)


def _typer(help_text: str, name: str | None = None) -> typer.Typer:
    return typer.Typer(
        name=name,
        help=help_text,
        epilog=EXIT_CODES,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )


def build() -> typer.Typer:
    """The command with all of its groups."""
    whole = _typer(
        "Train together on data that nobody hands over: encrypted vaults, permits, audit, federated learning.", "aegis"
    )
    whole.callback()(_root)
    groups = {"": whole} | {name: _typer(text) for name, text in GROUPS.items()}
    for name in GROUPS:
        whole.add_typer(groups[name], name=name)
    for group, name, function, panel in COMMANDS:
        groups[group].command(name, rich_help_panel=panel)(function)
    return whole


def _print_versions(wanted: bool) -> None:
    if wanted:
        names = ("aegis-flower-engine", "aegis-flower", "flwr")
        typer.echo(", ".join(f"{name} {_version(name) or 'not installed'}" for name in names))
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_versions, is_eager=True, help="say which versions are installed"),
    ] = False,
) -> None:
    del version


app = build()


def main() -> None:
    """Entry point."""
    _check_not_shadowed()
    entries = importlib.metadata.entry_points(group="aegis.commands")
    for entry in entries:
        entry.load()(app)
    if not entries and sys.argv[1:2] and sys.argv[1] in PLUGIN:
        typer.echo(f"aegis: `aegis {sys.argv[1]}` is of the plugin: pip install aegis-flower", err=True)
        raise SystemExit(2)
    try:
        app()
    except (AegisError, OSError) as error:
        fail(error)


def _check_not_shadowed() -> None:
    import aegis

    if getattr(aegis, "DISTRIBUTION", None) != "aegis-flower-engine":
        fail(
            EngineFault(
                f"the module 'aegis' at {aegis.__file__} is another project's; uninstall it (pip uninstall aegis) and "
                "reinstall aegis-flower-engine"
            )
        )


__all__ = ["COMMANDS", "AuditError", "ObjectNotFound", "app", "build", "exit_code", "fail", "main"]

"""Commands that the plugin adds to ``aegis``, one file per command or group; imports stay light."""

from __future__ import annotations

import typer
from aegis.cli.output import EXIT_CODES

from aegis_flower.cli import consent, data, model
from aegis_flower.cli.init import init as init_command
from aegis_flower.cli.init import init_help
from aegis_flower.cli.operator import app as app_commands
from aegis_flower.cli.operator import inbox, node
from aegis_flower.cli.operator.certs import certs_make
from aegis_flower.cli.operator.deploy import deploy_init
from aegis_flower.cli.operator.jail import jail_check
from aegis_flower.cli.privacy import privacy_show
from aegis_flower.cli.report import report_open, report_show
from aegis_flower.cli.run import run as run_command
from aegis_flower.cli.run import run_help
from aegis_flower.cli.trial import simulate

__all__ = ["register", "simulate"]


def register(app: typer.Typer) -> None:
    """Adds the plugin's commands (entry point ``aegis.commands``)."""
    app.command(
        "run",
        help=run_help(),
        epilog=EXIT_CODES,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(run_command)
    for name, words, commands in (
        ("data", "Data sets of a vault: draft a schema, import, look, change terms, add rows, drop.", data.COMMANDS),
        ("consent", "What people allow and forbid.", consent.COMMANDS),
        ("model", "The models that runs left.", model.COMMANDS),
        ("node", "The node: the trusted process beside a SuperNode.", node.COMMANDS),
        ("app", "Which apps may run on a node: look at them, approve, revoke.", app_commands.COMMANDS),
    ):
        group = typer.Typer(help=words, no_args_is_help=True, epilog=EXIT_CODES)
        for command, function in commands:
            group.command(command)(function)
        app.add_typer(group, name=name)
    waiting = typer.Typer(
        cls=inbox.ListsByDefault,
        help="Runs that wait for an approval. `aegis inbox FOLDER` lists them.",
        no_args_is_help=True,
        epilog=EXIT_CODES,
    )
    for command, function in inbox.COMMANDS:
        waiting.command(command)(function)
    app.add_typer(waiting, name="inbox")
    privacy = typer.Typer(help="The privacy budget of a vault's data.", no_args_is_help=True)
    privacy.command("show")(privacy_show)
    app.add_typer(privacy, name="privacy")
    reports = typer.Typer(help="Reports of runs.", no_args_is_help=True)
    reports.command("show")(report_show)
    reports.command("open")(report_open)
    app.add_typer(reports, name="report")
    app.command("init", help=init_help())(init_command)
    certs = typer.Typer(help="Certificates and node keys for a deployment on your own machines.", no_args_is_help=True)
    certs.command("make")(certs_make)
    app.add_typer(certs, name="certs")
    deploy = typer.Typer(help="A federation on machines of your own.", no_args_is_help=True, epilog=EXIT_CODES)
    # With a callback, one command alone stays a word of the command line.
    deploy.callback()(lambda: None)
    deploy.command("init")(deploy_init)
    app.add_typer(deploy, name="deploy")
    jail = typer.Typer(help="Running an app that nobody trusts.", no_args_is_help=True, epilog=EXIT_CODES)
    jail.command("check")(jail_check)
    app.add_typer(jail, name="jail")

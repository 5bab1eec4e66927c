"""`aegis init`: a new project, rendered from a template, which runs at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from aegis.cli.output import say

_HELP = """Makes a new project: a Flower App under its own name, with its model, its experiment and the commands to go on with.

  aegis init clinics                               then: cd clinics, aegis run

  aegis init clinics --template tabular --data patients.csv --label ill

With --data the project trains on a file of yours, which stays where it is; the experiment names it from the project's folder.
Schema, terms and feature plan are drafted from it, for you to review.
Bounds and levels are not taken from the rows, unless --show-ranges says that they are public.

Templates:

{templates}

NAME is a package of Python and a folder that is made; nothing that exists is overwritten.
"""


def init_help() -> str:
    """The text of ``aegis init --help``; the templates are those that there are."""
    from aegis_flower.projects import templates

    return _HELP.format(templates="\n\n".join(f"  {one.name}: {one.line}" for one in templates().values()))


def init(
    folder: Annotated[Path, typer.Argument(metavar="NAME", help="name of the project and folder to make")],
    template: Annotated[
        str | None,
        typer.Option(help="which template; torch by default, tabular with --data of a table, images of a folder"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV, Parquet, Arrow, JSON lines, a query (.sql), or a folder of images or DICOM files",
        ),
    ] = None,
    subject: Annotated[str | None, typer.Option(help="column of the file that says whom a row is about")] = None,
    label: Annotated[str | None, typer.Option(help="column of the file that is to be predicted")] = None,
    each_row_a_person: Annotated[
        bool, typer.Option("--each-row-a-person", help="the file names nobody; each row is about somebody else")
    ] = False,
    show_ranges: Annotated[
        bool,
        typer.Option("--show-ranges", help="take bounds and vocabularies from the rows: only where they are public"),
    ] = False,
) -> None:
    """See `init_help`."""
    from aegis_flower import projects
    from aegis_flower.errors import ConfigError

    given = {
        "--subject": subject,
        "--label": label,
        "--each-row-a-person": each_row_a_person,
        "--show-ranges": show_ranges,
    }
    if data is None and (named := [name for name, value in given.items() if value]):
        raise ConfigError(named[0], "says something of a file of yours; name the file by --data")
    usual = "torch" if data is None else "images" if data.is_dir() else "tabular"
    chosen = projects.template(template or usual)
    rows = None
    if data is not None:
        rows = projects.Rows(data, subject, label, each_row_a_person, show_ranges)
    made = projects.make(folder, chosen, rows)
    _tell(folder, made, rows is not None)


def _tell(folder: Path, made: Any, own: bool) -> None:
    name = made.folder.name
    say(f"made {folder}; go on with:")
    say(f"  cd {folder}")
    if made.lacking:
        say("  review schema.toml: bounds and levels that everybody may know")
        say(f"    nobody declared {made.lacking}")
        say(f"  aegis data features schema.toml > {name}/plan.yaml")
    elif own:
        say(f"  review schema.toml, terms.toml and {name}/plan.yaml")
    say("  aegis run")
    say("README.md there has the rest")

"""Rendering of a project: its files are made in a folder beside, which is then moved to its place in one step."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from aegis_flower.errors import ConfigError, DataError
from aegis_flower.importer import terms_file
from aegis_flower.importer.started import drafts
from aegis_flower.projects import example
from aegis_flower.projects.names import check_name
from aegis_flower.projects.registry import ABOUT, EXAMPLE, FOLDER, Template
from aegis_flower.terms import Terms

_SHARED: Final = "_project"
_PACKAGE: Final = "package"  # stands for the project's name in paths
_END: Final = ".j2"


@dataclass(frozen=True)
class Rows:
    """Rows of one's own, and what is known of them.

    Attributes:
        file: CSV, Parquet, Arrow, JSON lines, or a folder of images.
        subject: the column that says whom a row is about; None guesses it by its name.
        label: the column to be predicted; None guesses it by its name.
        alone: the file names nobody, each row is about somebody else.
        show_ranges: bounds and vocabularies are taken from the rows: only where those are public.
    """

    file: Path
    subject: str | None = None
    label: str | None = None
    alone: bool = False
    show_ranges: bool = False


@dataclass(frozen=True)
class Made:
    """A project that was made.

    Attributes:
        folder: where it is.
        lacking: what nobody declared of the columns; empty where it runs as it is.
    """

    folder: Path
    lacking: str = ""


def make(folder: Path, chosen: Template, rows: Rows | None = None, templates: Path = FOLDER) -> Made:
    """Makes a project; its name is the folder's.

    Args:
        folder: a new one, or an empty one.
        chosen: the template.
        rows: rows of one's own; None trains on the template's public data.
        templates: folder of the templates.

    Raises:
        ConfigError: the name is none; says which to take. No column is a label.
        DataError: the folder is not empty, or the rows do not read.
    """
    folder = folder.absolute()
    name = folder.name
    check_name(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not empty; name a new folder. Nothing was written")
    if not folder.parent.is_dir():
        raise DataError(f"there is no folder {folder.parent} to make {name} in")
    made = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    try:
        made.chmod(0o755)
        lacking = _fill(made, name, chosen, rows, templates)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return Made(folder, lacking)


def _fill(made: Path, name: str, chosen: Template, rows: Rows | None, templates: Path) -> str:
    """Writes the files; gives what is lacking of the rows' schema."""
    told: dict[str, Any] = {"name": name, "template": chosen.name, "data": chosen.data, "own": rows is not None}
    lacking = ""
    if rows is not None or chosen.data == EXAMPLE:
        if rows is None:
            rows, where = Rows(example.write(made), show_ranges=True), str(example.FILE)
        else:
            where = _from(made.with_name(name), rows.file)
        lacking = _tables(made, name, rows)
        told |= {"data": "table", "path": where, "public": rows.show_ranges, "lacking": lacking}
    environment = Environment(  # noqa: S701 - Python, TOML and YAML, each value quoted where it stands
        loader=FileSystemLoader(templates), undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    environment.filters["quoted"] = lambda text: json.dumps(text, ensure_ascii=False)
    for part in (_SHARED, chosen.name):
        for file in sorted((templates / part).rglob("*")):
            inner = file.relative_to(templates / part)
            if file.is_dir() or file.name == ABOUT or "__pycache__" in inner.parts:
                continue
            target = made / _target(inner, name, shared=part == _SHARED)
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.name.endswith(_END):
                target.write_text(environment.get_template(f"{part}/{inner.as_posix()}").render(told), "utf-8")
            else:
                shutil.copyfile(file, target)
    return lacking


def _from(folder: Path, file: Path) -> str:
    """A file's place as the project's folder sees it: experiments travel, and say nothing of where this machine keeps things.

    ``..`` leaves the folder that there really is, so links are followed first; the file keeps its own name, link or not.
    """
    there = file.absolute().parent.resolve() / file.absolute().name
    return Path(os.path.relpath(there, folder.parent.resolve() / folder.name)).as_posix()


def _target(inner: Path, name: str, *, shared: bool) -> Path:
    """Where a file of a template goes: that of a template into the package, its experiment among the package's."""
    plain = inner.with_name(inner.name.removesuffix(_END))
    if plain.name == "gitignore":
        plain = plain.with_name(".gitignore")
    if shared:
        return Path(*(name if part == _PACKAGE else part for part in plain.parts))
    if plain == Path("experiment.yaml"):
        return Path(name, "conf", "experiment", f"{name}.yaml")
    return Path(name) / plain


def _tables(made: Path, name: str, rows: Rows) -> str:
    """Schema, terms and plan of the rows, as drafts."""
    found = drafts(
        rows.file,
        made / "schema.toml",
        made / name / "plan.yaml",
        subject=rows.subject,
        label=rows.label,
        alone=rows.alone,
        show_ranges=rows.show_ranges,
    )
    if not found.labels:
        raise ConfigError(
            "--label",
            f"{rows.file.name}: no column looks like one to be predicted; say which: --label COLUMN. There are "
            f"{', '.join(found.columns)}",
        )
    title = "Terms of a data set. Review every line: they are sealed with the data, and no run can widen them."
    (made / "terms.toml").write_text(terms_file.write(Terms(purposes=["research"]), title), "utf-8")
    return found.lacking

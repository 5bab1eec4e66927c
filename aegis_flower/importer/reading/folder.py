"""The files of a folder that is a data set: in their order, and none from elsewhere."""

from __future__ import annotations

from pathlib import Path

from aegis_flower.errors import DataError


def files_in(path: Path, ends: tuple[str, ...], what: str) -> list[Path]:
    """The files of a folder and of those in it whose names end so.

    Args:
        path: the folder.
        ends: of names, in lower case.
        what: one of the files, for messages, such as ``image``.

    Raises:
        DataError: there is none, or one lies elsewhere: a link out of the folder.
    """
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in ends and file.is_file())
    if not files:
        raise DataError(f"{path.name}: there is no {what} in it ({', '.join(ends)})")
    root = path.resolve()
    for number, file in enumerate(files, 1):
        if not file.resolve().is_relative_to(root):
            raise DataError(f"{path.name}: {what} {number} of {len(files)} is a link to a file outside of the folder")
    return files

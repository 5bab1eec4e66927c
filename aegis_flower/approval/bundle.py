"""Bundle: a Flower App Bundle (FAB) read as data, within bounds. Nothing of it is imported, run or written."""

from __future__ import annotations

import hashlib
import io
import tomllib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aegis_flower.approval import suspects
from aegis_flower.errors import BadBundle

FAB_MAX: Final = 10 << 20  # Flower's own bound on a bundle
_FILES_MAX: Final = 2000
_FILE_MAX: Final = 16 << 20
_WHOLE_MAX: Final = 64 << 20
_MANIFEST: Final = ".info/CONTENT"
_PROJECT: Final = "pyproject.toml"
_ENCRYPTED: Final = 0x1


@dataclass(frozen=True)
class Member:
    """A file of a bundle.

    Attributes:
        name: its path in the bundle.
        size: in bytes, unpacked.
        sha256: of its contents, in hexadecimal.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Bundle:
    """What a bundle says of itself, and what it holds. All of it is somebody else's word: print it by `plain` alone.

    Attributes:
        fab_hash: SHA-256 of the bundle's bytes, which is Flower's hash of it.
        size: of the bundle, in bytes.
        publisher: of the app.
        name: of the app.
        version: of the app.
        components: entry points by their names: ``clientapp``, ``serverapp``.
        config: ``[tool.flwr.app.config]``, flat, with dotted keys.
        dependencies: what it asks to be installed.
        files: by their order in the bundle.
        faults: what no bundle has that Flower builds: it is not to be approved.
        notes: what somebody should look at.
        contents: bytes by path.
    """

    fab_hash: str
    size: int
    publisher: str
    name: str
    version: str
    components: Mapping[str, str]
    config: Mapping[str, Any]
    dependencies: tuple[str, ...]
    files: tuple[Member, ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    contents: Mapping[str, bytes] = field(repr=False)


def hash_of(fab: bytes) -> str:
    """The hash that Flower names a bundle by: SHA-256 of its bytes, in hexadecimal."""
    return hashlib.sha256(fab).hexdigest()


def read(fab: bytes) -> Bundle:
    """Reads a bundle.

    Raises:
        BadBundle: it is no archive, or larger than Flower allows. Everything else that is wrong is in `faults`.
    """
    if len(fab) > FAB_MAX:
        raise BadBundle(f"a bundle has at most {FAB_MAX} bytes, this file has {len(fab)}")
    faults: list[str] = []
    try:
        with zipfile.ZipFile(io.BytesIO(fab)) as archive:
            contents = _contents(archive, faults)
            if archive.comment or (archive.infolist() and min(i.header_offset for i in archive.infolist())):
                faults.append("the archive has bytes before its first file, or a comment")
    except (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, NotImplementedError, EOFError, OSError) as error:
        raise BadBundle(f"this is no Flower App Bundle: {type(error).__name__}: {error}") from None
    files = tuple(Member(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items())
    faults += _manifest_faults(contents, files)
    said = _project(contents, faults)
    app = _table(_table(_table(said, "tool"), "flwr"), "app")
    project = _table(said, "project")
    dependencies = project.get("dependencies")
    return Bundle(
        fab_hash=hash_of(fab),
        size=len(fab),
        publisher=_text(app.get("publisher")),
        name=_text(project.get("name")),
        version=_text(project.get("version")),
        components={key: _text(value) for key, value in _table(app, "components").items()},
        config=_flat(_table(app, "config")),
        dependencies=tuple(map(_text, dependencies)) if isinstance(dependencies, list) else (),
        files=files,
        faults=tuple(faults),
        notes=suspects.notes(contents),
        contents=contents,
    )


def unpack(fab: bytes, folder: Path) -> Bundle:
    """Writes the files of a bundle into an empty folder, which must be there. Only what `read` showed is written.

    Raises:
        BadBundle: it has faults, or `folder` is not empty. Nothing was written.
        OSError: a file cannot be written.
    """
    bundle = read(fab)
    if bundle.faults:
        raise BadBundle(f"the bundle {bundle.fab_hash} cannot be unpacked: {bundle.faults[0]}")
    if any(folder.iterdir()):
        raise BadBundle(f"{folder} is not empty; what lies there already would run with the app")
    for name, data in bundle.contents.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(data)
    return bundle


def _contents(archive: zipfile.ZipFile, faults: list[str]) -> dict[str, bytes]:
    """Bytes by name, of as many files as the bounds allow."""
    contents: dict[str, bytes] = {}
    left = _WHOLE_MAX
    if len(archive.infolist()) > _FILES_MAX:
        faults.append(f"it has {len(archive.infolist())} files; {_FILES_MAX} is the most")
        return contents
    for info in archive.infolist():
        name = info.filename
        kept = len(faults)
        # `filename` ends at a zero byte; what stands behind it would be shown to nobody.
        faults += suspects.path_faults(getattr(info, "orig_filename", name), info.external_attr >> 16)
        if name in contents:
            faults.append(f"{name!r}: twice in the archive")
        if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            faults.append(f"{name!r}: encrypted, or packed as Flower packs nothing")
        if max(info.file_size, 0) > min(_FILE_MAX, left):
            faults.append(
                f"{name!r}: {info.file_size} bytes unpacked; {_FILE_MAX} a file and {_WHOLE_MAX} in all is the most"
            )
        if info.is_dir() or len(faults) > kept:
            continue
        try:
            with archive.open(info) as file:
                data = file.read(info.file_size + 1)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            RuntimeError,
            NotImplementedError,
            ValueError,
        ) as error:
            faults.append(f"{name!r}: cannot be read ({type(error).__name__})")
            continue
        if len(data) != info.file_size:
            faults.append(f"{name!r}: another size than the archive says")
            continue
        left -= len(data)
        contents[name] = data
    folders = {parent.as_posix() for name in contents for parent in Path(name).parents}
    faults += [f"{name!r}: a file and a folder" for name in contents if name in folders]
    return contents


def _manifest_faults(contents: Mapping[str, bytes], files: tuple[Member, ...]) -> list[str]:
    """Flower checks the files of the manifest when it installs; here each file must be in it, too."""
    text = contents.get(_MANIFEST)
    if text is None:
        return [f"it has no {_MANIFEST}, which lists a bundle's files"]
    listed = {}
    for line in text.decode("utf-8", "replace").splitlines():
        name, _, rest = line.rpartition(",")[0].rpartition(",")
        listed[name] = rest
    found = {file.name: file.sha256 for file in files if file.name != _MANIFEST}
    wrong = sorted(name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name))
    return [f"{name!r}: not what {_MANIFEST} says" for name in wrong[:20]]


def _project(contents: Mapping[str, bytes], faults: list[str]) -> Mapping[str, Any]:
    text = contents.get(_PROJECT)
    if text is None:
        faults.append(f"it has no {_PROJECT}")
        return {}
    try:
        return tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        faults.append(f"{_PROJECT} is no TOML ({type(error).__name__})")
        return {}


def _table(value: Any, key: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str:
    return str(value)[:1024] if isinstance(value, (str, int, float)) else ""


def _flat(table: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and depth < 32:  # noqa: PLR2004 - deeper than anybody writes
            found.update(_flat(value, f"{prefix}{key}.", depth + 1))
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, (str, int, float, bool)) else str(value)[:1024]
    return found

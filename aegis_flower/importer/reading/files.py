"""Files as batches of Arrow columns, in constant memory: CSV, Parquet, Arrow, JSON lines, folders of images.

DICOM and SQL are in files of their own.

CSV comes as text, whatever is in it: what a value is says the schema, and a value that does not fit is a bad row of known line.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aegis_flower.data.schema import Source
from aegis_flower.errors import DataError
from aegis_flower.importer.reading.batches import Batch, Malformed
from aegis_flower.importer.reading.csv_file import read_csv, signed
from aegis_flower.importer.reading.dicom import ENDS, read_dicom
from aegis_flower.importer.reading.folder import files_in
from aegis_flower.importer.reading.sql import read_sql

_ROWS = 1 << 16
# Most of a batch, and of a line of JSON: a file's size is not the memory's.
_BYTES, _CELLS, _LINE = 64 << 20, 1 << 22, 16 << 20
_COLUMNS_MAX = 100_000
_PIXELS = 1 << 26  # of an image: a small file may say that it is a huge one
_ENDS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".sql": "sql",
}
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def format_of(path: Path) -> str:
    """The format that a file's name says.

    Raises:
        DataError: it says none, or two.
    """
    if path.is_dir():
        named = {file.suffix.lower() for file in path.rglob("*") if file.is_file()}
        if named & set(ENDS) and named & set(IMAGES):
            raise DataError(f"{path.name}: it has images and DICOM files; put them into folders of their own")
        return "dicom" if named & set(ENDS) else "images"
    ends = path.suffix.lower()
    if (
        ends == ".orc"
    ):  # one changed byte is enough for pyarrow's reader to take the process down, and its keys are here
        raise DataError(f"{path.name}: ORC files are not read; write it as Parquet first")
    if ends not in _ENDS:
        known = ", ".join(_ENDS)
        raise DataError(
            f"{path.name}: the name does not say what the file is; it ends in none of {known}: give --format"
        )
    return _ENDS[ends]


def read(path: Path, source: Source, malformed: Malformed | None = None) -> Iterator[Batch]:
    """Yields the batches of a file.

    Args:
        path: the file, or the folder of images.
        source: how it is written.
        malformed: takes lines with another number of fields; without it the first one ends the reading.

    Raises:
        DataError: it is not what `source` says; names the file, and the line where there are lines.
    """
    import pyarrow as pa

    regular(path)
    named = _ENDS.get(path.suffix.lower(), "csv") if path.is_file() else source.format
    if source.format == "csv" != named:
        raise DataError(
            f"{path.name}: by its name it is {named}, and by the schema csv, as where a schema says nothing; write "
            f'format = "{named}" below [source]'
        )
    reader: Callable[[Path, Source, Malformed | None], Iterator[Batch]] = {
        "csv": read_csv,
        "parquet": _parquet,
        "arrow": _arrow,
        "json": _json,
        "images": _images,
        "dicom": read_dicom,
        "sql": read_sql,
    }[source.format]
    try:
        yield from reader(path, source, malformed)
    except pa.ArrowException as error:
        if "UTF8" in str(error) or "UTF-8" in str(error):
            raise DataError(
                f"{path.name}: it has bytes that are no {source.encoding}; say the encoding, such as latin-1"
            ) from None
        raise DataError(f"{path.name}: {_without_values(str(error))}") from None
    except UnicodeError:
        raise DataError(
            f"{path.name}: it has bytes that are no {source.encoding}; say the encoding, such as latin-1"
        ) from None
    except OSError as error:
        raise DataError(f"{path.name}: it cannot be read: {_without_values(str(error))}") from None


def regular(path: Path) -> None:
    """Whether there is something that can be read twice, and ends.

    Raises:
        DataError: there is nothing, or a pipe or a device.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file")
    if not path.is_file() and not path.is_dir():
        raise DataError(f"{path}: it is no file; a pipe or a device cannot be read twice: write it to a file first")


def _without_values(text: str) -> str:
    """An error of a reader that quotes no row: such messages end in the text of the line."""
    first = text.splitlines()[0] if text else "it does not parse"
    return first.partition(": ")[0] if "Row #" in first or "Expected" in first else first.partition("'")[0].strip(" :")


def _parquet(path: Path, _: Source, __: Malformed | None) -> Iterator[Batch]:
    import pyarrow.parquet as pq

    first = 0
    with pq.ParquetFile(path) as file:
        about = file.metadata
        groups = [about.row_group(at) for at in range(about.num_row_groups)]
        # Wide rows come in smaller batches.
        widest = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=0)
        for batch in file.iter_batches(batch_size=max(1, min(_ROWS, _BYTES // max(1, widest)))):
            yield Batch(_columns(path, batch), first, batch.num_rows)
            first += batch.num_rows


def _columns(path: Path, batch: Any) -> dict[str, Any]:
    """Columns by name, after a look whether they are what the file says: nothing else checks offsets and UTF-8."""
    names = batch.schema.names
    if len(names) > _COLUMNS_MAX:
        raise DataError(f"{path.name}: it has {len(names)} columns, at most {_COLUMNS_MAX} are read")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path.name}: it has two columns {twice!r:.80}; give each a name of its own")
    batch.validate(full=True)
    return dict(zip(names, batch.columns, strict=True))


def _arrow(path: Path, _: Source, __: Malformed | None) -> Iterator[Batch]:
    import pyarrow as pa

    first = 0
    with pa.memory_map(str(path)) as raw:
        try:
            file = pa.ipc.open_file(raw)
            batches = (file.get_batch(at) for at in range(file.num_record_batches))
        except pa.ArrowInvalid:
            raw.seek(0)
            batches = iter(pa.ipc.open_stream(raw))
        for batch in batches:
            columns = _columns(path, batch)
            for at in range(0, batch.num_rows, _ROWS):
                part = {name: column.slice(at, _ROWS) for name, column in columns.items()}
                rows = min(_ROWS, batch.num_rows - at)
                yield Batch(part, first, rows)
                first += rows


def _json(path: Path, source: Source, malformed: Malformed | None) -> Iterator[Batch]:
    """JSON lines, a part of the file at a time: a later object may have keys that the first has not."""
    import pyarrow as pa

    first, known, held = 0, dict[str, None](), 0
    with path.open(encoding=signed(source.encoding)) as file:
        rows: list[dict[str, Any]] = []
        lines: list[int] = []
        for line, text in enumerate(iter(lambda: file.readline(_LINE + 1), ""), 1):
            if len(text) > _LINE:
                raise DataError(f"{path.name}: line {line} is longer than {_LINE >> 20} MiB")
            if not text.strip():
                continue
            try:
                row = json.loads(text)
                if not isinstance(row, dict):
                    raise TypeError
                json.dumps(row, ensure_ascii=False).encode()  # half a character is none
            except (ValueError, TypeError, RecursionError):
                if malformed is None:
                    raise DataError(f"{path.name}: line {line} is no JSON object") from None
                malformed.add(line)
                continue
            known |= dict.fromkeys(row)
            if len(known) > _COLUMNS_MAX:
                raise DataError(f"{path.name}: to line {line}, its objects have more than {_COLUMNS_MAX} keys")
            rows.append(row)
            lines.append(line)
            held += len(text)
            if len(rows) == _ROWS // 4 or held > _BYTES or len(rows) * len(known) > _CELLS:
                yield Batch({name: _mixed(pa, rows, name) for name in known}, first, len(rows), lines)
                first += len(rows)
                rows, lines, held = [], [], 0
        if rows:
            yield Batch({name: _mixed(pa, rows, name) for name in known}, first, len(rows), lines)


def _mixed(pa: Any, rows: list[dict[str, Any]], name: str) -> Any:
    """One column: of one type where all its values are, else as text."""
    values = [row.get(name) for row in rows]
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
        return pa.array(texts, pa.string())


def _images(path: Path, _: Source, malformed: Malformed | None) -> Iterator[Batch]:
    """A folder per label with images in it: columns ``file``, ``label`` and ``image`` (height, width, channels; u8)."""
    import numpy as np
    import pyarrow as pa

    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise DataError("images need Pillow: pip install 'aegis-flower[images]'") from None
    files = files_in(path, IMAGES, "image")
    shape: tuple[int, ...] | None = None
    first = 0
    # Large images come in smaller batches.
    step = max(1, min(512, _BYTES // int(np.prod(_shape(files) or (1,)))))
    for at in range(0, len(files), step):
        pixels, names, labels, numbers = [], [], [], []
        for number, file in enumerate(files[at : at + step], at + 1):
            try:
                with Image.open(file) as opened:
                    if opened.width * opened.height > _PIXELS:
                        raise OSError
                    image = np.asarray(opened if opened.mode in ("L", "RGB") else opened.convert("RGB"), dtype=np.uint8)
                str(file.relative_to(path)).encode()
            except Exception:  # noqa: BLE001 - decoders of images raise anything
                image = np.empty((0,), dtype=np.uint8)
            shape = shape or (image.shape if image.size else None)
            if image.size == 0 or image.shape != shape:
                if malformed is None:
                    raise DataError(
                        f"{path.name}: image {number} of {len(files)} is no image of the first one's size {shape}"
                    )
                malformed.add(number)
                continue
            pixels.append(image.reshape(-1))
            names.append(str(file.relative_to(path)))
            labels.append(file.parent.name if file.parent != path else None)
            numbers.append(number)
        if not pixels:
            continue
        flat = pa.array(np.concatenate(pixels))
        columns = {
            "file": pa.array(names, pa.string()),
            "label": pa.array(labels, pa.string()),
            "image": pa.FixedSizeListArray.from_arrays(flat, pixels[0].size),
        }
        yield Batch(columns, first, len(names), numbers)
        first += len(names)


def image_shape(path: Path) -> tuple[int, ...]:
    """Height, width and channels of the first image of a folder that is one."""
    if (shape := _shape(files_in(path, IMAGES, "image"))) is None:
        raise DataError(f"{path.name}: no image in it can be read")
    return shape


def _shape(files: list[Path]) -> tuple[int, ...] | None:
    from PIL import Image

    for file in files:
        with contextlib.suppress(Exception), Image.open(file) as opened:  # decoders of images raise anything
            if opened.width * opened.height <= _PIXELS:
                return (opened.height, opened.width, *(() if opened.mode == "L" else (3,)))
    return None

"""Files as batches of Arrow columns, in constant memory: CSV, Parquet, Arrow, JSON lines, folders of images.

CSV comes as text, whatever is in it: what a value is says the schema, and a value that does not fit is a bad row of known line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aegis_flower.data.schema import Source
from aegis_flower.errors import DataError
from aegis_flower.importer.reading.batches import Batch, Malformed
from aegis_flower.importer.reading.csv_file import read_csv, signed

_ROWS = 1 << 16
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
}
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def format_of(path: Path) -> str:
    """The format that a file's name says.

    Raises:
        DataError: it says none.
    """
    if path.is_dir():
        return "images"
    ends = path.suffix.lower()
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

    if not path.exists():
        raise DataError(f"{path}: there is no such file")
    reader: Callable[[Path, Source, Malformed | None], Iterator[Batch]] = {
        "csv": read_csv,
        "parquet": _parquet,
        "arrow": _arrow,
        "json": _json,
        "images": _images,
    }[source.format]
    try:
        yield from reader(path, source, malformed)
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error) or "UTF-8" in str(error):
            raise DataError(
                f"{path.name}: it has bytes that are no {source.encoding}; say the encoding, such as latin-1"
            ) from None
        raise DataError(f"{path.name}: {_without_values(str(error))}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: it cannot be read: {_without_values(str(error))}") from None


def _without_values(text: str) -> str:
    """An error of a reader that quotes no row: such messages end in the text of the line."""
    first = text.splitlines()[0] if text else "it does not parse"
    return first.partition(": ")[0] if "Row #" in first or "Expected" in first else first.partition("'")[0].strip(" :")


def _parquet(path: Path, _: Source, __: Malformed | None) -> Iterator[Batch]:
    import pyarrow.parquet as pq

    first = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS):
            yield Batch(dict(zip(batch.schema.names, batch.columns, strict=True)), first, batch.num_rows)
            first += batch.num_rows


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
            for at in range(0, batch.num_rows, _ROWS):
                part = batch.slice(at, _ROWS)
                yield Batch(dict(zip(part.schema.names, part.columns, strict=True)), first, part.num_rows)
                first += part.num_rows


def _json(path: Path, source: Source, malformed: Malformed | None) -> Iterator[Batch]:
    """JSON lines, a part of the file at a time: a later object may have keys that the first has not."""
    import pyarrow as pa

    first, known = 0, list[str]()
    with path.open(encoding=signed(source.encoding)) as file:
        rows: list[dict[str, Any]] = []
        lines: list[int] = []
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
                if not isinstance(row, dict):
                    raise TypeError
            except (ValueError, TypeError):
                if malformed is None:
                    raise DataError(f"{path.name}: line {line} is no JSON object") from None
                malformed.count += 1
                malformed.lines.append(line)
                continue
            known += [name for name in row if name not in known]
            rows.append(row)
            lines.append(line)
            if len(rows) == _ROWS // 4:
                yield Batch({name: _mixed(pa, rows, name) for name in known}, first, len(rows), lines)
                first += len(rows)
                rows, lines = [], []
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
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError:
        raise DataError("images need Pillow: pip install 'aegis-flower[images]'") from None
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGES)
    if not files:
        raise DataError(f"{path.name}: there is no image in it ({', '.join(IMAGES)})")
    shape: tuple[int, ...] | None = None
    first = 0
    for at in range(0, len(files), 512):
        pixels, names, labels, numbers = [], [], [], []
        for number, file in enumerate(files[at : at + 512], at + 1):
            try:
                with Image.open(file) as opened:
                    image = np.asarray(opened if opened.mode in ("L", "RGB") else opened.convert("RGB"), dtype=np.uint8)
            except (UnidentifiedImageError, OSError):
                image = np.empty((0,), dtype=np.uint8)
            shape = shape or (image.shape if image.size else None)
            if image.size == 0 or image.shape != shape:
                if malformed is None:
                    raise DataError(
                        f"{path.name}: image {number} of {len(files)} is no image of the first one's size {shape}"
                    )
                malformed.count += 1
                malformed.lines.append(number)
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
    """Height, width and channels of the first image of a folder."""
    from PIL import Image

    first = next(file for file in sorted(path.rglob("*")) if file.suffix.lower() in IMAGES)
    with Image.open(first) as opened:
        channels = () if opened.mode == "L" else (3,)
        return (opened.height, opened.width, *channels)

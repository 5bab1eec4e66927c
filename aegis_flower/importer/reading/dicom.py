"""DICOM: a folder of its files becomes pictures and the attributes beside them. pydicom reads; nothing here parses.

A file's header says how large its picture is: that is looked at before a pixel is decoded, so that a small file cannot
claim a huge one. Text of a header never gets into a message, since it names people.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from aegis_flower.data.schema import Source
from aegis_flower.errors import DataError
from aegis_flower.importer.reading.batches import Batch, Malformed
from aegis_flower.importer.reading.folder import files_in

if TYPE_CHECKING:
    from pydicom import Dataset

ENDS: Final = (".dcm", ".dicom", ".ima")
# Attributes that say nothing of who a person is, by their keywords (PS3.6). All others are left out of a draft: PS3.15, annex E,
# lists those that may identify somebody, and a file may say a name wherever there is room for text.
HARMLESS: Final = frozenset(
    {
        "BodyPartExamined",
        "BitsStored",
        "Columns",
        "ContrastBolusAgent",
        "EchoTime",
        "ExposureTime",
        "FlipAngle",
        "ImageLaterality",
        "KVP",
        "Laterality",
        "MagneticFieldStrength",
        "Modality",
        "PatientAge",
        "PatientPosition",
        "PatientSex",
        "PatientSize",
        "PatientWeight",
        "RepetitionTime",
        "Rows",
        "SliceThickness",
        "SpacingBetweenSlices",
        "ViewPosition",
        "XRayTubeCurrent",
    }
)
_TEXTS: Final = ("CS", "LO", "LT", "PN", "SH", "ST", "UC", "UI", "UT", "AE", "UR", "TM", "DT")
_NUMBERS: Final = ("DS", "FD", "FL")
_INTEGERS: Final = ("IS", "SL", "SS", "SV", "UL", "US", "UV")
_VALUES, _FILE, _ATTRIBUTES = 1 << 26, 1 << 30, 2000  # most values of a picture, bytes and attributes of a file
_BYTES = 64 << 20  # of a batch
_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_YEARS: Final = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}
_AGE: Final = re.compile(r"(\d{3})([DWMY])")


def read_dicom(path: Path, _: Source, malformed: Malformed | None) -> Iterator[Batch]:
    """A folder of DICOM files: ``file``, ``label`` (its folder), ``image`` and its attributes by keyword.

    Values of an ``image`` are those of the modality: stored ones by slope and intercept, such as Hounsfield units; as
    float32, (rows, columns), with frames before and colours after them. MONOCHROME1, in which small values are white, becomes
    MONOCHROME2 first. Attributes of one value become columns: numbers, days, texts, an age as years. Private ones, sequences and
    what has several values do not.
    """
    import pyarrow as pa

    files = files_in(path, ENDS, "DICOM file")
    shape: tuple[int, ...] | None = None
    known: dict[str, Any] = {}  # keywords, and the type of each, which is the standard's
    first, number = 0, 0
    while number < len(files):
        pixels: list[npt.NDArray[np.float32]] = []
        rows: list[dict[str, Any]] = []
        numbers: list[int] = []
        while number < len(files) and len(rows) < max(1, min(512, _BYTES // (4 * int(np.prod(shape or (1,)))))):
            file, number = files[number], number + 1
            try:
                image, about = _read(file, known)
                name = str(file.relative_to(path))
                name.encode()
            except DataError:
                raise
            except Exception:  # noqa: BLE001 - decoders raise anything, and quote what they read
                image, about, name = np.empty((0,), np.float32), {}, ""
            shape = shape or (image.shape if image.size else None)
            if image.size == 0 or image.shape != shape:
                if malformed is None:
                    raise DataError(
                        f"{path.name}: file {number} of {len(files)} has no picture of the first one's size {shape}"
                    )
                malformed.add(number)
                continue
            pixels.append(image.reshape(-1))
            rows.append(about | {"file": name, "label": file.parent.name if file.parent != path else None})
            numbers.append(number)
        if not rows:
            continue
        columns = {name: pa.array([row.get(name) for row in rows], kind) for name, kind in known.items()}
        columns |= {name: pa.array([row[name] for row in rows], pa.string()) for name in ("file", "label")}
        columns["image"] = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(pixels)), pixels[0].size)
        yield Batch(columns, first, len(rows), numbers)
        first += len(rows)


def dicom_shape(path: Path) -> tuple[int, ...]:
    """Shape of the first picture of a folder."""
    for file in files_in(path, ENDS, "DICOM file"):
        try:
            return _read(file, {})[0].shape
        except DataError:
            raise
        except Exception:  # noqa: BLE001, S112 - the next one may have a picture
            continue
    raise DataError(f"{path.name}: no file in it has a picture that can be read")


def _read(file: Path, known: dict[str, Any]) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
    """Picture and attributes of a file; new attributes are added to `known`."""
    pydicom = _pydicom()
    if file.stat().st_size > _FILE:
        raise ValueError("a file of that size")
    if pydicom.filereader.read_file_meta_info(file).get("TransferSyntaxUID") == _DEFLATED:
        raise ValueError("a file that is packed as a whole, and may unpack to any size")
    found = pydicom.dcmread(file, defer_size=1 << 20)
    values = _size(found)
    if not 0 < values <= _VALUES:
        raise ValueError("no picture, or one that is too large")
    _check_decoder(found)
    about = _attributes(found, known)
    image = found.pixel_array
    if image.size != values:
        raise ValueError("a picture of another size than the header says")
    return _modality(found, image), about


def _pydicom() -> Any:
    """pydicom, which keeps its remarks to itself: they quote values."""
    try:
        import pydicom
    except ModuleNotFoundError:
        raise DataError("DICOM needs pydicom: pip install 'aegis-flower[dicom]'") from None
    warnings.filterwarnings("ignore", module=r"pydicom\b")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    return pydicom


def _check_decoder(found: Dataset) -> None:
    """A decoder that is not installed is no fault of a row."""
    from pydicom.pixels.decoders.base import get_decoder

    packed = found.file_meta.TransferSyntaxUID
    if packed.is_compressed and packed.is_transfer_syntax:
        try:
            there = get_decoder(packed).is_available
        except NotImplementedError:
            there = False
        if not there:
            raise DataError(
                f"a file is compressed as {packed.name}, for which pydicom has no decoder here: "
                "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or unpack the files first"
            )


def _size(found: Dataset) -> int:
    return (
        int(found.Rows)
        * int(found.Columns)
        * int(found.get("NumberOfFrames") or 1)
        * int(found.get("SamplesPerPixel") or 1)
    )


def _modality(found: Dataset, image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The values that the modality measured (PS3.3, C.11.1)."""
    if found.PhotometricInterpretation == "PALETTE COLOR" or "ModalityLUTSequence" in found:
        raise ValueError("values that are places in a table")
    made = image.astype(np.float64)
    if found.PhotometricInterpretation == "MONOCHROME1":
        bits, signed = int(found.BitsStored), int(found.PixelRepresentation)
        made = (-1 if signed else 2**bits - 1) - made  # the largest stored value becomes the smallest
    slope, intercept = found.get("RescaleSlope"), found.get("RescaleIntercept")
    if slope is not None or intercept is not None:
        made = made * float(1 if slope is None else slope) + float(intercept or 0)
    if not np.isfinite(made).all():
        raise ValueError("values that are not finite")
    return made.astype(np.float32)


def _attributes(found: Dataset, known: dict[str, Any]) -> dict[str, Any]:
    """Attributes of one value, by keyword. One that does not read is missing: the picture is there nevertheless."""
    import pyarrow as pa

    types = dict.fromkeys(_TEXTS, pa.string()) | dict.fromkeys(_NUMBERS, pa.float64())
    types |= dict.fromkeys(_INTEGERS, pa.int64()) | {"DA": pa.date32(), "AS": pa.float64()}
    about: dict[str, Any] = {}
    for tag in list(found.keys())[:_ATTRIBUTES]:
        if tag.is_private or tag.group < 8:  # noqa: PLR2004 - file meta and commands
            continue
        try:
            element = found[tag]
            if element.VR not in types or element.VM > 1 or not element.keyword:
                continue
            about[element.keyword] = _value(element.VR, element.value)
        except Exception:  # noqa: BLE001, S112 - a value may be anything
            continue
        known.setdefault(element.keyword, types[element.VR])
    return {name: value for name, value in about.items() if _is(value, known[name])}


def _value(vr: str, value: Any) -> Any:
    if value is None or str(value) == "":
        return None
    if vr in _NUMBERS:
        return float(value)
    if vr in _INTEGERS:
        return int(value)
    if vr == "DA":
        import datetime as dt

        text = str(value)
        return dt.date(int(text[:4]), int(text[4:6]), int(text[6:8])) if len(text) == 8 else None  # noqa: PLR2004
    if vr == "AS":
        found = _AGE.fullmatch(str(value).strip())
        return int(found[1]) / _YEARS[found[2]] if found else None
    text = str(value)
    text.encode()
    return text


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of the type that its column has: files of one folder may say different ones."""
    import pyarrow as pa

    if value is None:
        return True
    try:
        pa.scalar(value, kind)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return False
    return True

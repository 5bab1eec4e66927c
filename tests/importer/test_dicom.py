"""Folders of DICOM files: the pictures that pydicom carries, in the encodings of many makers."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from aegis_engine import Vault
from aegis_flower.data.schema import Source
from aegis_flower.errors import DataError
from aegis_flower.importer import add, draft
from aegis_flower.importer.reading.batches import Malformed
from aegis_flower.importer.reading.files import format_of, read
from aegis_flower.terms import Terms

pydicom = pytest.importorskip("pydicom", reason="DICOM: pip install 'aegis-flower[dicom]'")
from pydicom.data import get_testdata_file  # noqa: E402 - only where pydicom is
from pydicom.uid import DeflatedExplicitVRLittleEndian  # noqa: E402 - as above

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
SAME = ["MR_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_implicit", "MR_small_expb", "MR_small_padded"]


def put(folder: Path, name: str, label: str = "", **attributes: object) -> Path:
    """A file of pydicom's, with other attributes."""
    found = pydicom.dcmread(get_testdata_file(name + ".dcm"))
    for key, value in attributes.items():
        setattr(found, key, value)
    path = folder / label / f"{len(list(folder.rglob('*.dcm'))):03d}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save_as(path)
    return path


def rows(folder: Path, malformed: Malformed | None = None) -> dict[str, list[object]]:
    batches = list(read(folder, Source(format="dicom"), malformed))
    names = batches[0].columns
    return {name: [v for batch in batches for v in batch.columns[name].to_pylist()] for name in names}


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """Thirty patients with a scan each, ill or well."""
    drawn = np.random.default_rng(0)
    base = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    for at in range(30):
        pixels = np.clip(base.pixel_array + drawn.integers(0, 9, base.pixel_array.shape), 0, 4000).astype("<i2")
        put(
            tmp_path / "scans",
            "MR_small",
            ("ill", "well")[at % 2],
            PatientID=f"MRN{at:04d}",
            PatientAge=f"{30 + at:03d}Y",
            PixelData=pixels.tobytes(),
        )
    return tmp_path / "scans"


def test_the_same_picture_in_six_encodings_is_the_same_row(tmp_path: Path) -> None:
    for name in SAME:
        shutil.copy(get_testdata_file(name + ".dcm"), tmp_path / f"{name}.dcm")
    assert format_of(tmp_path) == "dicom"
    found = rows(tmp_path)
    expected = pydicom.dcmread(get_testdata_file("MR_small.dcm")).pixel_array.reshape(-1)
    assert len(found["image"]) == len(SAME)
    for image in found["image"]:
        np.testing.assert_array_equal(np.array(image), expected)


def test_values_are_those_of_the_modality(tmp_path: Path) -> None:
    put(tmp_path, "CT_small")
    stored = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    units = stored.pixel_array * float(stored.RescaleSlope) + float(stored.RescaleIntercept)
    np.testing.assert_array_equal(np.array(rows(tmp_path)["image"][0]), units.astype(np.float32).reshape(-1))
    assert units.min() < -800  # air, in Hounsfield units: the intercept counts


def test_small_values_that_are_white_become_black(tmp_path: Path) -> None:
    put(tmp_path, "MR_small", PhotometricInterpretation="MONOCHROME2")
    put(tmp_path, "MR_small", PhotometricInterpretation="MONOCHROME1")
    black, white = (np.array(image) for image in rows(tmp_path)["image"])
    assert np.corrcoef(black, white)[0, 1] == pytest.approx(-1)


def test_attributes_are_numbers_days_and_texts(tmp_path: Path) -> None:
    put(tmp_path, "CT_small", PatientAge="018M", StudyDate="20040119", PatientWeight="77.5")
    put(tmp_path, "CT_small", PatientAge="old", StudyDate="", PatientWeight=None)
    found = rows(tmp_path)
    assert found["PatientAge"] == [1.5, None]
    assert [str(day) for day in found["StudyDate"]] == ["2004-01-19", "None"]
    assert found["PatientWeight"] == [77.5, None]
    assert found["Modality"] == ["CT", "CT"]


def test_a_draft_names_the_patient_and_leaves_out_what_may_identify(clinic: Path) -> None:
    columns = draft(clinic).schema.columns
    roles = {name: column.role for name, column in columns.items()}
    assert roles["PatientID"] == "subject"
    assert roles["label"] == "label"
    assert roles["image"] == roles["PatientAge"] == "feature"
    assert columns["image"].shape == (64, 64)
    told = {"PatientName", "StudyInstanceUID", "StudyDate", "InstitutionName", "file", "SOPInstanceUID"} & roles.keys()
    assert len(told) >= 4
    assert {roles[name] for name in told} == {"leave out"}


def test_a_folder_becomes_a_governed_data_set(clinic: Path, tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "vault", bytes(32))
    vault.govern("core")
    done = add(vault, clinic, "scans", draft(clinic).schema, Terms(purposes=["research"]), consent_given=True)
    assert sum(done.rows.values()) == sum(done.people.values()) == 30
    assert done.left_out == 0


@pytest.mark.parametrize("harm", ["no DICOM", "no picture", "cut", "another size", "huge", "palette"])
def test_what_is_no_picture_is_a_row_of_known_number(tmp_path: Path, harm: str) -> None:
    put(tmp_path, "MR_small")
    path = put(tmp_path, "MR_small", PatientName="Secret^Name")
    if harm == "no DICOM":
        path.write_bytes(b"nothing of Secret^Name")
    elif harm == "no picture":
        shutil.copy(get_testdata_file("rtplan.dcm"), path)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-3000])
    elif harm == "another size":
        shutil.copy(get_testdata_file("CT_small.dcm"), path)
    elif harm == "palette":
        shutil.copy(get_testdata_file("examples_palette.dcm"), path)
    else:
        found = pydicom.dcmread(path)
        found.Rows = found.Columns = 65535
        found.save_as(path)
    malformed = Malformed()
    assert len(rows(tmp_path, malformed)["image"]) == 1
    assert malformed.lines == [2]
    with pytest.raises(DataError, match="file 2 of 2") as error:
        rows(tmp_path)
    assert "Secret" not in str(error.value)


def test_a_compression_without_a_decoder_is_named_and_no_bad_row(tmp_path: Path) -> None:
    shutil.copy(get_testdata_file("MR_small_jpeg_ls_lossless.dcm"), tmp_path / "a.dcm")
    with pytest.raises(DataError, match=r"JPEG-LS Lossless.*pip install pylibjpeg"):
        rows(tmp_path, Malformed())


def test_a_small_file_that_unpacks_to_much_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "MR_small")
    found = pydicom.dcmread(put(tmp_path, "MR_small"))
    found.add_new(0x00091001, "OB", bytes(3 << 30 >> 4))
    found.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    found.save_as(tmp_path / "001.dcm")
    assert (tmp_path / "001.dcm").stat().st_size < 1 << 20
    malformed = Malformed()
    rows(tmp_path, malformed)
    assert malformed.lines == [2]


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    outside = put(tmp_path / "elsewhere", "MR_small")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.dcm").symlink_to(outside)
    with pytest.raises(DataError, match="DICOM file 1 of 1 is a link"):
        rows(tmp_path / "scans")


def test_an_empty_folder_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no DICOM file in it \(\.dcm"):
        rows(tmp_path)


def test_a_folder_of_two_formats_is_refused_and_none_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, "MR_small")
    (tmp_path / "beside.png").write_bytes(b"")
    with pytest.raises(DataError, match="images and DICOM files"):
        format_of(tmp_path)

"""Consent is nobody's side effect: of people and purposes that there are, in one spelling, and by this vault."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aegis.cli.output import exit_code
from aegis_engine.errors import AegisError, AuditTampered

from aegis_engine import ComplianceEngine, Request, Vault, audit_read
from aegis_flower.ingest import MissingValuesWarning, Terms, ingest, ingest_report

KEY = bytes(32)
PEOPLE = ["patient-7", "Jos\u00e9", "M\u00fcller", "O'Brien", "p1", "p2"]


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault.create(str(tmp_path / "v"), key=KEY)
    made.govern("core")
    return made


def take_in(vault: Vault, name: str, people: list[str], **more: Any) -> str:
    terms = Terms(**{"purposes": ["research"], **more})
    return ingest(vault, name, {"x": np.zeros((len(people), 2), np.float32)}, people, terms)


def rows(vault: Vault, dataset: str, purpose: str = "research") -> int:
    return int(ComplianceEngine(vault).explain(dataset, Request(action="train", purpose=purpose))["rows"])


CHANGES: dict[str, Callable[..., int]] = {
    "grant": lambda v, who, **k: v.consent_grant(who, "research", **k),
    "withdraw": lambda v, who, **k: v.consent_withdraw(who, "research", **k),
    "object": lambda v, who, **k: v.consent_object(who, **k),
    "restrict": lambda v, who, **k: v.consent_restrict(who, "research", **k),
    "lift": lambda v, who, **k: v.consent_lift(who, **k),
    "erase": lambda v, who, **k: v.consent_erase(who, **k),
}


# -- a new delivery -----------------------------------------------------------------------------------------------------


def test_a_second_delivery_does_not_grant_again_what_was_withdrawn(vault: Vault) -> None:
    first = take_in(vault, "a", PEOPLE)
    vault.consent_withdraw("p1", "research")
    report = ingest_report(vault, "b", {"x": np.zeros(2)}, ["p1", "p9"], Terms(purposes=["research"]))
    assert (rows(vault, first), rows(vault, report.dataset)) == (5, 1)
    assert (report.granted, report.withheld) == ({"research": 1}, {"research": 1})
    vault.consent_grant("p1", "research")
    assert (rows(vault, first), rows(vault, report.dataset)) == (6, 2)


def test_rows_of_the_erased_are_refused_whole_or_left_out_and_nothing_else_happens(vault: Vault) -> None:
    take_in(vault, "a", PEOPLE)
    vault.consent_erase("p1")
    before = (len(vault.list()), len(audit_read(str(Path(vault.path) / "consent"))))
    with pytest.raises(AegisError, match="1 rows are of people who are erased") as error:
        take_in(vault, "b", ["p1", "p9"])
    assert error.value.code == "AEG-P016"
    assert (len(vault.list()), len(audit_read(str(Path(vault.path) / "consent")))) == before
    columns = {"x": np.array([1.0, 2.0, 3.0])}
    report = ingest_report(vault, "b", columns, ["p8", "p1", "p9"], Terms(purposes=["research"]), erased="drop")
    assert (report.rows, report.erased_rows) == (2, 1)
    permit = ComplianceEngine(vault).authorize(report.dataset, Request(action="train", purpose="research"))
    out = np.zeros((2, 1))
    vault.records(permit).read_rows(np.arange(2, dtype=np.uint32), out)
    assert out.tolist() == [[1.0], [3.0]]


def test_data_that_do_not_rest_on_consent_bring_none(vault: Vault) -> None:
    take_in(vault, "a", ["p1"], basis="public_task")
    second = take_in(vault, "b", ["p1", "p2"])
    vault.consent_withdraw("p1", "research")
    assert rows(vault, second) == 1
    assert [r["event"] for r in audit_read(str(Path(vault.path) / "consent"))] == ["consent.grant", "consent.withdraw"]


# -- whom and what ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_person_is_the_same_in_every_spelling_that_means_the_same(vault: Vault, change: str) -> None:
    take_in(vault, "a", PEOPLE)
    for spelt in ("Jos\u00e9", " Jos\u00e9", "Jos\u00e9\n", unicodedata.normalize("NFD", "Jos\u00e9")):
        if change == "grant" or spelt == "Jos\u00e9" or change != "erase":
            assert CHANGES[change](vault, spelt) == 1
    assert CHANGES[change](vault, ["patient-7", "p1"]) == 2


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("nobody", ""),
        ("Patient-7", "lower case"),
        ("patient\u20107", "looks the same|hyphens|ordinary letters"),
        ("patient-07", ""),
        ("Muller", ""),
        ("jos\u00e9", "capital letter"),
        ("O\u2019Brien", "apostrophe|looks the same"),
    ],
)
def test_somebody_unknown_is_refused_with_a_hint_and_nothing_is_recorded(
    vault: Vault, change: str, given: str, hint: str
) -> None:
    dataset = take_in(vault, "a", PEOPLE)
    before = audit_read(str(Path(vault.path) / "consent"))
    with pytest.raises(AegisError, match=hint or "without a row") as error:
        CHANGES[change](vault, given)
    assert (error.value.code, exit_code(error.value)) == ("AEG-P014", 2)
    with pytest.raises(AegisError, match="1 of the people"):
        CHANGES[change](vault, ["p1", given])
    assert audit_read(str(Path(vault.path) / "consent")) == before
    assert rows(vault, dataset) == 6
    assert CHANGES[change](vault, given, unknown_ok=True) == 0


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize("given", ["", " ", "\0", "p1\0", "p\n1", "p1\u202e", "\u200bp1", "x" * 300])
def test_what_is_no_identifier_is_refused_even_when_unknown_people_are_taken(
    vault: Vault, change: str, given: str
) -> None:
    take_in(vault, "a", PEOPLE)
    for unknown_ok in (False, True):
        with pytest.raises(AegisError) as error:
            CHANGES[change](vault, given, unknown_ok=unknown_ok)
        assert (error.value.code, exit_code(error.value)) == ("AEG-P013", 2)


def test_a_purpose_of_no_data_set_is_refused_and_the_one_that_is_meant_is_named(vault: Vault) -> None:
    take_in(vault, "a", PEOPLE)
    with pytest.raises(AegisError, match='there is "research"') as error:
        vault.consent_withdraw("p1", "Research")
    assert error.value.code == "AEG-P014"
    with pytest.raises(AegisError) as error:
        vault.consent_withdraw("p1", "marketing")
    assert exit_code(error.value) == 2
    with pytest.raises(AegisError) as error:
        vault.consent_withdraw("p1", "")
    assert error.value.code == "AEG-P013"
    assert vault.consent_withdraw("p1", " research ") == 1


def test_a_call_says_how_many_rows_it_governs(vault: Vault) -> None:
    take_in(vault, "a", ["p1", "p1", "p2"])
    take_in(vault, "b", ["p1"], purposes=["care"])
    take_in(vault, "c", ["p3"], basis="public_task")
    assert vault.consent_withdraw("p1", "research") == 2
    assert vault.consent_object("p1") == 3
    assert vault.consent_object(["p1", "p2"], "research") == 3
    assert vault.consent_withdraw("p3", "research") == 0, "the rows rest on another basis"
    assert vault.consent_object("p3", "research") == 1


def test_many_people_are_one_record(vault: Vault) -> None:
    take_in(vault, "a", [f"p{i}" for i in range(300)])
    before = len(audit_read(str(Path(vault.path) / "consent")))
    assert vault.consent_withdraw_many([f"p{i}" for i in range(200)], "research") == 200
    assert len(audit_read(str(Path(vault.path) / "consent"))) == before + 1


# -- all or nothing -----------------------------------------------------------------------------------------------------

X = {"x": np.zeros(2, np.float32)}


@pytest.mark.parametrize(
    ("name", "columns", "people"),
    [
        ("clinic/patients", X, ["a", "b"]),
        ("../evil", X, ["a", "b"]),
        ("..", X, ["a", "b"]),
        (".hidden", X, ["a", "b"]),
        ("a\nb", X, ["a", "b"]),
        ("a\\b", X, ["a", "b"]),
        ("", X, ["a", "b"]),
        ("d", {}, ["a", "b"]),
        ("d", None, ["a", "b"]),
        ("d", np.zeros((2, 3)), ["a", "b"]),
        ("d", {"x": np.zeros(0)}, []),
        ("d", X, ["a", ""]),
        ("d", X, ["a", "b\0"]),
        ("d", X, ["a", "b\u202e"]),
        ("d", X, ["a", 7]),
        ("d", X, "ab"),
        ("d", {"x": np.array(["u", "v"])}, ["a", "b"]),
        ("d", {"x": np.zeros((2, 0))}, ["a", "b"]),
        ("d", {"x": np.float32(1)}, ["a", "b"]),
        ("d", {" x": np.zeros(2)}, ["a", "b"]),
        ("d", {"x\n": np.zeros(2)}, ["a", "b"]),
    ],
)
def test_nothing_is_stored_and_nobody_consents_when_something_is_wrong(
    vault: Vault, name: str, columns: Any, people: Any
) -> None:
    folder = Path(vault.path)
    with pytest.raises(AegisError) as error:
        ingest(vault, name, columns, people, Terms(purposes=["research"]))
    assert error.value.code == "AEG-D001"
    assert vault.list() == []
    assert audit_read(str(folder / "consent")) == []
    assert not list((folder / "objects").rglob("*.enc*"))


def test_missing_values_are_counted_by_column_and_taken_on_request(vault: Vault) -> None:
    columns = {"x": np.array([1.0, np.nan, np.inf]), "y": np.zeros(3)}
    people, terms = ["a", "b", "c"], Terms(purposes=["research"])
    with pytest.raises(AegisError, match="x: 2"):
        ingest(vault, "d", columns, people, terms, allow_missing=False)
    assert vault.list() == []
    with pytest.warns(MissingValuesWarning, match="x: 2"):
        report = ingest_report(vault, "d", columns, people, terms)
    assert report.missing == {"x": 2}
    ingest(vault, "e", columns, people, terms, allow_missing=True)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int16, np.uint16, np.float16, "M8[s]", "U3", object])
def test_a_kind_of_value_that_cannot_be_kept_is_refused_with_the_kinds_that_can(vault: Vault, dtype: Any) -> None:
    terms, columns = Terms(purposes=["research"]), {"x": np.zeros(2, dtype)}
    with pytest.raises(AegisError, match=r"d\.x: dtype .* cannot be stored; take f32, f64, i32, i64 or u8") as error:
        ingest(vault, "d", columns, ["a", "b"], terms)
    assert error.value.code == "AEG-D001"
    assert vault.list() == []


def test_a_data_frame_a_series_and_a_tensor_are_columns(vault: Vault) -> None:
    pandas, torch = pytest.importorskip("pandas"), pytest.importorskip("torch")
    frame = pandas.DataFrame({"age": [1.0, 2.0], "ill": [0, 1]})
    for name, columns in (("a", frame), ("b", {"age": frame["age"], "x": torch.ones(2, 3)})):
        dataset = ingest(vault, name, columns, ["a", "b"], Terms(purposes=["research"]))
        assert rows(vault, dataset) == 2


def test_plain_lists_are_columns(vault: Vault) -> None:
    dataset = ingest(vault, "d", {"x": [1.0, 2.0], "y": [1, 2]}, ["a", "b"], Terms(purposes=["research"]))
    assert rows(vault, dataset) == 2


# -- against a writer of files ------------------------------------------------------------------------------------------


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def forged(raw: bytes, body: dict[str, Any], time: str = "2026-11-28T00:00:00.000Z") -> bytes:
    """The log with one more record; it takes no key."""
    place, seq, head = 64, 0, hashlib.sha256(b"\0" + raw[:64]).digest()
    while place < len(raw):
        (length,) = struct.unpack_from("<I", raw, place)
        payload = raw[place + 56 : place + 56 + length]
        head = hashlib.sha256(b"\1" + struct.pack("<Q", seq) + head + payload).digest()
        seq, place = seq + 1, place + 56 + length
    payload = json.dumps({**body, "time": time}, sort_keys=True, separators=(",", ":")).encode()
    frame = struct.pack("<IQ", len(payload), seq) + head + bytes(4) + struct.pack("<I", crc32c(payload))
    return raw + frame + struct.pack("<I", crc32c(frame)) + payload


def pseudonyms(vault: Vault) -> dict[str, list[str]]:
    log = audit_read(str(Path(vault.path) / "consent"))
    return {r["event"]: r["subjects"] for r in log}


@pytest.mark.parametrize("proof", ["none", "wrong", "of another record"])
def test_a_forged_grant_or_lift_gives_nothing(vault: Vault, proof: str) -> None:
    dataset = take_in(vault, "a", PEOPLE)
    vault.consent_withdraw("p1", "research")
    vault.consent_object("p2", "research")
    log = Path(vault.path) / "consent" / "000001.log"
    who = pseudonyms(vault)
    real = audit_read(str(log.parent))[0]["proof"]
    told = {"none": {}, "wrong": {"proof": "00" * 32}, "of another record": {"proof": real}}[proof]
    raw = log.read_bytes()
    for event, subjects in (("grant", who["consent.withdraw"]), ("lift", who["consent.object"])):
        raw = forged(raw, {"event": f"consent.{event}", "purpose": "research", "subjects": subjects, **told})
    log.write_bytes(raw)
    assert rows(vault, dataset) == 4
    assert rows(Vault.open(vault.path, key=KEY), dataset) == 4


@pytest.mark.parametrize("event", ["withdraw", "object", "restrict", "erase"])
def test_a_forged_refusal_still_refuses(vault: Vault, event: str) -> None:
    dataset = take_in(vault, "a", ["p1", "p2"])
    vault.consent_withdraw("p1", "research")
    vault.consent_grant("p1", "research")
    log = Path(vault.path) / "consent" / "000001.log"
    purpose = None if event == "erase" else "research"
    who = pseudonyms(vault)["consent.withdraw"]
    log.write_bytes(forged(log.read_bytes(), {"event": f"consent.{event}", "purpose": purpose, "subjects": who}))
    assert rows(Vault.open(vault.path, key=KEY), dataset) == 1


def test_a_genuine_grant_written_again_after_a_withdrawal_gives_nothing(vault: Vault) -> None:
    dataset = take_in(vault, "a", ["p1"])
    grant = audit_read(str(Path(vault.path) / "consent"))[0]
    vault.consent_withdraw("p1", "research")
    log = Path(vault.path) / "consent" / "000001.log"
    body = {name: grant[name] for name in ("event", "purpose", "subjects", "proof")}
    log.write_bytes(forged(log.read_bytes(), body))
    assert rows(Vault.open(vault.path, key=KEY), dataset) == 0


@pytest.mark.parametrize("when", ["open", "use"])
@pytest.mark.parametrize("how", ["older", "older and longer", "gone"])
def test_an_older_consent_file_put_back_is_found(vault: Vault, tmp_path: Path, how: str, when: str) -> None:
    dataset = take_in(vault, "a", PEOPLE)
    folder = Path(vault.path) / "consent"
    shutil.copytree(folder, tmp_path / "older")
    vault.consent_withdraw("p1", "research")
    engine = ComplianceEngine(vault)
    shutil.rmtree(folder)
    if how != "gone":
        shutil.copytree(tmp_path / "older", folder)
    if how == "older and longer":
        log = folder / "000001.log"
        for _ in range(3):
            log.write_bytes(forged(log.read_bytes(), {"event": "consent.object", "purpose": "x", "subjects": []}))
    uses: dict[str, Callable[[], Any]] = {
        "open": lambda: rows(Vault.open(vault.path, key=KEY), dataset),
        "use": lambda: engine.authorize(dataset, Request(action="train", purpose="research")),
    }
    with pytest.raises(AegisError) as error:
        uses[when]()
    if when == "open":
        assert isinstance(error.value, AuditTampered)
        assert (error.value.code, exit_code(error.value)) == ("AEG-P015", 5)


# -- the day ------------------------------------------------------------------------------------------------------------


def test_the_day_is_nobodys_to_say_and_is_on_record(vault: Vault) -> None:
    dataset = take_in(vault, "a", PEOPLE, retention_days=0)
    engine = ComplianceEngine(vault)
    with pytest.raises(TypeError):
        engine.authorize(dataset, Request(action="train", purpose="research"), today=1)  # type: ignore[call-arg]
    engine.authorize(dataset, Request(action="train", purpose="research"))
    record = vault.audit_records("authorize")[-1]
    assert record["day"] == int(np.datetime64(record["time"][:10]).astype(int))


def test_a_clock_behind_the_newest_record_of_any_process_decides_nothing(vault: Vault) -> None:
    dataset = take_in(vault, "a", PEOPLE)
    log = Path(vault.path) / "audit" / "000001.log"
    log.write_bytes(forged(log.read_bytes(), {"event": "app.note"}, time="2999-01-01T00:00:00.000Z"))
    with pytest.raises(AegisError, match=r"engine\.clock"):
        ComplianceEngine(Vault.open(vault.path, key=KEY)).authorize(
            dataset, Request(action="train", purpose="research")
        )


# -- a holdout's own terms ----------------------------------------------------------------------------------------------


def test_an_evaluation_on_fewer_rows_or_people_than_the_terms_ask_for_gets_no_permit(vault: Vault) -> None:
    dataset = take_in(vault, "a.holdout", ["p1", "p2", "p3"], min_rows=50, min_subjects=1)
    with pytest.raises(AegisError, match=r"engine\.minimum") as error:
        ComplianceEngine(vault).authorize(dataset, Request(action="evaluate", purpose="research"))
    assert error.value.code == "AEG-P001"
    assert "50" not in str(error.value).replace(str(dataset), "")

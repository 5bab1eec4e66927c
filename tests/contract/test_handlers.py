"""Every message type of the app, sent to a node with the strictest terms: a release, a protocol message or a code comes back."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from by_hand import START, STRICT, ByHand, Server, config, model
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from aegis_flower import VaultClient, wire
from aegis_flower.door import Door, Outgoing, code_of
from aegis_flower.errors import AegisError, AppError, PolicyDenied
from aegis_flower.node import node

PACKAGE = Path(__file__).parents[2] / "aegis_flower"
CODE = re.compile(r"AEG-[A-Z]\d{3}")
SECRET = "patient-000042 has a tumour"
OURS = {
    "train.default",
    "evaluate.default",
    "query.aegis_advertise",
    "query.aegis_share",
    "train.aegis_masked",
    "query.aegis_commit",
    "query.aegis_unmask",
}


def heard(reply: Message) -> str:
    """The code of a reply, which must hold nothing else; empty where it is an answer of the protocol."""
    if reply.has_error():
        assert re.fullmatch(r"\[AEG-[A-Z]\d{3}\]", reply.error.reason), reply.error.reason
        return reply.error.reason[1:-1]
    records = reply.content
    assert list(records) == [wire.RECORD]
    record = records.config_records[wire.RECORD]
    assert set(record) == {"payload", "code", "reason", "audit-records", "audit-head", "name"}
    assert record["reason"] == ""
    assert not (record["code"] and record["payload"])
    assert record["code"] == "" or CODE.fullmatch(str(record["code"]))
    assert len(bytes(record["audit-head"])) in (0, 32)  # type: ignore[arg-type]
    return str(record["code"])


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ByHand]:
    nodes = ByHand(tmp_path_factory.mktemp("strict"), nodes=1, terms=STRICT, holdout=STRICT)
    yield nodes
    node.close_nodes()


def contents(nodes: ByHand) -> Iterator[tuple[str, RecordDict]]:
    """Valid, junk and extreme contents for any handler."""
    good = wire.Request(1, b"", "train", nodes.sigma).to_record()
    settings = ConfigRecord({"server-round": 1, "noise-multiplier": nodes.sigma})
    yield "empty", RecordDict()
    yield "plain", RecordDict({"arrays": model(START), "config": settings})
    yield "both", RecordDict({"arrays": model(START), "config": settings, "aegis": good})
    yield (
        "junk payload",
        RecordDict({"arrays": model(START), "aegis": wire.Request(1, b"junk", "train", nodes.sigma).to_record()}),
    )
    yield "evaluate", RecordDict({"arrays": model(START), "aegis": wire.Request(1, b"", "evaluate").to_record()})
    yield "no model", RecordDict({"aegis": good})
    yield "a model of the old API", RecordDict({"fitins.parameters": model(START), "fitins.config": ConfigRecord({})})
    yield "metrics", RecordDict({"aegis": good, "arrays": model(START), "m": MetricRecord({"a": 1})})
    yield "two models", RecordDict({"arrays": model(START), "more": model(START), "aegis": good})
    nan = [np.full((2, 4), np.nan, np.float32), START[1]]
    yield "nan", RecordDict({"arrays": model(nan), "aegis": good, "config": settings})
    for shape in ((), (0,), (4, 2), (1, 2, 4)):
        yield (
            f"shape {shape}",
            RecordDict({"arrays": model([np.zeros(shape, np.float32)]), "aegis": good, "config": settings}),
        )
    lie = ArrayRecord({"0": Array("float32", (2**40, 2**20), "numpy.ndarray", b"\x93NUMPY\x01\x00v\x00")})
    yield "a lying shape", RecordDict({"arrays": lie, "aegis": good, "config": settings})
    pickled = Array("object", (1,), "numpy.ndarray", b"\x93NUMPY\x01\x00v\x00" + b" " * 200)
    yield "objects", RecordDict({"arrays": ArrayRecord({"0": pickled}), "aegis": good, "config": settings})
    extreme: list[Any] = [
        0,
        -1,
        2**62,
        -(2**62),
        1e300,
        -1e300,
        1e-300,
        float("nan"),
        float("inf"),
        "x",
        b"x",
        True,
        [1],
        ["a"],
    ]
    for field in ("round", "payload", "task", "noise-multiplier", "evaluate", "unknown"):
        for value in extreme:
            yield (
                f"{field}={value!r}",
                RecordDict({"arrays": model(START), "aegis": ConfigRecord({**good, field: value})}),
            )
    for field in ("server-round", "noise-multiplier", "proximal-mu", "lr", "round"):
        for value in extreme:
            yield (
                f"plain {field}={value!r}",
                RecordDict({"arrays": model(START), "config": ConfigRecord({**settings, field: value})}),
            )


def test_the_app_registers_these_message_types_and_each_behind_a_door(strict: ByHand) -> None:
    assert set(strict.app.handlers) == OURS
    assert strict.app.handlers == strict.app._registered_funcs


@pytest.mark.parametrize("handler", sorted(OURS))
def test_a_node_with_the_strictest_terms_answers_anything_with_a_code_or_a_message_of_the_protocol(
    strict: ByHand, handler: str
) -> None:
    kind = handler.removesuffix(".default")
    strict.new_run(7)
    for name, content in contents(strict):
        reply = strict.send(1, kind, content)
        code = heard(reply)
        assert code != "AEG-X000", name
        if kind != wire.ADVERTISE:
            assert code, f"{kind} was answered: {name}"
    assert strict.vault(1).audit_records("release") == []
    assert strict.vault(1).audit_records("privacy.reserve") == []


def test_numbers_rows_paths_and_names_stay_in_the_nodes_log(strict: ByHand, caplog: pytest.LogCaptureFixture) -> None:
    strict.new_run(8)
    assert heard(strict.plain(1, "evaluate")) == "AEG-N011"
    *_, (round_, step, code, words) = node.refusals(8, 1)  # of this process: other tests have such a node, too
    assert (round_, step, code) == (1, "evaluate", "AEG-N011")
    assert "require_secure_aggregation" in words
    assert words in caplog.text
    strict.contexts[1].node_config["aegis-min-chort"] = 3
    assert heard(strict.plain(1, "evaluate")) == "AEG-O001"
    del strict.contexts[1].node_config["aegis-min-chort"]
    assert "did you mean aegis-min-cohort?" in node.refusals(8, 1)[-1][3]
    assert node.refusals(8, 2) == []


def test_a_handler_that_is_registered_later_gets_the_door_and_can_return_nothing_else(strict: ByHand) -> None:
    @strict.app.query("mine")
    def mine(message: Message, context: Context) -> Message:
        return Message(RecordDict({"rows": MetricRecord({"n": 12})}), reply_to=message)

    @strict.app.train("raises")
    def raises(message: Message, context: Context) -> Outgoing:
        raise ValueError(SECRET)

    try:
        assert isinstance(strict.app.handlers["query.mine"], Door)
        assert heard(strict.send(1, "query.mine", RecordDict())) == "AEG-F001"
        assert heard(strict.send(1, "train.raises", RecordDict())) == "AEG-X000"
        with pytest.raises(AppError, match="mods"):
            strict.app.query("other", mods=[lambda m, c, n: n(m, c)])
        strict.app._registered_funcs["query.past"] = lambda m, c: Message(RecordDict(), reply_to=m)
        assert heard(strict.send(1, "query.past", RecordDict())) == "AEG-F001"
        assert heard(strict.send(1, "query.nobody", RecordDict())) == "AEG-F001"
    finally:
        for name in ("query.mine", "train.raises", "query.past"):
            strict.app._registered_funcs.pop(name)


def test_an_outgoing_is_made_by_nobody_but_the_door() -> None:
    with pytest.raises(TypeError):
        Outgoing(object(), payload=b"rows")
    with pytest.raises(TypeError):
        type("Mine", (Outgoing,), {})
    for forged in (None, b"x", object()):
        with pytest.raises(TypeError):
            Outgoing.update(forged, START, model(START))  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            Outgoing.counts(forged)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            Outgoing.protocol(forged, "share", b"")  # type: ignore[arg-type]
    context = Context(1, 1, {"aegis-vault": "/srv/vault"}, RecordDict(), {})
    with pytest.raises(AppError, match="only releases leave"):
        Outgoing.without_vault(context, RecordDict())


class Quiet(Exception):
    """An error whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError(SECRET)


def _coded(code: Any) -> AegisError:
    error = AegisError(SECRET)
    error.code = code
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError(SECRET), "AEG-X000"),
        (KeyError(SECRET), "AEG-X000"),
        (AegisError(SECRET), "AEG-X000"),
        (_coded(SECRET), "AEG-X000"),
        (_coded("AEG-X000 " + SECRET), "AEG-X000"),
        (_coded(42), "AEG-X000"),
        (PolicyDenied(SECRET), code_of(PolicyDenied(SECRET))),
        (SystemExit(SECRET), "AEG-X000"),
        (type("Panic", (BaseException,), {})(SECRET), "AEG-X000"),
        (MemoryError(SECRET), "AEG-X000"),
        (Quiet(), "AEG-X000"),
    ],
    ids=repr if False else None,
)
def test_whatever_an_app_raises_the_server_reads_a_code(
    strict: ByHand, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    def raising(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(strict.client, "__init__", raising)
    for kind in sorted(OURS):
        content = RecordDict({"arrays": model(START), wire.RECORD: wire.Request(1).to_record()})
        assert heard(strict.send(1, kind.removesuffix(".default"), content)) == code
    if not isinstance(error, Quiet):
        assert SECRET in caplog.text


def test_the_words_of_a_foreign_error_say_where_in_the_app_it_came_up(
    strict: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any) -> Any:
        return int("a number")

    monkeypatch.setattr(strict.client, "__init__", wrong)
    strict.new_run(9)
    assert heard(strict.plain(1, "evaluate")) == "AEG-X000"
    words = node.refusals(9, 1)[-1][3]
    assert words.startswith("ValueError: ")
    assert re.search(r"test_handlers\.py:\d+ in wrong\)", words)


def test_the_record_of_refusals_is_bounded(strict: ByHand) -> None:
    logging.disable(logging.WARNING)
    try:
        strict.new_run(10)
        for _ in range(300):
            strict.send(1, "query.nobody", RecordDict())
    finally:
        logging.disable(logging.NOTSET)
    assert len(node.refusals(10, 1)) == 256


def test_a_client_that_overrides_how_releases_are_made_is_refused(tmp_path: Path) -> None:
    class Loud(VaultClient):
        def evaluate(self, parameters: Any, config: Any) -> Any:
            return 0.0, 12, {"accuracy": 1.0}

    nodes = ByHand(tmp_path, nodes=1, client=Loud)
    for kind in ("train", "evaluate"):
        assert heard(nodes.plain(1, kind)) == "AEG-F001"
    assert "overrides evaluate()" in node.refusals(1, 1)[-1][3]


# -- the source: nobody but the door makes a message ------------------------------------------------------------------------


def _of_the_node() -> list[Path]:
    """Every file of the package but those behind its links, which belong to the server and to simulations."""
    linked = {"strategies", "configs", "simulations"}
    found = [f for f in PACKAGE.rglob("*.py") if f.relative_to(PACKAGE).parts[0] not in linked]
    assert {PACKAGE / "door.py", PACKAGE / "client" / "handlers.py"} <= set(found)
    return sorted(found)


def _calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    for file in _of_the_node():
        for found in ast.walk(ast.parse(file.read_text())):
            if isinstance(found, ast.Call) and ast.unparse(found.func).rpartition(".")[2] == name:
                yield file.stem, found


def test_no_file_of_the_node_but_the_door_makes_a_reply() -> None:
    replies = {file for file, call in _calls("Message") if any(k.arg == "reply_to" for k in call.keywords)}
    assert replies == {"door"}


def test_every_registered_function_is_declared_to_return_an_outgoing_and_apps_are_made_in_one_place() -> None:
    registered = []
    for file in _of_the_node():
        for found in ast.walk(ast.parse(file.read_text())):
            if isinstance(found, ast.FunctionDef) and any(
                re.match(r"app\.(train|evaluate|query)\(", ast.unparse(d)) for d in found.decorator_list
            ):
                registered.append(file.stem)
                assert found.returns is not None
                assert ast.unparse(found.returns) == "Outgoing", f"{file.stem}.{found.name}"
                for part in ast.walk(found):
                    assert not (isinstance(part, ast.Call) and ast.unparse(part.func) in {"Message", "RecordDict"})
    assert registered == ["handlers"] * len(OURS)
    assert [file for file, _ in _calls("DoorApp")] == ["app"]
    assert [file for file, call in _calls("ClientApp")] == []


def test_an_outgoing_has_its_three_makers_and_plain_clients_theirs() -> None:
    makers = {file for file, call in _calls("cls") if call.args and ast.unparse(call.args[0]) == "_MADE"}
    assert makers == {"door"}
    assert {file for file, _ in _calls("without_vault")} == {"handlers"}


def test_a_masked_round_of_strict_nodes_still_works(tmp_path: Path) -> None:
    nodes = ByHand(tmp_path, config())
    found = nodes.round_(Server(nodes.cfg), [1, 2, 3], noise_multiplier=nodes.sigma)
    assert found.codes == {""}
    assert sorted(found.total.contributors) == [1, 2, 3]

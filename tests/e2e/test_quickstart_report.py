"""The quickstart as configured, and its report: within the budget, by the schema, with the heads of the logs."""

import json
from pathlib import Path

import jsonschema
from hospitals import HOSPITALS, is_initial

import aegis_flower
from aegis_engine import Vault, audit_verify
from aegis_flower import (
    compose,
)
from aegis_flower.report import load_report


def test_the_quickstart_as_configured_beats_the_majority_class_within_its_budget(run):
    cfg = compose("quickstart")
    report, folder, _ = run(f"strategy.rounds={cfg.strategy.rounds}")
    assert report.run.status == "finished"
    assert report.run.private
    assert len(report.rounds) == cfg.strategy.rounds >= 10
    assert report.results.accuracy > report.results.majority_class_accuracy + 0.1
    assert [c.node for c in report.clients] == HOSPITALS
    for client in report.clients:
        assert client.audit.verified
        assert 0 < client.epsilon <= cfg.privacy.epsilon
        assert client.rounds_taken_part == cfg.strategy.rounds
        assert client.steps == cfg.total_steps
        assert not client.refusals
    assert not is_initial(folder)


def test_the_audit_head_of_the_report_is_the_head_of_the_log(run):
    report, folder, _ = run()
    for client in report.clients:
        kept = (client.audit.records, bytes.fromhex(client.audit.head))
        result = audit_verify(str(folder / "vaults" / client.node / "audit"), expect=kept)
        assert (result["records"], result["head"]) == (client.audit.records, client.audit.head)


def test_report_json_conforms_to_the_published_schema_and_loads_again(run):
    report, folder, _ = run()
    schema = json.loads((Path(aegis_flower.__file__).parent / "report.schema.json").read_text())
    written = json.loads((folder / "report.json").read_text())
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(written)
    assert load_report(folder / "report.json") == report


def test_the_audit_head_a_node_reports_has_what_its_other_processes_recorded(tmp_path):
    # Under Ray each message of a node may meet another process, each with its own open vault.
    one = Vault.create(str(tmp_path / "vault"), key_file=str(tmp_path / "key"), make_key=True)
    other = Vault.open(str(tmp_path / "vault"), key_file=str(tmp_path / "key"))
    before = one.audit_head()
    other.record("test.event", {"n": 1})
    assert one.audit_head() == other.audit_head() != before

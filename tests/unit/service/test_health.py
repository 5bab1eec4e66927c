"""The health endpoint: Prometheus' text format to the letter, on loopback, for the machine itself."""

from __future__ import annotations

import http.client
import json
import re
from collections import Counter

import pytest

from aegis_flower.errors import NodeError
from aegis_flower.service.health import Health, metric
from aegis_flower.service.shown import Shown, metrics_text, status_of

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
VALUE = r"-?(?:[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?|\+Inf|NaN)"
SAMPLE = re.compile(rf"({NAME})(?:\{{{LABEL}(?:,{LABEL})*\}})? {VALUE}")


def shown(**more):
    counts = Counter(
        {
            ("event", "tasks"): 9,
            ("answer", "share"): 4,
            ("permit", "allow"): 2,
            ("permit", "deny"): 1,
            ("release", "allow"): 2,
            ("refusal", "AEG-N019"): 3,
        }
    )
    said = {
        "name": "north",
        "vault": "id",
        "address": "127.0.0.1:9094",
        "since": 1.5,
        "reached": 2.0,
        "working": ("masked", "7", 3.0),
        "seconds": 0.25,
        "paused": False,
        "waiting": 1,
        "counts": counts,
    }
    return Shown(**{**said, **more})


def parsed(text):
    """Samples by name and labels; refuses whatever is not the format 0.0.4, section by section."""
    assert text.endswith("\n")
    found, kinds, current = {}, {}, None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            current = line.split(" ", 3)[2]
            assert current not in kinds, "each metric has one section"
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current
            assert kind in ("counter", "gauge")
            kinds[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == current
            key, _, value = line.rpartition(" ")
            assert key not in found, "each sample stands once"
            found[key] = float(value)
    assert all(name.endswith("_total") == (kind == "counter") for name, kind in kinds.items())
    return found


def test_metrics_are_in_prometheus_text_format_and_say_what_the_status_says():
    found = parsed(metrics_text(shown()))
    assert found['aegis_node_permits_total{decision="allow"}'] == 2
    assert found['aegis_node_permits_total{decision="deny"}'] == 1
    assert found['aegis_node_refusals_total{code="AEG-N019"}'] == 3
    assert found['aegis_node_answers_total{step="share"}'] == 4
    assert (found["aegis_node_supernode_up"], found["aegis_node_working"], found["aegis_node_paused"]) == (1, 1, 0)
    assert (found["aegis_node_start_time_seconds"], found["aegis_node_task_seconds_total"]) == (1.5, 0.25)
    found = parsed(metrics_text(shown(reached=None, working=None, paused=True)))
    assert (found["aegis_node_supernode_up"], found["aegis_node_working"], found["aegis_node_paused"]) == (0, 0, 1)


def test_labels_and_help_are_escaped():
    text = metric("m", "gauge", "a\nb\\c", [({"l": 'q"\\\n'}, 1)])
    assert text == '# HELP m a\\nb\\\\c\n# TYPE m gauge\nm{l="q\\"\\\\\\n"} 1\n'
    assert parsed(text)


def test_the_status_is_json_of_names_codes_and_numbers():
    said = json.loads(json.dumps(status_of(shown())))
    assert said["task"] == {"step": "masked", "run": "7", "since": 3.0}
    assert said["refusals"] == {"AEG-N019": 3}


@pytest.fixture
def health():
    well = [True]
    one = Health(("127.0.0.1", 0), lambda: status_of(shown()), lambda: metrics_text(shown()), lambda: well[0])
    one.well = well
    yield one
    one.close()


def ask(health, path, method="GET", host=None):
    connection = http.client.HTTPConnection("127.0.0.1", health.port, timeout=30)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def test_pages_are_served_with_their_types(health):
    answer, text = ask(health, "/metrics")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert parsed(text)
    answer, text = ask(health, "/status")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert json.loads(text)["node"] == "north"
    assert ask(health, "/nothing")[0].status == 404


def test_health_is_200_or_503(health):
    assert ask(health, "/health")[0].status == 200
    health.well[0] = False
    assert ask(health, "/health")[0].status == 503


def test_nothing_but_get_is_answered(health):
    for method in ("POST", "PUT", "DELETE"):
        assert ask(health, "/health", method)[0].status == 501


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9464", "127.0.0.1.evil.example", ""])
def test_a_page_of_another_name_cannot_read_it(health, host):
    assert ask(health, "/status", host=host or " ")[0].status == 403


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:9464"])
def test_names_of_the_machine_itself_may(health, host):
    assert ask(health, "/status", host=host)[0].status == 200


def test_a_port_that_is_taken_is_said_so(health):
    with pytest.raises(NodeError, match="choose another port"):
        Health(("127.0.0.1", health.port), dict, str, lambda: True)

"""What is made from the code: the report's schema and the tables of the documents.

python tests/contract/generated.py          writes them (`make generated`); test_generated.py compares

A table stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; the text around it is written by hand.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from aegis_flower.configs.keys import Key, Within, keys, kind_name
from aegis_flower.configs.schema import Groups
from aegis_flower.node.keys import KEYS, Setting
from aegis_flower.report import model
from aegis_flower.service.keys import SERVICE_KEYS

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "aegis_flower" / "report.schema.json"
HEAD = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": f"urn:aegis-flower:report:{model.SCHEMA_VERSION}",
    "title": "AEGIS run report",
    "description": (
        "What one federated run did, told by the server and the clients that took part. Every field is always present; null "
        "means that the value does not exist or is not known. It is evidence for a review, not a statement that a law or a "
        "policy is met."
    ),
}
FIRST = ("type", "const", "enum", "description", "required", "additionalProperties", "properties")


# -- the schema of the report -----------------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    """The schema of report.json: every field required, each record written out where it stands."""
    made = TypeAdapter(model.RunReport).json_schema()
    fields = made["properties"]
    made["properties"] = {"schema_version": fields.pop("schema_version"), **fields}  # first in the file, too
    body = _plain(made, made.pop("$defs"))
    return {**HEAD, **{name: value for name, value in body.items() if name not in HEAD}}


def _plain(node: Mapping[str, Any], records: Mapping[str, Any]) -> dict[str, Any]:
    """A node without references, titles and defaults; ``X or null`` in one type where JSON Schema can say it so."""
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        node = {**records[name], "description": _sentence(getattr(model, name)), "additionalProperties": False, **node}
    found = {name: value for name, value in node.items() if name not in {"$ref", "title", "default"}}
    if "anyOf" in found:
        found |= _or_null(_plain(found.pop("anyOf")[0], records), found)
    if "enum" in found or "const" in found:
        found.pop("type", None)
    if "properties" in found:
        found["properties"] = {name: _plain(each, records) for name, each in found["properties"].items()}
        found["required"] = list(found["properties"])
    for name in ("items", "additionalProperties"):
        if isinstance(found.get(name), dict):
            found[name] = _plain(found[name], records)
    return {
        name: found[name] for name in sorted(found, key=lambda n: (FIRST.index(n) if n in FIRST else len(FIRST), n))
    }


def _or_null(inner: dict[str, Any], outer: Mapping[str, Any]) -> dict[str, Any]:
    if "properties" in inner:
        return {"anyOf": [{"type": "null"}, inner]}
    if "enum" in inner:
        return {**inner, "enum": [*inner["enum"], None], **outer}
    return {**inner, "type": [inner["type"], "null"], **outer}


def _sentence(record: type) -> str:
    """The first sentence of a record's docstring, as plain text."""
    first = re.split(r"(?<=\.)\s", inspect.getdoc(record) or "", maxsplit=1)[0]
    return " ".join(first.replace("``", "").split())


def schema_text() -> str:
    """As it is in the file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


# -- the tables of the documents --------------------------------------------------------------------------------------


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    """A table of Markdown."""
    cells = [head, ("---",) * len(head), *rows]
    return (
        "\n".join("| " + " | ".join(each) + " |" for each in cells)
        .replace("| --- |", "|---|")
        .replace(" --- |", "---|")
    )


def report_fields() -> str:
    """A table for each record of the report."""
    parts = []
    for name, node in _records("", schema()):
        rows = [(f"`{key}`", _type(each), each["description"]) for key, each in node["properties"].items()]
        parts.append((f"### `{name}`\n\n" if name else "") + table(("field", "type", "meaning"), rows))
    return "\n\n".join(parts)


def _records(name: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield name, node
    for key, each in node["properties"].items():
        many = each.get("type") == "array"
        inner = each["items"] if many else each.get("anyOf", [None, each])[1]
        if "properties" in inner:
            yield from _records(f"{name}.{key}".removeprefix(".") + "[]" * many, inner)


def _type(node: Mapping[str, Any]) -> str:
    """The type of a field, in words."""
    if "anyOf" in node:
        return f"{_type(node['anyOf'][1])} or null"
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{each}`" if each is not None else "null" for each in node["enum"])
    kind, *null = node["type"] if isinstance(node["type"], list) else [node["type"]]
    said = {"string": "text", "number": "float", "integer": "int", "boolean": "bool", "object": "object"}.get(
        kind, kind
    )
    if kind == "array":
        said = f"list of {_type(node['items'])}"
    elif isinstance(node.get("additionalProperties"), dict):
        said = f"object of {_type(node['additionalProperties'])}"
    if "maximum" in node:
        said += f", {node['minimum']:g} to {node['maximum']:g}"
    elif "minimum" in node:
        said += f", at least {node['minimum']:g}"
    return said + (", or null" if "minimum" in node else " or null") * bool(null)


def config_keys(group: str) -> str:
    """The table of a group of the configuration, or of the keys in none (``""``)."""
    found = [key for key in keys(Groups) if key.path.rpartition(".")[0] == group]
    rows = [(f"`{key.path}`", _kind(key), _value(key.default), key.says, key.guarantee) for key in found]
    return table(("key", "type", "default", "meaning", "guarantee"), rows)


def _kind(key: Key) -> str:
    """Type and range, or the names there are."""
    if key.names:
        return ", ".join(f"`{name}`" for name in key.names)
    kind = kind_name(key.kind).replace("list[", "list of ").replace("]", "")
    if key.within is None:
        return kind.replace(" | None", " or null")
    return f"{kind.removesuffix(' | None')}, {_range(key.within)}" + ", or null" * kind.endswith("None")


def _range(within: Within) -> str:
    low, high = (str(each) if isinstance(each, int) else _float(each) for each in (within.low, within.high))
    if within.open_low:
        return f"above {low}, " + (f"below {high}" if within.open_high else f"to {high}")
    return f"{low} to " + (f"below {high}" if within.open_high else high)


def _float(value: float) -> str:
    return re.sub(r"e([-+])0*", lambda found: "e" + found[1].strip("+"), f"{value:g}")


def _value(value: Any) -> str:
    """A default as YAML has it."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, float):
        return _float(value) if abs(value) < 1e-3 and value else str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return (f"`{value}`" if value else "empty") if isinstance(value, str) else str(value)


def node_keys() -> str:
    """The table of the node config."""
    return _settings(KEYS)


def service_keys() -> str:
    """The table of what NODE.TOML has beside the node config."""
    return _settings(SERVICE_KEYS)


def _settings(keys: dict[str, Setting]) -> str:
    rows = [(f"`{name}`", each.kind, _default(each), each.says) for name, each in keys.items()]
    return table(("key", "type", "default", "meaning"), rows)


def _default(setting: Setting) -> str:
    return setting.otherwise if setting.default is None else _value(setting.default)


TABLES: dict[tuple[str, str], Callable[[], str]] = {
    ("docs/REPORT.md", "report fields"): report_fields,
    ("docs/CONFIG.md", "node config"): node_keys,
    ("docs/NODE.md", "node service"): service_keys,
    **{
        ("docs/CONFIG.md", f"config {group}".strip()): functools.partial(config_keys, group)
        for group in dict.fromkeys(key.path.rpartition(".")[0] for key in keys(Groups))
    },
}


def between(text: str, name: str, made: str) -> str:
    """`text` with `made` between the marks of `name`."""
    start, end = f"<!-- generated: {name} -->", "<!-- end -->"
    if text.count(start) != 1:
        raise ValueError(f"{start} must stand there once")
    head, rest = text.split(start)
    return f"{head}{start}\n\n{made}\n\n{end}{rest.partition(end)[2]}"


def files() -> dict[Path, str]:
    """Every file that is made or holds something made, as it should be."""
    found = {SCHEMA: schema_text()}
    for (name, mark), make in TABLES.items():
        path = ROOT / name
        found[path] = between(found.get(path) or path.read_text(), mark, make())
    return found


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)

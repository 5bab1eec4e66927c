"""Reading and writing of plans as YAML: strict, with the file, the column and the key in every refusal."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Collection, Hashable, Mapping
from dataclasses import fields
from datetime import date
from pathlib import Path
from types import NoneType
from typing import Any, Final, cast, get_args, get_origin, get_type_hints

import yaml

from aegis_flower.errors import ConfigError
from aegis_flower.features.columns import Feature
from aegis_flower.features.label import Label, Weight
from aegis_flower.features.plan import TRANSFORMS, VERSION, Plan

PACKAGED: Final = Path(__file__).parents[1] / "configs" / "features"
_SUFFIXES: Final = (".yaml", ".yml")
_LARGEST: Final = 16 << 20  # bytes of a file
_KEYS: Final = ("version", "about", "columns", "label", "weight", "inputs")


class _Strict(yaml.SafeLoader):  # type: ignore[misc]  # yaml comes without types
    """Without repeated keys, of which the last would win, and without anchors, which can be made to explode."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"line {self.peek_event().start_mark.line + 1} has an alias; write the value again")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key {key.value!r:.80} is there twice")
            seen.add(key.value)
        return cast("dict[Hashable, Any]", super().construct_mapping(node, deep))


def packaged() -> list[str]:
    """Names of the plans that come with AEGIS."""
    return sorted(file.stem for file in PACKAGED.glob("*.yaml"))


def load(name: str) -> Plan:
    """A plan by its packaged name, or by the path of a file (with a slash, or ending in ``.yaml``).

    Raises:
        ConfigError: there is no such plan, or it means nothing; names file, column and key.
    """
    if "/" in name or name.endswith(_SUFFIXES):
        file = Path(name)
    else:
        file = PACKAGED / f"{name}.yaml"
        if not file.is_file():
            close = difflib.get_close_matches(name, packaged(), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(
                "data.features",
                f"{name!r} is not one of {', '.join(packaged())}, nor a path such as ./{name}.yaml{hint}",
            )
    try:
        with file.open("rb") as opened:
            held = opened.read(_LARGEST + 1)
        text = held.decode()
    except OSError as error:
        raise ConfigError("data.features", f"{name}: the plan cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError("data.features", f"{name}: the plan is no UTF-8") from None
    if len(held) > _LARGEST:
        raise ConfigError("data.features", f"{name}: the plan is larger than {_LARGEST >> 20} MiB")
    try:
        return parse(text, name)
    except ConfigError:
        lacking = re.findall(r"(?m)^# TODO (.+): declare (.+)$", text)
        if not lacking:
            raise
    column, keys = lacking[0]
    raise ConfigError(
        "data.features",
        f"{name} is a draft, and {len(lacking)} of its columns lack what nobody has declared, such as {column}: {keys}. Declare "
        "it in the schema, then draft the plan again: aegis data features schema.toml",
    )


@functools.lru_cache(maxsize=16)
def parse(text: str, where: str = "features") -> Plan:
    """A plan from the text of its file; `where` is named in refusals.

    Raises:
        ConfigError: names column and key.
    """
    try:
        given = yaml.load(text, _Strict)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = " ".join(str(error).split())[:300] or "nested too deep"
        raise ConfigError(where, f"is no YAML of a plan: {first}") from None
    try:
        return _plan(given)
    except ConfigError as error:
        problem = str(error).removeprefix(f"{error.path}: ")
        raise ConfigError(f"{where}: {error.path}" if error.path else where, problem) from None


def write(plan: Plan, notes: Mapping[str, list[str]] | None = None) -> str:
    """A plan as YAML, which `parse` reads as an equal one; `notes` by column become comments."""
    plain = plan.plain()
    lines = [f"version: {plain['version']}"]
    if plan.about:
        lines.append(line("about", plan.about))
    lines.append("columns:")
    for name, about in plain["columns"].items():
        lines += [f"  # {note}" for note in (notes or {}).get(name, ())]
        lines.append("  " + line(name, about))
    lines.append(line("label", plain["label"]))
    if plan.weight is not None:
        lines.append(line("weight", plain["weight"]))
    if plan.inputs:
        lines.append(line("inputs", plain["inputs"]))
    return "\n".join(lines) + "\n"


def line(key: str, value: Any) -> str:
    """One key in flow style, in one line."""
    text = yaml.safe_dump({key: value}, default_flow_style=True, allow_unicode=True, sort_keys=False, width=1 << 30)
    return str(text).strip()[1:-1]


# -- from plain values -----------------------------------------------------------------------------------------------------


def _plan(given: Any) -> Plan:
    _mapping("", given)
    _keys("", given, _KEYS)
    if given.get("version") != VERSION:
        raise ConfigError("version", f"{given.get('version')!r} is not {VERSION}, which this version of AEGIS reads")
    columns, inputs = given.get("columns"), given.get("inputs") or {}
    _mapping("columns", columns)
    _mapping("inputs", inputs)
    label = given.get("label")
    _mapping("label", label)
    _keys("label", label, [f.name for f in fields(Label)])
    weight = given.get("weight")
    if "weight" in given:
        _mapping("weight", weight)
        _keys("weight", weight, [f.name for f in fields(Weight)])
    return Plan(
        columns={name: _feature(name, about) for name, about in columns.items()},
        label=_made(Label, "label", label),
        inputs={at: _fitting(f"inputs.{at}", tuple[str, ...], names) for at, names in inputs.items()},
        about=_fitting("about", str, given.get("about", "")),
        weight=None if weight is None else _made(Weight, "weight", weight),
    )


def _feature(name: str, about: Any) -> Feature:
    path = f"columns.{name}"
    _mapping(path, about)
    kind = about.get("kind")
    if kind not in TRANSFORMS:
        close = difflib.get_close_matches(str(kind), TRANSFORMS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"{path}.kind", f"{kind!r} is not one of {', '.join(TRANSFORMS)}{hint}")
    forms = TRANSFORMS[kind]
    form = about.get("as", next(iter(forms)))
    if form not in forms:
        has = f"is not one of {', '.join(forms)}" if len(forms) > 1 else f"is one form too many: a {kind} has no choice"
        raise ConfigError(f"{path}.as", f"{form!r} {has}")
    transform = forms[form]
    _keys(path, about, ["kind", "as", *(f.name for f in fields(transform))])
    return cast("Feature", _made(transform, path, {k: v for k, v in about.items() if k not in ("kind", "as")}))


def _mapping(path: str, given: Any) -> None:
    if not isinstance(given, dict) or any(not isinstance(key, str) for key in given):
        what = "is missing" if given is None else "is no mapping of names"
        raise ConfigError(path, f"{what}; names that YAML takes for something else (no, 1) go in quotes")


def _keys(path: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
            raise ConfigError(f"{path}.{key}".lstrip("."), f"no such key{hint}")


def _made(kind: type[Any], path: str, given: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    needed = [f.name for f in fields(kind) if f.default is f.default_factory]  # both are MISSING
    for key in needed:
        if key not in given:
            raise ConfigError(f"{path}.{key}", "is missing, and needed")
    return kind(**{key: _fitting(f"{path}.{key}", hints[key], value) for key, value in given.items()})


def _fitting(path: str, wanted: Any, value: Any) -> Any:  # noqa: PLR0911 - one kind after the other
    """The value as a field's annotation wants it."""
    if get_origin(wanted) is tuple:
        if not isinstance(value, list):
            raise ConfigError(path, f"{value!r:.80} is no list")
        return tuple(_fitting(path, get_args(wanted)[0], one) for one in value)
    kinds = get_args(wanted) or (wanted,)
    if value is None and NoneType in kinds:
        return None
    if isinstance(value, date) and str in kinds:
        return value.isoformat()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and float in kinds:
        return float(value)
    if is_number and int in kinds and int(value) == value:
        return int(value)
    if is_number and isinstance(value, int) and str in kinds:
        return str(value)  # a level that is a whole number
    if isinstance(value, str) and str in kinds:
        return value
    if isinstance(value, bool) and str in kinds:
        raise ConfigError(path, f"YAML takes this word for {str(value).lower()}; put it in quotes")
    told = {float: "number", int: "whole number", str: "text", bool: "true or false"}
    raise ConfigError(path, f"{value!r:.80} is no {' or '.join(told[k] for k in kinds if k in told)}")

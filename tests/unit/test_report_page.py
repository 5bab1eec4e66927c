"""A report's page under hostile text: whatever a field holds is shown, and adds nothing to the page but itself."""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest
from report_examples import HOSTILE, Page, deployment, example, hostile, render

from aegis_flower.report import RunReport, SecAggReport, words

# What would end an element, an attribute, a comment, a style sheet or a template; begin one; or hide and turn what follows.
ATTACKS = (
    HOSTILE,
    "</title></style></main><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "<!-- --><![CDATA[ ]]><?php ?>",
    "</text></svg><svg onload=alert(1)>",
    "</pre></small></code></details><b>",
    "&lt;script&gt;&amp;&#60;&#x3c;&quot",
    "{{ 7 * 7 }}{% raw %}{# #}{}{0}%s%(x)s",
    "\u202eevil\u2066\u2067\u2068\u2069\u200f\u061c\u200b\ufeff\u2028\u2029",
    "".join(map(chr, [*range(32), *range(127, 160)])) + "\U000e0041",
)  # fmt: skip


def variants(text: str) -> list[RunReport]:
    """Reports that hold `text` wherever they can, in each shape that the page knows."""
    base = hostile(text)
    run, one = base.run, base.clients[0]
    others = tuple(replace(one, node=f"{text}{i}", budget_epsilon=1.0, epsilon_total=3.0) for i in range(18))
    bare = replace(one, node=f"{text}bare", epsilon=None, noise_multiplier=None, audit=None, refusals=())
    return [
        base,
        *(replace(base, run=replace(run, status=status)) for status in ("finished", "refused", "interrupted")),
        replace(base, run=replace(run, private=True, labels=(text,)), secagg=SecAggReport(enabled=False, profile=text)),
        replace(base, rounds=example().rounds, clients=(*others, bare)),
        replace(base, rounds=(), clients=(), results=replace(base.results, epsilon_max=None)),
        replace(deployment(), clients=tuple(replace(each, node=f"{text}{each.node}") for each in deployment().clients)),
    ]


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_no_text_adds_an_element_or_an_attribute(text: str) -> None:
    """The page has the elements that it has with harmless text of the same length, in the same order."""
    harmless = "x" * len(text)
    for mine, theirs in zip(variants(text), variants(harmless), strict=True):
        shown, expected = Page(render(mine)), Page(render(theirs))
        assert shown.structure == expected.structure
        names = {
            "class",
            "id",
            "viewbox",
            "d",
            "role",
            "charset",
            "name",
            "http-equiv",
            "width",
            "height",
            "text-anchor",
        }
        assert [a for a in shown.attributes if a[0] in names] == [a for a in expected.attributes if a[0] in names]


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_text_is_shown_as_it_is_but_for_what_nobody_could_see(text: str) -> None:
    shown = " ".join(words.clean(text).replace(words.THIN, " ").split())
    for report in variants(text):
        html = render(report)
        page = Page(html)
        assert shown in page.text
        assert not re.search(r"[^\S\n ]", html.replace(words.THIN, ""))
        assert not any(words.clean(line) != line for line in html.split("\n"))


def test_the_page_of_a_hostile_report_holds_no_raw_piece_of_it() -> None:
    """Not even where a browser would bear it: a quote inside an element, an ampersand before a blank."""
    html = render(hostile("<\"'>&"))
    assert '<"' not in html
    assert "&lt;&#34;&#39;&gt;&amp;" in html
    assert not re.search(r"&(?!lt;|gt;|amp;|#34;|#39;)", html)


def free(hint: Any, value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every text below `value` whose form its type leaves open, with its path; `None` for one that is not there."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        rules = [rule for mark in args[1:] for rule in getattr(mark, "metadata", ())]
        closed = any(getattr(rule, "pattern", None) for rule in rules)
        yield from () if closed else free(args[0], value, path)
    elif origin in {Union, types.UnionType}:
        yield from free(next(arg for arg in args if arg is not types.NoneType), value, path)
    elif origin is tuple:
        for index, each in enumerate(value or (None,)):
            yield from free(args[0], each, f"{path}[{index}]")
    elif dataclasses.is_dataclass(hint):
        for name, inner in get_type_hints(hint, include_extras=True).items():
            yield from free(inner, getattr(value, name) if value is not None else None, f"{path}.{name}")
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        yield from ((f"{path}'s key", key) for key in (value or {None: None}))
        for each in (value or {None: None}).values():
            yield from free(args[1], each, f"{path}'s value")
    elif hint in {str, Any}:
        yield path, value


def test_the_hostile_report_is_hostile_in_every_field() -> None:
    """A new field of a report is not tried until this names it."""
    found = list(free(RunReport, hostile(), "report"))
    assert len(found) > 50
    tame = [path for path, value in found if HOSTILE not in str(value) and not isinstance(value, list | dict)]
    # NOT PRIVATE itself, and the client that fell silent beside the one that refused with a code
    assert tame == ["report.run.labels[1]", "report.rounds[0].lost[0].code"]


def test_a_field_with_a_closed_form_is_none_of_those() -> None:
    names = {path.rpartition(".")[2] for path, _ in free(RunReport, example(), "report")}
    assert {"name", "reason", "node", "unit"} <= names
    assert not {"started", "sha256", "head", "status", "source"} & names

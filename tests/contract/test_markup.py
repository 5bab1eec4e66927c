"""There is one way to make markup of text in reports: `report/page/markup.py`, which the templates go through as well."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jinja2 import StrictUndefined, TemplateAssertionError, UndefinedError, nodes
from markupsafe import Markup

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from report_examples import example
from test_imports import imported, top
from test_layers import ROOT, rooms

from aegis_flower.report import write_report
from aegis_flower.report.page.markup import element, safe
from aegis_flower.report.page.render import STYLE, environment, fill, render

DOOR, TEMPLATES = "report.page.markup", "report.page.render"
PAGES = {name: file for name, file in rooms().items() if name.startswith(("report", "sweep"))}
FOLDER = ROOT / "aegis_flower/report/page/templates"
NAMES = sorted(path.name for path in FOLDER.iterdir())
# What a template may say. Not in it: filters (`safe`), `autoescape`, and `~`, `+`, `%`, which would join text to markup.
SAID = {
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Const,
    nodes.List, nodes.Tuple, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.Not, nodes.Test, nodes.If, nodes.For, nodes.Call,
    nodes.CallBlock, nodes.Macro, nodes.Block, nodes.Extends, nodes.Import, nodes.Include,
}  # fmt: skip


def strings(tree: ast.Module) -> list[str]:
    """Texts of a module without its docstrings."""
    said = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said
    ]


def test_markup_is_made_in_one_module_and_the_templates_are_read_in_one() -> None:
    makers = {"markupsafe", "jinja2", "html", "xml"}
    used = {(name, top(i)) for name, file in rooms().items() for i in imported(file) if top(i) in makers}
    # A new project is Python, TOML and Markdown, a federation's folder units and YAML: no markup that a browser reads.
    plain = {("projects.render", "jinja2"), ("deploy.write", "jinja2")}
    assert used == {(DOOR, "markupsafe"), (TEMPLATES, "jinja2")} | plain
    assert not [name for name, file in rooms().items() if "__html__" in file.read_text()]


def test_no_module_of_the_reports_has_a_tag_in_a_text() -> None:
    assert {"report.page.grid", "report.page.charts", "sweep.report"} <= PAGES.keys()
    tag = re.compile(r"</?[A-Za-z!]|</?$|/>|&#?\w+;")  # `$`: the name follows in braces
    found = {name: [s for s in strings(ast.parse(file.read_text())) if tag.search(s)] for name, file in PAGES.items()}
    assert {name for name, texts in found.items() if texts} == {DOOR}, found


@pytest.mark.parametrize("name", NAMES)
def test_a_template_says_only_what_keeps_text_apart_from_markup(name: str) -> None:
    tree = environment().parse((FOLDER / name).read_text())
    kinds = {type(node) for node in tree.find_all(nodes.Node)} | {type(tree)}
    assert not {kind.__name__ for kind in kinds - SAID}


@pytest.mark.parametrize(
    "text", ["{{ a | safe }}", "{% autoescape false %}{% endautoescape %}", "{{ a ~ b }}", "{{ a + b }}", "{{ a % b }}"]
)
def test_the_check_of_templates_sees_what_does_not(text: str) -> None:
    assert {type(node) for node in environment().parse(text).find_all(nodes.Node)} - SAID


@pytest.mark.parametrize("name", NAMES)
def test_a_value_in_a_tag_stands_between_quotes(name: str) -> None:
    text = (FOLDER / name).read_text()
    values = re.sub(r"\{\{.*?\}\}", "\0", re.sub(r"\{#.*?#\}|\{%.*?%\}", "", text, flags=re.DOTALL), flags=re.DOTALL)
    inside = [tag for tag in re.findall(r"<[A-Za-z][^<>]*>", values) if "\0" in tag]
    assert not [tag for tag in inside if "\0" in re.sub(r'"[^"]*"', "", tag)]


def test_escaping_is_on_whatever_the_name_of_a_template_and_cannot_be_switched_off() -> None:
    found = environment()
    assert found.autoescape is True
    assert found.undefined is StrictUndefined
    assert found.filters == found.globals == {}
    with pytest.raises(TemplateAssertionError, match="safe"):
        found.from_string("{{ text | safe }}")
    off = found.from_string("{% autoescape false %}{{ text }}{% endautoescape %}")
    assert off.render(text="<b>\u202e") == "&lt;b&gt;\ufffd"


@pytest.mark.parametrize(
    "text", ["{{ gone }}", "{{ there.gone }}", "{% if gone %}{% endif %}", "{% for x in gone %}{% endfor %}"]
)
def test_a_name_that_nobody_gave_renders_nothing(text: str) -> None:
    with pytest.raises(UndefinedError, match="gone"):
        environment().from_string(text).render(there="x")
    with pytest.raises(UndefinedError, match="run"):
        fill("report.html.j2", title="x")


@pytest.mark.parametrize("value", [None, 1.5, True, b"<b>", ["<b>"], object()])
def test_what_is_no_text_has_to_be_worded_first(value: Any) -> None:
    with pytest.raises(TypeError, match="word it first"):
        safe(value)
    with pytest.raises(TypeError, match="word it first"):
        environment().from_string("{{ value }}").render(value=value)


def test_text_passes_the_door_once() -> None:
    assert safe("<b>&\"'\x00\u202e") == "&lt;b&gt;&amp;&#34;&#39;\ufffd\ufffd"
    assert safe(safe("<")) == safe("<") == "&lt;"
    assert safe(7) == "7"
    assert environment().from_string("{{ a }}{{ b }}").render(a="<", b=safe("<")) == "&lt;&lt;"


def test_an_element_escapes_its_text_and_its_attributes() -> None:
    drawn = element("text", "<i>", element("title", "a&b\x1b"), class_='x" onload="y', text_anchor="middle", x=1 / 3)
    assert isinstance(drawn, Markup)
    assert drawn == (
        '<text class="x&#34; onload=&#34;y" text-anchor="middle" x="0.33">&lt;i&gt;<title>a&amp;b\ufffd</title></text>'
    )
    assert element("g") == "<g/>"
    assert element("title", "") == "<title></title>"


def test_the_style_sheet_is_a_file_that_the_page_holds_to_the_byte() -> None:
    text = (files("aegis_flower.report.page") / "templates" / STYLE).read_text(encoding="utf-8")
    assert f"<style>{text.removesuffix(chr(10))}</style>" in render(example(), json_sha256="00" * 32)


def test_reading_and_writing_a_report_without_its_page_loads_no_jinja2(tmp_path: Path) -> None:
    write_report(example(), tmp_path, html=False)
    code = f"""
import pathlib, sys
import aegis_flower.sweep.report
from aegis_flower import report
folder = pathlib.Path({str(tmp_path)!r})
read = report.load_report(folder)
report.write_report(read, folder, html=False)
assert 'jinja2' not in sys.modules
report.write_report(read, folder)
assert 'jinja2' in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

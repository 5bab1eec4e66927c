"""The one door to markup: text becomes safe here, for the templates and for the drawings.

Guarantees:

- Text is cleaned, then escaped, and only once: what has passed is `Markup` and passes as it is.
- No other module of the reports makes `Markup` (`tests/contract/test_markup.py`).
"""

from __future__ import annotations

from markupsafe import Markup, escape

from aegis_flower.report.words import clean


def safe(value: object) -> Markup:
    """What may stand in an element, or in an attribute between quotes.

    Args:
        value: text, a whole number, or markup that was made here.

    Raises:
        TypeError: `value` is something else. A fraction needs its digits chosen, and what is unknown its words.

    """
    if isinstance(value, Markup):
        return value
    if isinstance(value, str):
        return escape(clean(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return escape(str(value))
    raise TypeError(f"a page shows text, whole numbers and markup, not {type(value).__name__}; word it first")


def element(name: str, /, *inside: str, **attributes: str | float) -> Markup:
    """An element of a drawing.

    Args:
        name: of the element.
        inside: text, or elements; an element without any is closed at once.
        attributes: a number is in px. An underscore stands for a hyphen; one at the end keeps a name from being Python's.

    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{safe(value) if isinstance(value, str) else px(value)}"'
        for key, value in attributes.items()
    )
    within = f">{''.join(map(safe, inside))}</{name}>" if inside else "/>"
    return Markup(f"<{name}{said}{within}")  # noqa: S704 - names are literals of the drawings, the rest has passed `safe`


def framed(page: str, height: int) -> Markup:
    """A whole page as an element of another page, which can neither run scripts nor reach that other page."""
    # Not through `element`, which would show the page's line breaks as blanks.
    return Markup(
        '<iframe sandbox srcdoc="{page}" title="AEGIS run report" width="100%" height="{height}" frameborder="0"></iframe>'
    ).format(page=page, height=height)


def px(value: float) -> str:
    """A px: two decimals are finer than any screen."""
    return f"{value:.2f}".rstrip("0").rstrip(".")

"""What the templates are given: text and drawings in frozen values, with no markup around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from markupsafe import Markup

NARROW = 300.0  # px that a card has on a screen of 360

FILES: Final = {"report.json", "report.html", "model.npz", "features.yaml"}  # nothing else becomes a link


@dataclass(frozen=True, slots=True)
class Strong:
    """Words of a line that stand out; `tone` is a class of the page's style sheet."""

    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """Words that lead to a part of the page or to a file beside it; `to` was made here or has passed `beside`."""

    text: str
    to: str


@dataclass(frozen=True, slots=True)
class Key:
    """The sign of a mark in a drawing, before the words that say what it is; `sign` is a class of the style sheet."""

    sign: str


EPSILON: Final = Link("note on ε", "#epsilon")  # wherever an ε stands
Line: TypeAlias = tuple[str | Strong | Link | Key, ...]
Facts: TypeAlias = tuple[tuple[str, str], ...]  # names and values of a definition list


@dataclass(frozen=True, slots=True)
class TwoWidths:
    """A drawing for a wide page and for a phone; the style sheet shows one. Scaled down, letters could not be read."""

    broad: Markup
    narrow: Markup


def in_two_widths(draw: Callable[[float], Markup | None], width: float = 488) -> TwoWidths | None:
    """What `draw` makes of `width` and of a phone's, both in px; `None` where there is nothing to draw."""
    broad, narrow = draw(width), draw(NARROW)
    return None if broad is None or narrow is None else TwoWidths(broad, narrow)


def beside(path: str) -> str:
    """`path` where it is a file that a run writes beside its page; else nothing, and then it is no link."""
    return path if path in FILES else ""

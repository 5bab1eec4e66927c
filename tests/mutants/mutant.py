"""What a mutant is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One wrong line.

    Attributes:
        name: number and what is wrong.
        file: where.
        old: text that stands there once.
        new: what takes its place.
        test: what must fail then.
        crate: the crate of a Rust file.
        refused: what the compiler says where the test is a bound that does not hold.
    """

    name: str
    file: str
    old: str
    new: str
    test: str
    crate: str = ""
    refused: str = ""

"""Files become governed data sets here: schema drafts, reading, converting, splitting by person, consent lists, mocks.

Start with `draft` (a first schema of a file), then `add` (the import). `reading` reads CSV, Parquet, Arrow, JSON lines and
folders of images in constant memory; `convert` makes of each value what the schema says, or counts a bad row by reason and
line. No plaintext is written to a disk, and no message holds a value. ``aegis data`` and ``aegis consent`` are these functions
as commands.
"""

from __future__ import annotations

from aegis_flower.importer.add import Imported, add, extend
from aegis_flower.importer.draft import Draft, draft
from aegis_flower.importer.mock import mock

__all__ = ["Draft", "Imported", "add", "draft", "extend", "mock"]

"""The names of ``aegis.cli.keys`` and ``aegis.cli.output`` under their old address, until 0.2."""

from __future__ import annotations

from aegis.cli.keys import KEY_FORMS, Folder, Key, KeyFile, provider
from aegis.cli.output import EXIT_CODES, AsJson, Yes, bar, exit_code, fail, log_head, plain, say, show, size

__all__ = [
    "EXIT_CODES",
    "KEY_FORMS",
    "AsJson",
    "Folder",
    "Key",
    "KeyFile",
    "Yes",
    "bar",
    "exit_code",
    "fail",
    "log_head",
    "plain",
    "provider",
    "say",
    "show",
    "size",
]

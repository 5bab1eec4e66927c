"""Hook of mkdocs: the pages outside `docs/` join the site, and links between files of the repository become links of the site."""  # noqa: INP001

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# Pages of the repository, and what they are called in the site.
OUTSIDE = {
    "README.md": "project/README.md",
    "SECURITY.md": "project/SECURITY.md",
    "CONTRIBUTING.md": "project/CONTRIBUTING.md",
    "CHANGELOG.md": "project/CHANGELOG.md",
    "aegis_engine/README.md": "project/ENGINE.md",
}
INSIDE = {site: repository for repository, site in OUTSIDE.items()}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Adds the pages from outside."""
    for repository, site in OUTSIDE.items():
        files.append(File.generated(config, site, content=(ROOT / repository).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links between files of the repository into links of the site; what is not in the site keeps its text alone."""
    site = page.file.src_uri
    repository = INSIDE.get(site, f"docs/{site}")

    def follow(found: re.Match[str]) -> str:
        image, text, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, mark, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(repository), path))
        if path in OUTSIDE:
            there = OUTSIDE[path]
        elif path.startswith("docs/") and not path.startswith("docs/findings/"):
            there = path.removeprefix("docs/")
        else:
            return text if (ROOT / path).exists() else found[0]
        return f"{image}[{text}]({posixpath.relpath(there, posixpath.dirname(site) or '.')}{mark}{anchor})"

    return LINK.sub(follow, markdown)

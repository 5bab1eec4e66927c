"""The HTML page of a run: one file, no script, nothing fetched. What a page shows may be put here, as data without markup.

Its words lie in `aegis_flower.report.words`, its markup and style sheet in `templates`, its drawings in `charts`, `bars`
and `grid`. Text becomes markup in `markup` alone.
"""

from aegis_flower.report.page.render import render as render

"""The HTML page of a run: one file, no script, nothing fetched. Its words lie in `aegis_flower.report.words`."""

from aegis_flower.report.page.render import render as render

"""The notebooks of `examples/notebooks`: they run from top to bottom in a real kernel, and lie in git without outputs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples/notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert [each.stem for each in NOTEBOOKS] == ["first_federation", "own_table"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_lies_in_git_without_outputs(path: Path) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in found["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 5
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None]
    nbformat.validate(nbformat.from_dict(found))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_a_kernel_which_has_an_event_loop_of_its_own(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    book = nbformat.read(path, as_version=4)
    loop = "import asyncio\nassert asyncio.get_running_loop().is_running()"
    book.cells.insert(0, nbformat.v4.new_code_cell(loop))
    NotebookClient(book, timeout=280, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [out for cell in book.cells if cell.cell_type == "code" for out in cell.outputs]
    pages = [
        out.data["text/html"] for out in outputs if out.output_type == "execute_result" and "text/html" in out.data
    ]
    assert any(page.startswith("<iframe sandbox") for page in pages)
    said = "".join(out.text for out in outputs if out.output_type == "stream" and out.name == "stdout")
    heard = "".join(out.text for out in outputs if out.output_type == "stream" and out.name == "stderr")
    assert "ε" in said
    assert "INFO" not in heard, heard  # Flower's lines are not for a cell
    assert list(tmp_path.glob("**/model.npz"))

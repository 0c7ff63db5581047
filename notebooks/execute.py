"""Execute notebooks: ``python -m notebooks.execute [01 04 …]`` writes the ``.ipynb`` beside each ``.py``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))


def execute(source: Path, folder: Path) -> Any:
    """Execute a notebook.

    Args:
        source: Python file in the percent format.
        folder: working directory of the kernel; receives the files that the notebook writes.

    Returns:
        the executed notebook, an ``nbformat`` node. The same outputs are the same file: cells are numbered, and there
        is no metadata on machine, version or time.

    Raises:
        CellExecutionError: if a cell fails.
    """
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(source)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    context = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=context, record_timing=False).execute()
    notebook.metadata.pop("language_info", None)
    for index, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{index}", {}
    return notebook


def main(names: list[str]) -> None:
    """Execute notebooks and write them.

    Args:
        names: beginnings of file names; empty for all notebooks.
    """
    import nbformat

    for source in SOURCES:
        if not names or source.name.startswith(tuple(names)):
            print(source.stem, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                nbformat.write(execute(source, Path(folder)), source.with_suffix(".ipynb"))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Execute a notebook, and write it as a page."""

from __future__ import annotations

import base64
import os
import re
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

SECONDS = 600  # for one cell
STYLED = re.compile(r"\x1b\[[0-9;]*m")


def read(path: Path, *, execute: bool) -> nbformat.NotebookNode:
    """The notebook; with its outputs, where it is executed, in an empty folder.

    Raises:
        CellExecutionError: a cell that raised.
    """
    notebook = nbformat.read(path, as_version=4)
    if not execute:
        return notebook
    environment = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    os.environ.update(environment)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            extra_arguments=["--IPKernelApp.log_level=40"],  # errors, not the advice on transports
        )
        client.execute()
    return notebook


def as_page(notebook: nbformat.NotebookNode, name: str) -> tuple[str, dict[str, bytes]]:
    """Markdown with the outputs, and its pictures by their paths beside the page."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code":
            parts.append(f"```python\n{cell.source}\n```")
            parts += [_output(each, name, pictures) for each in cell.outputs]
    parts.insert(1, f"This page is a notebook that was executed when the site was built: [download it]({name}.ipynb).")
    return "\n\n".join(part for part in parts if part) + "\n", pictures


def _output(output: nbformat.NotebookNode, name: str, pictures: dict[str, bytes]) -> str:
    if output.output_type == "stream":
        text = STYLED.sub("", output.text).rstrip()
        return f'```{{ .text .output title="Output" }}\n{text}\n```' if text and output.name == "stdout" else ""
    data = output.get("data", {})
    if "image/png" in data:
        path = f"{name}-{len(pictures) + 1}.png"
        pictures[path] = base64.b64decode(data["image/png"])
        return f"![Output]({path})"
    text = STYLED.sub("", data.get("text/plain", "")).rstrip()
    return f'```{{ .text .output title="Output" }}\n{text}\n```' if text else ""

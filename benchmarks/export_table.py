"""Writes docs/exports.md: which networks can be scripted, exported and converted, tested on thin models.

The checks are those of tests/laws: a program or file must give the outputs of the model at sizes not used for export.
"""

from __future__ import annotations

import datetime
import io
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from laws.networks import ROWS, thin  # noqa: E402
from laws.test_exports import OTHERS, check_export, check_onnx  # noqa: E402

PAGE = ROOT / "docs" / "exports.md"
INTRO = """# Export of each network

Each row of the catalog (thin, in eval mode, with random statistics) as TorchScript, as a program of
`torch.export` and an ONNX file, both for any spatial size, the latter run by onnxruntime. "yes" means
that the outputs agree with the model's at sizes not used for the export, odd ones among them: TorchScript and
`torch.export` to a relative 1e-5, ONNX to 1e-4 of the largest value.

Written by `python benchmarks/export_table.py` on {date} with torch {torch}, onnx {onnx}, onnxruntime {onnxruntime},
Python {python}.

| network | dims | TorchScript | torch.export | ONNX |
|---|---|---|---|---|
"""


def check_script(model: torch.nn.Module, dims: int) -> None:
    """The scripted model, saved and loaded, gives the outputs of the model."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(model), buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    for size in OTHERS[dims]:
        x = torch.randn(2, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(loaded(x), model(x), rtol=1e-5, atol=1e-5)


def verdict(check: Callable[[Any, int], None], model: torch.nn.Module, dims: int) -> str:
    """``yes``, or the first line of the error, so that the table hides no failure."""
    try:
        check(model, dims)
    except Exception as error:
        return f"no: {type(error).__name__}"
    return "yes"


def main() -> None:
    """Try every row and write the page."""
    import onnx
    import onnxruntime

    torch.set_num_threads(1)
    lines = []
    for name, dims in ROWS:
        model = thin(name, dims)
        cells = [verdict(check, model, dims) for check in (check_script, check_export, check_onnx)]
        lines.append(f"| `{name}` | {dims} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    head = INTRO.format(
        date=datetime.date.today().isoformat(),
        torch=torch.__version__.split("+")[0],
        onnx=onnx.__version__,
        onnxruntime=onnxruntime.__version__,
        python=platform.python_version(),
    )
    PAGE.write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

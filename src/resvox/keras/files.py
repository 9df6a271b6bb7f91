"""Keras's own files of a model of ours, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

ENDINGS = (".keras", ".weights.h5")


def write_whole(model: Any, path: Path) -> Path:
    """``.keras`` (the model) or ``.weights.h5`` (its weights), as Keras writes them; parent folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".partial") as folder:
        # Keras looks at the ending
        written = Path(folder) / f"model{next(each for each in ENDINGS if path.name.endswith(each))}"
        if written.suffix == ".keras":
            model.save(written)
        else:
            model.save_weights(written)
        os.replace(written, path)
    return path

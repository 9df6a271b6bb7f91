"""Keras's own file formats, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resvox.files import replacing_all

ENDINGS = (".keras", ".weights.h5")


def write_whole(model: Any, path: Path) -> Path:
    """``.keras`` (the model) or ``.weights.h5`` (its weights), as Keras writes them; parent folders are made."""
    with replacing_all(path) as folder:
        written = folder / path.name  # Keras chooses the format by the ending
        if path.suffix == ".keras":
            model.save(written)
        else:
            model.save_weights(written)
    return path

"""Atomic writing of Keras's file formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resvox.files import replacing_all

ENDINGS = (".keras", ".weights.h5")


def write_whole(model: Any, path: Path) -> Path:
    """Write ``.keras`` (the model) or ``.weights.h5`` (its weights); parent folders are created."""
    with replacing_all(path) as folder:
        written = folder / path.name  # the ending selects the format in Keras
        if path.suffix == ".keras":
            model.save(written)
        else:
            model.save_weights(written)
    return path

"""Which backend Keras computes with, settled before Keras is imported."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

DEFAULT = "torch"
# What Keras writes to keras.json by itself the first time it is imported: nobody's choice.
_UNTOUCHED = {
    "floatx": "float32",
    "epsilon": 1e-07,
    "backend": "tensorflow",
    "image_data_format": "channels_last",
}


def choose_backend() -> None:
    """Take Keras's torch backend when nobody has chosen one.

    A choice is: Keras imported already, ``KERAS_BACKEND`` set, or a ``keras.json`` that somebody has edited.
    """
    if "keras" not in sys.modules and not os.environ.get("KERAS_BACKEND") and not _file_chooses():
        os.environ["KERAS_BACKEND"] = DEFAULT


def _file_chooses() -> bool:
    folder = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    try:
        found = json.loads((Path(folder) / "keras.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent or broken: Keras falls back to its defaults as well
        return False
    return isinstance(found, dict) and "backend" in found and found != _UNTOUCHED

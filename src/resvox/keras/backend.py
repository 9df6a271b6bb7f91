"""Selection of the Keras backend before Keras is imported."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

DEFAULT = "torch"
# What Keras itself writes to keras.json at its first import: not a choice of the user.
_UNTOUCHED = {
    "floatx": "float32",
    "epsilon": 1e-07,
    "backend": "tensorflow",
    "image_data_format": "channels_last",
}


def choose_backend() -> None:
    """Select the torch backend of Keras if the user has not chosen a backend.

    A choice is: Keras has been imported, ``KERAS_BACKEND`` is set, or ``keras.json`` was edited.
    """
    if "keras" not in sys.modules and not os.environ.get("KERAS_BACKEND") and not _file_chooses():
        os.environ["KERAS_BACKEND"] = DEFAULT


def _file_chooses() -> bool:
    folder = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    try:
        found = json.loads((Path(folder) / "keras.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # missing or damaged: Keras uses its defaults too
        return False
    return isinstance(found, dict) and "backend" in found and found != _UNTOUCHED

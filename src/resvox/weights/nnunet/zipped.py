"""The zip of a model that ``nnUNetv2_export_model_to_zip`` writes."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from resvox.weights.formats import unpacking

# what a prediction needs; pictures and logs of the training stay in the zip
_NEEDED = re.compile(r"(?:.*/)?(?:plans\.json|dataset\.json|plans\.pkl|postprocessing\.json)")
_EXPECTED = "a zip that nnUNetv2_export_model_to_zip wrote"


def holds_plans(path: Path) -> bool:
    """Whether a file is a zip with the plans of an nnU-Net model in it."""
    return any(PurePosixPath(name).name in ("plans.json", "plans.pkl") for name in unpacking.names_in(path))


def unpack(path: Path, into: Path, checkpoint: str) -> None:
    """Write plans, dataset and checkpoints of a zip below a folder.

    Raises:
        WeightsError: as of :func:`resvox.weights.formats.unpacking.unpack`.
    """
    unpacking.unpack(path, into, lambda name: _is_needed(name, checkpoint), expected=_EXPECTED)


def _is_needed(name: str, checkpoint: str) -> bool:
    found = PurePosixPath(name)
    return bool(_NEEDED.fullmatch(name)) or (found.name == checkpoint and found.parent.name.startswith("fold_"))

"""From a scan to the input of a network, and from the output back to exactly the grid of the scan."""

from collections.abc import Mapping
from typing import Any

from resvox.preprocessing.crop import Crop, nonzero_box
from resvox.preprocessing.nnunet import NnunetPreprocessing
from resvox.preprocessing.normalize import Normalization, Window, ZScore
from resvox.preprocessing.pad import Pad
from resvox.preprocessing.pipeline import Preprocessing
from resvox.preprocessing.prepared import Prepared
from resvox.preprocessing.reorient import Reorient
from resvox.preprocessing.respace import Respace, respaced
from resvox.preprocessing.whole import FITS, prepare_whole

__all__ = [
    "FITS",
    "Crop",
    "NnunetPreprocessing",
    "Normalization",
    "Pad",
    "Prepared",
    "Preprocessing",
    "Reorient",
    "Respace",
    "Window",
    "ZScore",
    "nonzero_box",
    "prepare_whole",
    "preprocessing_of",
    "respaced",
]


def preprocessing_of(values: Mapping[str, Any]) -> Preprocessing | NnunetPreprocessing:
    """What the `to_dict` of either wrote.

    Raises:
        PlanError: an unknown name, or a value that is not valid.
    """
    if values.get("kind") == NnunetPreprocessing.kind:
        return NnunetPreprocessing.from_dict(values)
    return Preprocessing.from_dict(values)

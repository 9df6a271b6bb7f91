"""From a scan to the input of a network, and from the output back to exactly the grid of the scan."""

from collections.abc import Mapping
from typing import Any

from resvox.preprocessing.crop import Crop, nonzero_box, nonzero_mask
from resvox.preprocessing.monai import MonaiPreprocessing
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
    "AnyPreprocessing",
    "Crop",
    "MonaiPreprocessing",
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
    "nonzero_mask",
    "prepare_whole",
    "preprocessing_of",
    "respaced",
]


AnyPreprocessing = Preprocessing | NnunetPreprocessing | MonaiPreprocessing
OF_OTHERS: dict[str, type[NnunetPreprocessing] | type[MonaiPreprocessing]] = {
    each.kind: each for each in (NnunetPreprocessing, MonaiPreprocessing)
}


def preprocessing_of(values: Mapping[str, Any]) -> AnyPreprocessing:
    """What the `to_dict` of any of them wrote.

    Raises:
        PlanError: an unknown name, or a value that is not valid.
    """
    kind = values.get("kind")
    return (OF_OTHERS[kind] if isinstance(kind, str) and kind in OF_OTHERS else Preprocessing).from_dict(values)

"""From a scan to the input of a network, and from the output back to exactly the grid of the scan."""

from resvox.preprocessing.crop import Crop, nonzero_box
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
    "respaced",
]

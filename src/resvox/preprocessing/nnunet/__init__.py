"""The preprocessing of nnU-Net v2 (Isensee et al. 2021), with the same numbers, and its inverse."""

from resvox.preprocessing.nnunet.intensities import SCHEMES, IntensityRule
from resvox.preprocessing.nnunet.pipeline import NnunetPreprocessing
from resvox.preprocessing.nnunet.resampling import Resampling, separate_axis
from resvox.preprocessing.nnunet.steps import AddAxis, Resize, Transpose

__all__ = [
    "SCHEMES",
    "AddAxis",
    "IntensityRule",
    "NnunetPreprocessing",
    "Resampling",
    "Resize",
    "Transpose",
    "separate_axis",
]

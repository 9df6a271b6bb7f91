"""Preparation of scans as MONAI's transforms do it, for models that were trained with them."""

from resvox.preprocessing.monai.cropping import Border
from resvox.preprocessing.monai.pipeline import MonaiPreprocessing
from resvox.preprocessing.monai.spacing import Spaced
from resvox.preprocessing.monai.transforms import (
    TRANSFORMS,
    CropForeground,
    MonaiTransform,
    NormalizeIntensity,
    Orientation,
    ScaleIntensity,
    ScaleIntensityRange,
    Spacing,
)

__all__ = [
    "TRANSFORMS",
    "Border",
    "CropForeground",
    "MonaiPreprocessing",
    "MonaiTransform",
    "NormalizeIntensity",
    "Orientation",
    "ScaleIntensity",
    "ScaleIntensityRange",
    "Spaced",
    "Spacing",
]

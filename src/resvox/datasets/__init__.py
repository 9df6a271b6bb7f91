"""Cases, their labels, classes or targets, and which of them train, validate or test; knows volumes alone."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resvox.datasets.classification import ClassificationDataset, ClassSplit, ImageCase
    from resvox.datasets.reading import read_classification, read_dataset, read_regression
    from resvox.datasets.regression import RegressionCase, RegressionDataset, RegressionSplit
    from resvox.datasets.scans import Scan, ScanDataset, ScanSplit, read_scans
    from resvox.datasets.segmentation import Case, Dataset, Split

_HOMES = {
    "Case": "segmentation",
    "ClassSplit": "classification",
    "ClassificationDataset": "classification",
    "Dataset": "segmentation",
    "ImageCase": "classification",
    "RegressionCase": "regression",
    "RegressionDataset": "regression",
    "RegressionSplit": "regression",
    "Scan": "scans",
    "ScanDataset": "scans",
    "ScanSplit": "scans",
    "Split": "segmentation",
    "read_classification": "reading",
    "read_dataset": "reading",
    "read_regression": "reading",
    "read_scans": "scans",
}
__all__ = [
    "Case",
    "ClassSplit",
    "ClassificationDataset",
    "Dataset",
    "ImageCase",
    "RegressionCase",
    "RegressionDataset",
    "RegressionSplit",
    "Scan",
    "ScanDataset",
    "ScanSplit",
    "Split",
    "read_classification",
    "read_dataset",
    "read_regression",
    "read_scans",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

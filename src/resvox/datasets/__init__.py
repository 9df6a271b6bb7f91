"""Cases, their labels, classes or targets, and which of them train, validate or test; knows volumes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.lazy import lazy_names

if TYPE_CHECKING:
    from resvox.datasets.classification import ClassificationDataset, ClassSplit, ImageCase
    from resvox.datasets.reading import read_classification, read_dataset, read_regression
    from resvox.datasets.regression import RegressionCase, RegressionDataset, RegressionSplit
    from resvox.datasets.scans import Scan, ScanDataset, ScanSplit, read_scans
    from resvox.datasets.segmentation import Case, Dataset, Split

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".segmentation": ("Case", "Dataset", "Split"),
        ".classification": ("ClassSplit", "ClassificationDataset", "ImageCase"),
        ".regression": ("RegressionCase", "RegressionDataset", "RegressionSplit"),
        ".scans": ("Scan", "ScanDataset", "ScanSplit", "read_scans"),
        ".reading": ("read_classification", "read_dataset", "read_regression"),
    },
)

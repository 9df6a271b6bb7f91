"""Kept for imports written for version 0.1; use :mod:`resvox.prediction.segmenter`."""

from resvox.prediction.segmenter import Segmentation, Segmenter

__all__ = ["Segmentation", "Segmenter"]

"""Kept for imports written for version 0.1; use :mod:`resvox.prediction.classifier`."""

from resvox.prediction.classifier import Classifier

__all__ = ["Classifier"]

"""Augmentation of samples, reproducible from their own random numbers."""

from resvox.training.augmentation.transforms import Augmentation

__all__ = ["Augmentation"]

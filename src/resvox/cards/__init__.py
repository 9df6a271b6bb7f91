"""Model cards: the typed contents of the metadata that a model file carries beside its weights."""

from resvox.cards.base import ModelCard, WholeImage, Windows
from resvox.cards.classification import ClassificationCard
from resvox.cards.regression import RegressionCard
from resvox.cards.segmentation import SegmentationCard

__all__ = ["ClassificationCard", "ModelCard", "RegressionCard", "SegmentationCard", "WholeImage", "Windows"]

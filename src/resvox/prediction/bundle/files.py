"""A bundle of MONAI, or the zip of one, as a model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resvox.prediction.bundle.cards import card_of
from resvox.prediction.model_files import BUNDLE_FORMAT, ModelFile
from resvox.weights.bundle.folder import Bundle

if TYPE_CHECKING:
    import torch


def bundle_files(path: Path) -> list[ModelFile]:
    """The one network of a bundle.

    Raises:
        WeightsError: a bundle that cannot be used.
    """
    bundle = Bundle.read(path)
    card = card_of(bundle)
    return [ModelFile(path=bundle.weights, format=BUNDLE_FORMAT, card=card, metadata=card.to_dict())]


def bundle_module(path: Path) -> torch.nn.Module:
    """The network whose weights are at a path in a bundle."""
    from resvox.weights import create_model_from

    module: torch.nn.Module = create_model_from(path.parent.parent)
    return module

"""What a path is that stands for a model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resvox.prediction.showing.description import Description


def show_model(source: str | os.PathLike[str]) -> Description:
    """Describe a model file, run, checkpoint, export, bundle, folder of nnU-Net, or file of weights.

    Args:
        source: the path, or an address on a hub.

    Raises:
        WeightsError: nothing there, something else, or a damaged file.
    """
    from resvox.prediction.showing.kinds import describe_path

    return describe_path(source)

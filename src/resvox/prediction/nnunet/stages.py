"""What surrounds one network of nnU-Net: the label map of a first stage, and the largest components of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from resvox.preprocessing import Crop, nonzero_mask

if TYPE_CHECKING:
    from resvox.preprocessing import Prepared
    from resvox.volumes import Volume

OUTSIDE = -1  # the label of what is 0 in every channel, while label maps are resampled


def with_first_stage(prepared: Prepared, volume: Volume, label_map: Volume, values: Sequence[int]) -> Prepared:
    """The input of the second stage: the image, and one channel for each label of the first stage's map.

    Args:
        prepared: the scan for the second stage.
        volume: the scan as it was read.
        label_map: on the scan's grid.
        values: the labels, in the order of the channels.
    """
    image, labels = volume.with_channel_axis(), label_map.array[np.newaxis].astype(np.int16)
    for step in prepared.steps:
        if isinstance(step, Crop):
            outside = ~nonzero_mask(image)[step.box[1:]]
            labels = step.forward(labels, "labels").copy()
            labels[0][outside & (labels[0] == 0)] = OUTSIDE
            image = step.forward(image, "image")
        elif step is not prepared.steps[-1]:
            image, labels = step.forward(image, "image"), step.forward(labels, "labels")
        else:
            labels = step.forward(labels, "labels")
    masks = np.stack([labels[0] == value for value in values]).astype(np.float32)
    return replace(prepared, array=np.concatenate([prepared.array, masks]))


def keep_largest(labels: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """A label map in which only the largest component of each group of labels is kept; others become 0.

    Components touch at a face, an edge or a corner. Several of the same largest size are all kept.
    """
    from scipy.ndimage import label

    made = labels.copy()
    for values in groups:
        mask = np.isin(made, np.asarray(values))
        components, count = label(mask, np.ones((3,) * mask.ndim))
        if count > 1:
            sizes = np.bincount(components.ravel())
            sizes[0] = 0
            made[mask & (sizes[components] != sizes.max())] = 0
    return made

"""Distances between the surfaces of two masks; MONAI finds them, one search serves both numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resvox.machine import block_tensorflow_import


def surface_distances_mm(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """From every boundary voxel of one mask, the distance in mm to the nearest boundary voxel of the other.

    A boundary voxel is a voxel of the mask with a face neighbour that is not (outside of the image counts as
    not). Both masks are bool, of one shape, not empty; ``spacing_mm`` is in the arrays' axis order.

    Returns:
        Distances from the prediction to the reference, and from the reference to the prediction.
    """
    block_tensorflow_import()
    from monai.metrics.utils import get_mask_edges, get_surface_distance

    # Not cropped once more: the edge of the array counts as outside, wherever the caller has cut.
    ours, theirs = get_mask_edges(prediction, reference, crop=False)
    spacing = [float(step) for step in spacing_mm]
    there = np.asarray(get_surface_distance(ours, theirs, spacing=spacing))
    back = np.asarray(get_surface_distance(theirs, ours, spacing=spacing))
    return there, back


def hd95_mm(there: np.ndarray, back: np.ndarray) -> float:
    """95th percentile Hausdorff distance: the larger of the two directed 95th percentiles (not the pooled one).

    Percentiles interpolate linearly between the two nearest distances; as ``monai.metrics`` with
    ``percentile=95``.
    """
    return float(max(np.percentile(side.astype(np.float64), 95) for side in (there, back)))


def surface_dice(there: np.ndarray, back: np.ndarray, tolerance_mm: float) -> float:
    """The share of both masks' boundary voxels that lie at most ``tolerance_mm`` from the other boundary.

    Nikolov et al. 2021 (arXiv:1809.04430) by counting boundary voxels, as ``monai.metrics`` does by default;
    the variant that weighs surface elements by their area (``use_subvoxels=True`` there) is another number.
    """
    # The distances are float32: so must the limit be, or 0.1 mm would not be within 0.1 mm.
    limit = np.float32(tolerance_mm)
    near = np.count_nonzero(there <= limit) + np.count_nonzero(back <= limit)
    return float(near / (there.size + back.size))

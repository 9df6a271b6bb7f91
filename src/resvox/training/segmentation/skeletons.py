"""Skeleton recall: a term of the loss that asks for the centrelines of thin structures, such as vessels.

After Kirchhoff et al. 2024 (arXiv:2404.03010): the skeleton of each label, three voxels thick, must be covered by that
label's probability. It is computed from the reference, so nothing of it is differentiated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from resvox.errors import PlanError
from resvox.training.distributed.sums import summed
from resvox.training.losses import deep_supervision_weights


class SkeletonRecall(nn.Module):
    """Another loss, plus ``weight`` times 1 less the skeleton recall.

    The recall of a label is the sum of its probability over its skeleton, divided by the skeleton's voxels, over the
    batch; the mean over the labels that a batch has counts. Of deep supervision the finest output counts.

    Args:
        loss: of logits (batch, classes, *spatial), or a list of them, against class indices (batch, *spatial).

    Raises:
        PlanError: scikit-image is not installed.
    """

    def __init__(self, loss: nn.Module, weight: float) -> None:
        super().__init__()
        _skeletonize()  # refused before the first step
        self.loss, self.weight = loss, weight

    def forward(self, output: torch.Tensor | Sequence[torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        """The weighted sum of both."""
        finest = output if isinstance(output, torch.Tensor) else output[0]
        share = 1.0 if isinstance(output, torch.Tensor) else deep_supervision_weights(len(output))[0]
        total: torch.Tensor = self.loss(output, label)
        return total + self.weight * share * (1 - self.recall(finest.float(), label))

    def recall(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The mean recall of the labels in a batch; 1 for a batch without labels."""
        probabilities = logits.softmax(dim=1)
        rows = [logits.new_zeros(3) for _ in range(logits.shape[1])]  # covered, skeleton, voxels of each label
        for index in [value for value in torch.unique(label).tolist() if value > 0]:
            mask = label == index
            skeleton = skeletons(mask)
            rows[index] = torch.stack([(probabilities[:, index] * skeleton).sum(), skeleton.sum(), mask.float().sum()])
        covered, lengths, voxels = summed(torch.stack(rows)).unbind(1)
        found = (covered / lengths.clamp(min=1))[voxels > 0]
        return found.mean() if len(found) else logits.new_ones(())


def skeletons(masks: torch.Tensor) -> torch.Tensor:
    """The skeletons of masks (batch, *spatial), three voxels thick and inside the mask, as float32."""
    thin = _skeletonize()
    arrays = np.ascontiguousarray(masks.cpu().numpy())  # scikit-image before 0.23 takes no other layout
    made = np.stack([np.asarray(thin(mask)) > 0 if mask.any() else mask for mask in arrays])
    lines = torch.from_numpy(made).to(masks.device).float().unsqueeze(1)
    pool = F.max_pool2d if masks.ndim == 3 else F.max_pool3d
    return pool(lines, kernel_size=3, stride=1, padding=1).squeeze(1) * masks


def _skeletonize() -> Any:
    try:
        from skimage.morphology import skeletonize
    except ImportError as error:
        raise PlanError(
            "skeleton_recall without scikit-image",
            expected="the extra 'vessels'",
            fix="pip install 'resvox[vessels]', or skeleton_recall: 0 in the plan",
        ) from error
    return skeletonize

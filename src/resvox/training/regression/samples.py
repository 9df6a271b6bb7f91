"""Sample n of a dense regression: a patch and its values. The same for the same n in every run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from resvox.training.augmentation import Augmentation
from resvox.training.batches import Cut, Sample
from resvox.training.patches import draw_patch
from resvox.training.regression.cache import PreparedPair
from resvox.training.regression.plan import RegressionPlan


class ValuePatches(torch.utils.data.Dataset[Sample]):
    """Patches from anywhere; every case comes once before any comes twice. Targets are (value - mean) / std.

    Args:
        device: give `Cut`s, of which `augmented` makes samples on this device; None: give samples.
    """

    def __init__(
        self, cases: Sequence[PreparedPair], plan: RegressionPlan, *, device: torch.device | None = None
    ) -> None:
        self.cases = tuple(cases)
        self.plan = plan
        self.device = device
        self.augmentation = Augmentation(plan, plan.patch_size, target="bilinear", device=device)
        column = (-1, *[1] * plan.spatial_dims)
        self.mean = np.asarray(plan.target_mean, np.float32).reshape(column)
        self.std = np.asarray(plan.target_std, np.float32).reshape(column)

    def __getitem__(self, number: int) -> Sample:
        drawn = draw_patch(self.cases, self.plan, self.augmentation, number)
        case = drawn.case
        # Normalised before it is cut, so that what lies beyond the scan is the mean and not the value 0.
        image, values = drawn.cut(case.image), drawn.cut((case.target - self.mean) / self.std)
        cut = Cut(
            image=torch.from_numpy(image), target=torch.from_numpy(values), case=case.id, number=number,
            geometry=drawn.geometry, rng=drawn.rng,
        )  # fmt: skip
        return cut if self.device is not None else self.augmented(cut)

    def augmented(self, cut: Cut) -> Sample:
        """The sample of a cut, computed where its voxels are."""
        image, target = self.augmentation(cut.image, cut.target, cut.rng, cut.geometry)
        return Sample(image=image, target=target, case=cut.case, number=cut.number)

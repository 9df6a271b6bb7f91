"""Sample n of a dense regression: a patch and its values. The same for the same n in every run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from resvox.training.augmentation import Augmentation
from resvox.training.batches import Sample, epoch_order
from resvox.training.patches import any_centre, cut_patch
from resvox.training.randomness import Purpose, generator
from resvox.training.regression.cache import PreparedPair
from resvox.training.regression.plan import RegressionPlan


class ValuePatches(torch.utils.data.Dataset[Sample]):
    """Patches from anywhere; every case comes once before any comes twice. Targets are (value - mean) / std."""

    def __init__(self, cases: Sequence[PreparedPair], plan: RegressionPlan) -> None:
        self.cases = tuple(cases)
        self.plan = plan
        self.augmentation = Augmentation(plan, plan.patch_size, target="bilinear")
        column = (-1, *[1] * plan.spatial_dims)
        self.mean = np.asarray(plan.target_mean, np.float32).reshape(column)
        self.std = np.asarray(plan.target_std, np.float32).reshape(column)

    def __getitem__(self, number: int) -> Sample:
        plan = self.plan
        step, position = divmod(number, plan.batch_size)
        rng = generator(plan.seed, Purpose.SAMPLE, step, position)
        epoch, place = divmod(number, len(self.cases))
        case = self.cases[epoch_order(plan.seed, epoch, len(self.cases))[place]]
        centre = any_centre(case.image.shape[1:], plan.patch_size, rng)
        geometry = self.augmentation.draw(rng)
        image = torch.from_numpy(cut_patch(case.image, centre, plan.patch_size, geometry.size))
        # Normalised before it is cut, so that what lies beyond the scan is the mean and not the value 0.
        values = cut_patch((case.target - self.mean) / self.std, centre, plan.patch_size, geometry.size)
        image, target = self.augmentation(image, torch.from_numpy(values), rng, geometry)
        return Sample(image=image, target=target, case=case.id, number=number)

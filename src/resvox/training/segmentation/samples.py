"""Samples of a segmentation: patches around labelled voxels. Sample number n is the same in every run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from resvox.training.augmentation import Augmentation
from resvox.training.batches import Sample, epoch_order
from resvox.training.patches import any_centre, cut_patch
from resvox.training.randomness import Purpose, generator
from resvox.training.segmentation.cache import PreparedCase
from resvox.training.segmentation.plan import Plan


class PatchSampler(torch.utils.data.Dataset[Sample]):
    """Sample n of a run, n = step * batch_size + position in the batch.

    Every case comes once before any comes twice (an epoch is a permutation drawn from the seed). Exactly the
    planned share of samples is centred on a labelled voxel: a class present in the case is drawn first, each
    with the same chance, then one of its voxels, so a rare label is seen as often as a large one.
    """

    def __init__(self, cases: Sequence[PreparedCase], plan: Plan) -> None:
        self.cases = tuple(cases)
        self.plan = plan
        self.augmentation = Augmentation(plan, plan.patch_size)

    def __getitem__(self, number: int) -> Sample:
        plan = self.plan
        step, position = divmod(number, plan.batch_size)
        rng = generator(plan.seed, Purpose.SAMPLE, step, position)
        case = self.case(number)
        centre = self._centre(case, rng, self.is_foreground(number))
        size = self.augmentation.source_size(rng)
        image = torch.from_numpy(cut_patch(case.image, centre, plan.patch_size, size))
        label = torch.from_numpy(cut_patch(case.label[np.newaxis], centre, plan.patch_size, size))
        image, label = self.augmentation(image, label, rng)
        return Sample(image=image, target=label[0].long(), case=case.id, number=number)

    def case(self, number: int) -> PreparedCase:
        """The case that sample ``number`` is cut from."""
        epoch, place = divmod(number, len(self.cases))
        return self.cases[epoch_order(self.plan.seed, epoch, len(self.cases))[place]]

    def is_foreground(self, number: int) -> bool:
        """Whether sample ``number`` is centred on a labelled voxel: spread evenly, so the share is exact."""
        fraction = self.plan.foreground_fraction
        return math.floor((number + 1) * fraction) > math.floor(number * fraction)

    def _centre(self, case: PreparedCase, rng: np.random.Generator, foreground: bool) -> tuple[int, ...]:
        if foreground and case.voxels_of:
            index = sorted(case.voxels_of)[int(rng.integers(len(case.voxels_of)))]
            voxels = case.voxels(index)
            flat = int(voxels[int(rng.integers(len(voxels)))])
            return tuple(int(place) for place in np.unravel_index(flat, case.shape))
        return any_centre(case.shape, self.plan.patch_size, rng)

"""Sample n of a restoration: a patch with hidden blocks, and what is hidden. The same for the same n in every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from resvox.training.augmentation import Augmentation
from resvox.training.batches import Sample
from resvox.training.patches import any_centre, cut_patch, draw_patch
from resvox.training.randomness import Purpose, generator
from resvox.training.restoration.cache import PreparedScan
from resvox.training.restoration.hiding import hidden_blocks, target_of, with_hidden
from resvox.training.restoration.plan import RestorationPlan

PATCHES_PER_SCAN = 4  # of a validation


class HiddenPatches(torch.utils.data.Dataset[Sample]):
    """Patches from anywhere; every scan comes once before any comes twice.

    Augmentation moves the patch, and changes the values that the network sees and not those that it is to restore.
    """

    def __init__(self, cases: Sequence[PreparedScan], plan: RestorationPlan) -> None:
        self.cases = tuple(cases)
        self.plan = plan
        self.augmentation = Augmentation(plan, plan.patch_size, target="bilinear")

    def __getitem__(self, number: int) -> Sample:
        drawn = draw_patch(self.cases, self.plan, self.augmentation, number)
        cut = torch.from_numpy(drawn.cut(drawn.case.image))
        image, values = self.augmentation(cut, cut.clone(), drawn.rng, drawn.geometry)
        return _hidden(image, values, self.plan, drawn.rng, drawn.case.id, number)


def validation_samples(case: PreparedScan, plan: RestorationPlan, place: int) -> Iterator[Sample]:
    """The patches of a scan that are restored in every validation, the same ones in each; ``place``: of the scan."""
    for number in range(PATCHES_PER_SCAN):
        rng = generator(plan.seed, Purpose.VALIDATION, place, number)
        centre = any_centre(case.image.shape[1:], plan.patch_size, rng)
        values = torch.from_numpy(cut_patch(case.image, centre, plan.patch_size, plan.patch_size))
        yield _hidden(values, values, plan, rng, case.id, number)


def _hidden(
    image: torch.Tensor, values: torch.Tensor, plan: RestorationPlan, rng: np.random.Generator, case: str, number: int
) -> Sample:
    mask = torch.from_numpy(hidden_blocks(plan.patch_size, plan.hidden_block, plan.hidden_fraction, rng))
    return Sample(image=with_hidden(image, mask), target=target_of(values, mask), case=case, number=number)

"""Samples of a segmentation: patches around labelled voxels. Sample number n is the same in every run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from resvox.training.augmentation import Augmentation
from resvox.training.batches import Cut, Sample, epoch_order
from resvox.training.dice_cross_entropy import IGNORED
from resvox.training.patches import any_centre, cut_strided, drawn_stride
from resvox.training.randomness import Purpose, generator
from resvox.training.segmentation.cache import PreparedCase
from resvox.training.segmentation.plan import Plan


class PatchSampler(torch.utils.data.Dataset[Sample]):
    """Sample n of a run, n = step * batch_size + position in the batch.

    Every case comes once before any comes twice (an epoch is a permutation drawn from the seed). Exactly the
    planned share of samples is centred on a labelled voxel: a class present in the case is drawn first, each
    with the same chance, then one of its voxels, so a rare label is seen as often as a large one. A patch of a case
    with ignored voxels is always centred on an annotated one.

    ``foreground_by: label`` lets the labels take turns instead, and within each the cases that have it: a label of few
    cases is then seen as often as one that all have. ``foreground_order: last`` centres the last samples of each batch
    on labelled voxels, as many as nnU-Net: the batch less the rounded share of the others.

    Args:
        ignored: the class index of voxels that were not annotated; their target is `IGNORED`. None if all
            voxels were annotated.
        targets: how many labels (without the background) or regions there are, where some cases were annotated with
            some of them alone; None where all were annotated with all.
        device: give `Cut`s, of which `augmented` makes samples on this device; None: give samples.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        plan: Plan,
        *,
        ignored: int | None = None,
        targets: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.cases = tuple(cases)
        self.plan = plan
        self.ignored, self.targets = ignored, targets
        self.device = device
        self.augmentation = Augmentation(plan, plan.patch_size, device=device)
        targets_found = sorted({target for case in self.cases for target in case.targets})
        self.with_target = {
            target: [place for place, case in enumerate(self.cases) if target in case.targets]
            for target in targets_found
        }

    def __getitem__(self, number: int) -> Sample:
        plan = self.plan
        step, position = divmod(number, plan.batch_size)
        rng = generator(plan.seed, Purpose.SAMPLE, step, position)
        case, index = self.case(number), self._turn(number)
        stride = drawn_stride(plan.patch_stride, rng)
        centre = self._centre(case, rng, stride, self.is_foreground(number), None if index is None else index[0])
        geometry = self.augmentation.draw(rng)
        region = centre, plan.patch_size, geometry.size, stride
        image = torch.from_numpy(cut_strided(case.image, *region))
        label = torch.from_numpy(np.ascontiguousarray(cut_strided(case.label[np.newaxis], *region, is_label=True)))
        cut = Cut(
            image=image, target=label, case=case.id, number=number, known=self._known(case), geometry=geometry, rng=rng
        )
        return cut if self.device is not None else self.augmented(cut)

    def augmented(self, cut: Cut) -> Sample:
        """The sample of a cut, computed where its voxels are."""
        image, label = self.augmentation(cut.image, cut.target, cut.rng, cut.geometry)
        target = label[0].long()
        if self.ignored is not None:
            target = target.masked_fill(target == self.ignored, IGNORED)
        return Sample(image=image, target=target, case=cut.case, number=cut.number, known=cut.known)

    def _known(self, case: PreparedCase) -> torch.Tensor | None:
        if self.targets is None:
            return None
        return torch.ones(self.targets, dtype=torch.bool) if case.known is None else torch.tensor(case.known)

    def case(self, number: int) -> PreparedCase:
        """The case that sample ``number`` is cut from."""
        turn = self._turn(number)
        if turn is not None:
            return self.cases[turn[1]]
        epoch, place = divmod(number, len(self.cases))
        return self.cases[epoch_order(self.plan.seed, epoch, len(self.cases))[place]]

    def is_foreground(self, number: int) -> bool:
        """Whether sample ``number`` is centred on a labelled voxel: spread evenly, so the share is exact."""
        return self._foreground_before(number + 1) > self._foreground_before(number)

    def _foreground_before(self, number: int) -> int:
        """How many of the samples before ``number`` are centred on a labelled voxel."""
        fraction, batch = self.plan.foreground_fraction, self.plan.batch_size
        if self.plan.foreground_order == "spread":
            return math.floor(number * fraction)
        others = round(batch * (1 - fraction))
        step, position = divmod(number, batch)
        return step * (batch - others) + max(0, position - others)

    def _turn(self, number: int) -> tuple[int, int] | None:
        """The target whose turn it is and the case to cut from; None where the cases take turns."""
        if self.plan.foreground_by == "case" or not self.with_target or not self.is_foreground(number):
            return None
        seed, targets = self.plan.seed, list(self.with_target)
        turn, place = divmod(self._foreground_before(number), len(targets))
        target = targets[epoch_order(seed, turn, len(targets), 1)[place]]
        cases = self.with_target[target]
        epoch, place = divmod(turn, len(cases))
        return target, cases[epoch_order(seed, epoch, len(cases), target + 1)[place]]

    def _centre(
        self, case: PreparedCase, rng: np.random.Generator, stride: int, foreground: bool, target: int | None = None
    ) -> tuple[int, ...]:
        targets = case.targets
        if (foreground and targets) or 0 in case.voxels_of:
            index = target or (targets[int(rng.integers(len(targets)))] if foreground and targets else 0)
            voxels = case.voxels(index)
            flat = int(voxels[int(rng.integers(len(voxels)))])
            return tuple(int(place) for place in np.unravel_index(flat, case.shape))
        return any_centre(case.shape, [stride * n for n in self.plan.patch_size], rng)

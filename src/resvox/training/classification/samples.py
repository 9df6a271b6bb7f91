"""Sample n of a classification: which image, and how it is augmented. The same for the same n in every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from resvox.training.augmentation import Augmentation
from resvox.training.batches import Sample, epoch_order
from resvox.training.classification.cache import PreparedImage
from resvox.training.classification.plan import ClassificationPlan
from resvox.training.randomness import Purpose, generator


class ImageSamples(torch.utils.data.Dataset[Sample]):
    """Whole images; every image is used once before any is used twice.

    With ``class_balance: sampling`` this holds for the classes, and for the images within each class.
    """

    def __init__(self, cases: Sequence[PreparedImage], plan: ClassificationPlan) -> None:
        self.cases = tuple(cases)
        self.plan = plan
        self.augmentation = Augmentation(plan, plan.image_size)
        self.by_class = [
            [place for place, case in enumerate(self.cases) if case.label == index] for index in range(plan.num_classes)
        ]

    def __getitem__(self, number: int) -> Sample:
        plan = self.plan
        step, position = divmod(number, plan.batch_size)
        rng = generator(plan.seed, Purpose.SAMPLE, step, position)
        case = self.case(number)
        geometry = self.augmentation.draw(rng)
        image = torch.from_numpy(_widened(case.image, geometry.size))
        image, _ = self.augmentation(image, None, rng, geometry)
        return Sample(image=image, target=torch.tensor(case.label), case=case.id, number=number)

    def case(self, number: int) -> PreparedImage:
        """The case of sample ``number``."""
        seed = self.plan.seed
        if self.plan.class_balance != "sampling":
            epoch, place = divmod(number, len(self.cases))
            return self.cases[epoch_order(seed, epoch, len(self.cases))[place]]
        turn, place = divmod(number, self.plan.num_classes)
        label = epoch_order(seed, turn, self.plan.num_classes)[place]
        epoch, place = divmod(turn, len(self.by_class[label]))
        return self.cases[self.by_class[label][epoch_order(seed, epoch, len(self.by_class[label]), label + 1)[place]]]


def _widened(image: np.ndarray[Any, Any], size: Sequence[int]) -> np.ndarray[Any, Any]:
    """The image with its edge repeated up to ``size``: what a rotation turns in from outside."""
    margins = [(0, 0)]
    for old, new in zip(image.shape[1:], size, strict=True):
        margins.append(((new - old) // 2, new - old - (new - old) // 2))
    if not any(after for _, after in margins):
        return np.array(image)
    return np.pad(image, margins, mode="edge")

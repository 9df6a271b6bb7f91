"""Samples and batches: which samples make a step, for one process of several, and how they are put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch

from resvox.training.augmentation.geometry import Geometry
from resvox.training.plans.base import TrainingPlan
from resvox.training.randomness import Purpose, generator
from resvox.training.stopping import start_worker


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One training sample: image (channels, *size) float32, what is to be learned of it, and where it came from.

    ``target`` is a label map (*size) int64, a class index () int64, or values (outputs, *size) float32. ``known`` is,
    for each label or region, whether the case was annotated with it, (targets,) bool; None where every case was.
    """

    image: torch.Tensor
    target: torch.Tensor
    case: str
    number: int
    known: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Cut(Sample):
    """What a sample is made of: voxels cut out of a case, (channels, *geometry.size), before any augmentation.

    ``target`` is (any, *geometry.size). ``rng`` has drawn all up to the augmentation, which goes on with it wherever it
    is computed.
    """

    geometry: Geometry
    rng: np.random.Generator

    def on(self, device: torch.device) -> Cut:
        """The same with its voxels on a device."""
        image, target = (part.to(device) for part in (self.image, self.target))
        return replace(self, image=image, target=target)


class Augments(Protocol):
    """Samples whose augmentation can be left to another device than the processor that cuts them."""

    def augmented(self, cut: Cut) -> Sample:
        """The sample, computed where its voxels are."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples put together along a first axis, and one case id and sample number each."""

    image: torch.Tensor
    target: torch.Tensor
    cases: tuple[str, ...]
    numbers: tuple[int, ...]
    known: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class CutBatch:
    """The cuts of a batch, which may have several sizes."""

    cuts: tuple[Cut, ...]

    def on(self, device: torch.device, samples: Augments) -> Batch:
        """The batch, its samples augmented on a device."""
        return collate([samples.augmented(cut.on(device)) for cut in self.cuts])


@lru_cache(maxsize=64)
def epoch_order(seed: int, epoch: int, count: int, stream: int = 0) -> tuple[int, ...]:
    """The order of ``count`` things in an epoch; another for another ``stream`` (such as a class)."""
    numbers = (epoch,) if stream == 0 else (epoch, stream)
    return tuple(int(i) for i in generator(seed, Purpose.EPOCH, *numbers).permutation(count))


class StepBatches(torch.utils.data.Sampler[list[int]]):
    """The sample numbers of each step for one process; all processes together see the plan's batch."""

    def __init__(self, plan: TrainingPlan, *, first_step: int, rank: int, world_size: int) -> None:
        share = plan.batch_size // world_size
        self.steps = range(first_step, plan.steps)
        self.positions = range(rank * share, (rank + 1) * share)
        self.batch_size = plan.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            yield [step * self.batch_size + position for position in self.positions]

    def __len__(self) -> int:
        return len(self.steps)


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples to a batch."""
    known = [sample.known for sample in samples if sample.known is not None]
    return Batch(
        image=torch.stack([sample.image for sample in samples]),
        target=torch.stack([sample.target for sample in samples]),
        cases=tuple(sample.case for sample in samples),
        numbers=tuple(sample.number for sample in samples),
        known=torch.stack(known) if known else None,
    )


def collate_cuts(cuts: Sequence[Cut]) -> CutBatch:
    """Cuts to a batch that is augmented later."""
    return CutBatch(cuts=tuple(cuts))


def batch_loader(
    samples: torch.utils.data.Dataset[Sample],
    plan: TrainingPlan,
    *,
    first_step: int,
    rank: int,
    world_size: int,
    workers: int,
    cuts_only: bool = False,
) -> torch.utils.data.DataLoader[Any]:
    """Batches from ``first_step`` on; ``workers`` changes who cuts them, not what they are.

    Args:
        cuts_only: the samples are `Cut`s, to be augmented elsewhere.
    """
    return torch.utils.data.DataLoader(
        samples,
        batch_sampler=StepBatches(plan, first_step=first_step, rank=rank, world_size=world_size),
        num_workers=workers,
        collate_fn=collate_cuts if cuts_only else collate,
        worker_init_fn=start_worker,
    )

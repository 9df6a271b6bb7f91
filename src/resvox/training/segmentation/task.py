"""Segmentation as a task: labelled scans, patches, Dice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from resvox.cards import SegmentationCard, Windows
from resvox.datasets.segmentation import Case, Dataset
from resvox.training.batches import Sample
from resvox.training.losses import SegmentationLoss
from resvox.training.plans.sides import safe_mirror_axes
from resvox.training.segmentation.cache import PreparedCase, prepare_cases
from resvox.training.segmentation.plan import Plan
from resvox.training.segmentation.samples import PatchSampler
from resvox.training.segmentation.validation import validate
from resvox.training.task import Cases, Job, State, Task, ValidationResult, refuse_mismatch


class Segmentation(Task):
    """Scans and label maps; the score is the mean Dice of the labels on the resampled grid."""

    shown: ClassVar[str] = "dice_mean"
    title: ClassVar[str] = "Dice"

    def check(self, dataset: Dataset, plan: Plan) -> None:
        """Dims, channels and labels are the dataset's."""
        refuse_mismatch(
            dataset,
            ("spatial_dims", plan.spatial_dims, dataset.spatial_dims),
            ("in_channels", plan.in_channels, len(dataset.channel_names)),
            ("num_classes", plan.num_classes, dataset.num_classes),
        )

    def columns(self, dataset: Dataset) -> tuple[str, ...]:
        """Names of the scores: ``dice_mean``, ``dice_<label>``, ..."""
        return ("dice_mean", *(f"dice_{name}" for name in dataset.foreground))

    def remarks(self, job: Job) -> list[str]:
        """A warning of axes whose mirroring may swap labels."""
        plan = job.plan
        safe = safe_mirror_axes(list(job.dataset.foreground), plan.orientation, plan.spatial_dims)
        # A plan edited by hand may mirror axes that its labels distinguish; the user may know better than their names.
        risky = [axis for axis in plan.mirror_axes if axis not in safe]
        names = ", ".join(job.dataset.foreground)
        return [f"warning: mirror_axes {risky} may swap the sides that labels name ({names})"] if risky else []

    def prepare(
        self, cases: Sequence[Case], job: Job, *, share: slice, progress: Callable[[int, int, str], None]
    ) -> None:
        """Prepare the cases, see `prepare_cases`."""
        prepare_cases(cases[share], job.dataset, job.plan.preprocessing(), job.run.cache, progress=progress)

    def prepared(self, cases: Sequence[Case], job: Job) -> list[PreparedCase]:
        """The prepared cases, see `prepare_cases`."""
        return prepare_cases(cases, job.dataset, job.plan.preprocessing(), job.run.cache, check=False)

    def samples(self, cases: Cases, job: Job) -> torch.utils.data.Dataset[Sample]:
        """The samples: patches of cases."""
        return PatchSampler(cases.train, job.plan)

    def loss(self, cases: Cases, job: Job) -> nn.Module:
        """The loss of the plan."""
        return SegmentationLoss(job.plan.loss)

    def validate(self, cases: Cases, job: Job, state: State) -> ValidationResult:
        """Whole volumes, window by window."""
        result = validate(
            state.module,
            cases.validation,
            job.plan,
            list(job.dataset.labels),
            fabric=state.fabric,
            precision=job.precision,
            between=state.check_stop,
        )
        columns = {"dice_mean": result.mean, **{f"dice_{name}": value for name, value in result.dice.items()}}
        return ValidationResult(score=result.score, columns=columns)

    def card(self, job: Job, training: dict[str, Any], best: dict[str, float | None]) -> SegmentationCard:
        """Labels, colours, and the window."""
        plan: Plan = job.plan
        dice = {name.removeprefix("dice_"): value for name, value in best.items() if name != "dice_mean"}
        return SegmentationCard(
            preprocessing=plan.preprocessing().to_dict(),
            channel_names=tuple(job.dataset.channel_names),
            labels=dict(job.dataset.labels),
            colours=job.colours,
            inference=Windows(roi_size=plan.patch_size, overlap=plan.overlap, mirror_axes=plan.mirror_axes),
            training={**training, "dice": dice},
        )

"""Segmentation as a task: labelled scans, patches, Dice."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from lightning_fabric import Fabric
from torch import nn

from resvox.datasets.segmentation import Dataset
from resvox.training.batches import Sample
from resvox.training.logs import ProgressDisplay
from resvox.training.losses import SegmentationLoss
from resvox.training.segmentation.cache import prepare_cases
from resvox.training.segmentation.plan import Plan
from resvox.training.segmentation.planning import safe_mirror_axes
from resvox.training.segmentation.samples import PatchSampler
from resvox.training.segmentation.validation import validate
from resvox.training.steps import Job, State
from resvox.training.task import Cases, Task, Validation, refuse_mismatch


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
        """``dice_mean``, ``dice_<label>``..."""
        return ("dice_mean", *(f"dice_{name}" for name in dataset.foreground))

    def prepare(self, fabric: Fabric, job: Job, display: ProgressDisplay) -> Cases:
        """Cached cases in patches' reach."""
        split = job.dataset.split(fraction=job.plan.validation_fraction, seed=job.plan.seed)
        display.say(f"cases to train {len(split.train)}, to validate {len(split.validation)}: {split.reason}")
        _warn_of_mirroring(job, display)
        everyone = list({case.id: case for case in (*split.train, *split.validation)}.values())
        preprocessing = job.plan.preprocessing()
        mine = everyone[fabric.global_rank :: fabric.world_size]
        prepare_cases(mine, job.dataset, preprocessing, job.run.cache, progress=display.preparing)
        fabric.barrier()
        prepared = {case.id: case for case in prepare_cases(everyone, job.dataset, preprocessing, job.run.cache)}
        return Cases(
            train=[prepared[case.id] for case in split.train],
            validation=[prepared[case.id] for case in split.validation],
        )

    def samples(self, cases: Cases, job: Job) -> torch.utils.data.Dataset[Sample]:
        """Patches."""
        return PatchSampler(cases.train, job.plan)

    def loss(self, cases: Cases, job: Job) -> nn.Module:
        """The plan's."""
        return SegmentationLoss(job.plan.loss)

    def validate(self, cases: Cases, job: Job, state: State) -> Validation:
        """Whole volumes, window by window."""
        result = validate(
            state.module,
            cases.validation,
            job.plan,
            list(job.dataset.labels),
            fabric=state.fabric,
            precision=job.precision,
        )
        columns = {"dice_mean": result.mean, **{f"dice_{name}": value for name, value in result.dice.items()}}
        return Validation(score=result.mean, columns=columns)

    def metadata(self, job: Job, best: dict[str, float | None]) -> dict[str, Any]:
        """Labels, colours, and the window."""
        plan, dataset = job.plan, job.dataset
        dice = {name.removeprefix("dice_"): value for name, value in best.items() if name != "dice_mean"}
        return {
            "task": "segmentation",
            "labels": dict(dataset.labels),
            "colours": job.colours,
            "inference": {
                "roi_size": list(plan.patch_size),
                "overlap": plan.overlap,
                "mirror_axes": list(plan.mirror_axes),
            },
            "training": {"dice": dice},
        }


def _warn_of_mirroring(job: Job, display: ProgressDisplay) -> None:
    """A plan edited by hand may mirror what its labels tell apart; it may also know better than their names."""
    plan = job.plan
    safe = safe_mirror_axes(list(job.dataset.foreground), plan.orientation, plan.spatial_dims)
    risky = [axis for axis in plan.mirror_axes if axis not in safe]
    if risky:
        names = ", ".join(job.dataset.foreground)
        display.say(f"warning: mirror_axes {risky} may swap the sides that labels name ({names})")

"""Segmentation as a task: labelled scans, patches, Dice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from resvox.cards import SegmentationCard, Windows
from resvox.datasets.segmentation import Case, Dataset
from resvox.errors import PlanError
from resvox.training.batches import Sample
from resvox.training.losses import SegmentationLoss
from resvox.training.plans.sides import safe_mirror_axes
from resvox.training.segmentation.cache import PreparedCase, members_of, prepare_cases
from resvox.training.segmentation.losses import MaskedLabelLoss, RegionLoss
from resvox.training.segmentation.plan import Plan
from resvox.training.segmentation.samples import PatchSampler
from resvox.training.segmentation.skeletons import SkeletonRecall
from resvox.training.segmentation.validation import validate
from resvox.training.task import Cases, Job, State, Task, ValidationResult, refuse_mismatch
from resvox.weights.by_name import Names

MEAN = "dice_mean"  # the column of the mean over labels
TEMPERATURE = "temperature"  # kept with the best scores


class Segmentation(Task):
    """Scans and label maps; the score is the mean Dice of the labels or regions on the resampled grid."""

    shown: ClassVar[str] = MEAN
    title: ClassVar[str] = "Dice"
    augments_on_device: ClassVar[bool] = True

    def check(self, dataset: Dataset, plan: Plan) -> None:
        """Dims, channels and labels are the dataset's."""
        refuse_mismatch(
            dataset,
            ("spatial_dims", plan.spatial_dims, dataset.spatial_dims),
            ("in_channels", plan.in_channels, len(dataset.channel_names)),
            ("outputs", plan.outputs, "labels" if dataset.regions is None else "regions"),
            ("num_classes", plan.num_classes, dataset.num_classes),
        )

    def columns(self, dataset: Dataset) -> tuple[str, ...]:
        """Names of the scores: ``dice_mean``, ``dice_<label>``, ..."""
        return (MEAN, *map(column_of, dataset.targets))

    def names(self, dataset: Dataset) -> Names:
        """Labels with the background, or regions."""
        channels = tuple(dataset.channel_names)
        if dataset.regions is not None:
            return Names(outputs=dataset.targets, channels=channels, has_background=False, independent=True)
        return Names(outputs=tuple(dataset.labels), channels=channels)

    def remarks(self, job: Job) -> list[str]:
        """Warnings of axes whose mirroring may swap labels, and of labels that no case was annotated with."""
        plan, dataset = job.plan, job.dataset
        safe = safe_mirror_axes(list(dataset.targets), plan.orientation, plan.spatial_dims)
        # A plan edited by hand may mirror axes that its labels distinguish; the user may know better than their names.
        risky = [axis for axis in plan.mirror_axes if axis not in safe]
        names = ", ".join(dataset.targets)
        lines = [f"warning: mirror_axes {risky} may swap the sides that labels name ({names})"] if risky else []
        annotated = {name for case in dataset.cases if case.split != "test" for name in dataset.labelled_with(case)}
        unknown = ", ".join(name for name in dataset.targets if name not in annotated)
        if unknown:
            lines.append(f"warning: no case is labelled with {unknown}, which cannot be learned")
        return lines

    def prepare(
        self, cases: Sequence[Case], job: Job, *, share: slice, progress: Callable[[int, int, str], None]
    ) -> None:
        """Prepare the cases, see `prepare_cases`."""
        prepare_cases(cases[share], job.dataset, job.plan.preparation(), job.run.cache, progress=progress)

    def prepared(self, cases: Sequence[Case], job: Job) -> list[PreparedCase]:
        """The prepared cases, see `prepare_cases`."""
        return prepare_cases(cases, job.dataset, job.plan.preparation(), job.run.cache, check=False)

    def samples(self, cases: Cases, job: Job) -> torch.utils.data.Dataset[Sample]:
        """The samples: patches of cases."""
        dataset: Dataset = job.dataset
        return PatchSampler(
            cases.train,
            job.plan,
            ignored=None if dataset.ignore is None else len(dataset.labels),
            targets=len(dataset.targets) if dataset.is_partly_labelled else None,
            device=job.augment_on,
        )

    def loss(self, cases: Cases, job: Job) -> nn.Module:
        """The loss of the plan: of regions, or of labels; masked where something is not known of the voxels."""
        dataset, plan = job.dataset, job.plan
        settings = {
            "batch_dice": plan.batch_dice,
            "label_smoothing": plan.label_smoothing,
            "drops_coarsest": plan.drops_coarsest_level,
        }
        if plan.skeleton_recall and (dataset.regions or dataset.ignore is not None or dataset.is_partly_labelled):
            raise PlanError(
                f"skeleton_recall={plan.skeleton_recall} with regions, ignored voxels or partly labelled cases",
                expected="labels that are known everywhere",
                fix="set skeleton_recall to 0",
                path=dataset.source,
            )
        if dataset.regions is not None:
            return RegionLoss(plan.loss, members_of(dataset), **settings)
        if dataset.ignore is not None or dataset.is_partly_labelled:
            return MaskedLabelLoss(plan.loss, **settings)
        loss = SegmentationLoss(plan.loss, **settings)
        return SkeletonRecall(loss, plan.skeleton_recall) if plan.skeleton_recall else loss

    def validate(self, cases: Cases, job: Job, state: State) -> ValidationResult:
        """Whole volumes, window by window."""
        result = validate(
            state.module,
            cases.validation,
            job.plan,
            job.dataset,
            fabric=state.fabric,
            precision=job.precision,
            between=state.check_stop,
        )
        columns = {MEAN: result.mean, **{column_of(name): value for name, value in result.dice.items()}}
        return ValidationResult(
            score=result.score,
            columns=columns,
            kept={TEMPERATURE: result.temperature},
            cases=result.cases,
            snapshots=result.worst,
        )

    def card(self, job: Job, training: dict[str, Any], best: dict[str, float | None]) -> SegmentationCard:
        """Labels, colours, and the window."""
        plan: Plan = job.plan
        names = {column_of(name): name for name in job.dataset.targets}
        dice = {names[column]: value for column, value in best.items() if column in names}
        return SegmentationCard(
            preprocessing=plan.preparation().to_dict(),
            channel_names=tuple(job.dataset.channel_names),
            labels=dict(job.dataset.labels),
            regions=job.dataset.regions,
            ignore=job.dataset.ignore,
            colours=job.colours,
            inference=Windows(roi_size=plan.patch_size, overlap=plan.overlap, mirror_axes=plan.mirror_axes),
            training={**training, "dice": dice},
            temperature=best.get(TEMPERATURE),
        )


def column_of(name: str) -> str:
    """The column of metrics.csv with the Dice of a label or region: ``dice_<name>``.

    One called "mean" is put in quotes, because ``dice_mean`` is the mean over all; so is one that has such quotes, so
    that no two names have one column.
    """
    is_quoted = len(name) > 1 and name[0] == name[-1] == '"'
    return f'dice_"{name}"' if is_quoted or f"dice_{name}" == MEAN else f"dice_{name}"

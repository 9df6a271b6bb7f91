"""Restoration of hidden parts as a task: scans without labels, the error of what is hidden."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from resvox.cards import RegressionCard, Windows
from resvox.datasets.scans import Scan, ScanDataset
from resvox.inference import TorchEngine
from resvox.training.batches import Sample
from resvox.training.restoration.cache import PreparedScan, prepare_scans
from resvox.training.restoration.hiding import HiddenLoss
from resvox.training.restoration.plan import RestorationPlan
from resvox.training.restoration.samples import HiddenPatches, validation_samples
from resvox.training.task import Cases, Job, State, Task, ValidationResult, refuse_mismatch


class Restoration(Task):
    """Scans of which parts are hidden and restored, to begin another training from the weights.

    The score is the loss of the hidden voxels of a few patches of each validation scan; lower is better. The model file
    is one for values in the units of the prepared scans.
    """

    shown: ClassVar[str] = "hidden_error"
    title: ClassVar[str] = "error of hidden voxels"

    def check(self, dataset: ScanDataset, plan: RestorationPlan) -> None:
        """Dims and channels are the dataset's."""
        refuse_mismatch(
            dataset,
            ("spatial_dims", plan.spatial_dims, dataset.spatial_dims),
            ("in_channels", plan.in_channels, len(dataset.channel_names)),
        )

    def columns(self, dataset: ScanDataset) -> tuple[str, ...]:
        """The mean error of hidden voxels, and that of the value 0: restoring nothing."""
        return ("hidden_error", "error_of_zero")

    def prepare(
        self, cases: Sequence[Scan], job: Job, *, share: slice, progress: Callable[[int, int, str], None]
    ) -> None:
        """Prepare the scans, see `prepare_scans`."""
        prepare_scans(cases[share], job.dataset, job.plan, job.run.cache, progress=progress)

    def prepared(self, cases: Sequence[Scan], job: Job) -> list[PreparedScan]:
        """The prepared scans, see `prepare_scans`."""
        return prepare_scans(cases, job.dataset, job.plan, job.run.cache, check=False)

    def samples(self, cases: Cases, job: Job) -> torch.utils.data.Dataset[Sample]:
        """The samples: patches with hidden blocks."""
        return HiddenPatches(cases.train, job.plan)

    def loss(self, cases: Cases, job: Job) -> nn.Module:
        """The loss of the plan."""
        plan = job.plan
        return HiddenLoss(
            plan.loss,
            visible_weight=plan.visible_weight,
            drops_coarsest=plan.drops_coarsest_level,
            shared=True,
        )

    def validate(self, cases: Cases, job: Job, state: State) -> ValidationResult:
        """A few patches of each scan; the scans are shared among the processes."""
        plan, fabric = job.plan, state.fabric
        engine = TorchEngine(state.module, device=fabric.device, precision=job.precision.for_inference)
        loss = HiddenLoss(plan.loss)  # of what was hidden alone
        sums = torch.zeros(3, dtype=torch.float64, device=fabric.device)
        for place in range(fabric.global_rank, len(cases.validation), fabric.world_size):
            state.check_stop()
            for sample in validation_samples(cases.validation[place], plan, place):
                restored = torch.from_numpy(engine(sample.image[None].numpy()))
                target = sample.target[None]
                errors = [float(loss(each, target)) for each in (restored, torch.zeros_like(restored))]
                sums += torch.tensor([*errors, 1.0], dtype=torch.float64, device=fabric.device)
        if fabric.world_size > 1:
            sums = fabric.all_reduce(sums, reduce_op="sum")  # type: ignore[assignment]
        error, nothing = (sums[:2] / sums[2]).tolist()
        return ValidationResult(score=-error, columns={"hidden_error": error, "error_of_zero": nothing})

    def card(self, job: Job, training: dict[str, Any], best: dict[str, float | None]) -> RegressionCard:
        """A value for each channel, in the units of the prepared scans."""
        plan: RestorationPlan = job.plan
        return RegressionCard(
            preprocessing=plan.preprocessing().to_dict(),
            channel_names=tuple(job.dataset.channel_names),
            target_names=tuple(job.dataset.channel_names),
            target_mean=(0.0,) * plan.in_channels,
            target_std=(1.0,) * plan.in_channels,
            inference=Windows(roi_size=plan.patch_size, overlap=plan.overlap, mirror_axes=plan.mirror_axes),
            training={**training, "pretraining": "restoration of hidden blocks", "scores": best},
        )

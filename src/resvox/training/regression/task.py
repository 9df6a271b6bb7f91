"""Dense regression as a task: scans and volumes of values, mean absolute error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from resvox.cards import RegressionCard, Windows
from resvox.datasets.regression import RegressionCase, RegressionDataset
from resvox.inference import TorchEngine, sliding_window_inference
from resvox.training.batches import Sample
from resvox.training.losses import RegressionLoss
from resvox.training.regression.cache import PreparedPair, prepare_pairs
from resvox.training.regression.plan import RegressionPlan
from resvox.training.regression.samples import ValuePatches
from resvox.training.task import LARGEST_OVERLAP, Cases, Job, State, Task, ValidationResult, refuse_mismatch


class Regression(Task):
    """Scans and volumes of values.

    The score is the mean absolute error in standard deviations of each value; lower is better. The error that is shown
    is in the units of the files.
    """

    shown: ClassVar[str] = "mae"
    title: ClassVar[str] = "MAE"
    augments_on_device: ClassVar[bool] = True

    def check(self, dataset: RegressionDataset, plan: RegressionPlan) -> None:
        """Dims, channels and values are the dataset's."""
        refuse_mismatch(
            dataset,
            ("spatial_dims", plan.spatial_dims, dataset.spatial_dims),
            ("in_channels", plan.in_channels, len(dataset.channel_names)),
            ("outputs", plan.outputs, len(dataset.target_names)),
        )

    def columns(self, dataset: RegressionDataset) -> tuple[str, ...]:
        """Mean absolute and root mean square error over the values, and of each."""
        each = [f"{error}_{name}" for name in dataset.target_names for error in ("mae", "rmse")]
        return ("mae", "rmse", *each)

    def prepare(
        self, cases: Sequence[RegressionCase], job: Job, *, share: slice, progress: Callable[[int, int, str], None]
    ) -> None:
        """Prepare the cases, see `prepare_pairs`."""
        prepare_pairs(cases[share], job.dataset, job.plan, job.run.cache, progress=progress)

    def prepared(self, cases: Sequence[RegressionCase], job: Job) -> list[PreparedPair]:
        """The prepared cases, see `prepare_pairs`."""
        return prepare_pairs(cases, job.dataset, job.plan, job.run.cache, check=False)

    def samples(self, cases: Cases, job: Job) -> torch.utils.data.Dataset[Sample]:
        """The samples: patches of cases."""
        return ValuePatches(cases.train, job.plan, device=job.augment_on)

    def loss(self, cases: Cases, job: Job) -> nn.Module:
        """The loss of the plan."""
        return RegressionLoss(job.plan.loss, drops_coarsest=job.plan.drops_coarsest_level)

    def validate(self, cases: Cases, job: Job, state: State) -> ValidationResult:
        """Whole volumes, window by window, on the prepared grid; the cases are shared among the processes."""
        plan, fabric, names = job.plan, state.fabric, job.dataset.target_names
        sums = torch.zeros(3, plan.outputs, dtype=torch.float64, device=fabric.device)
        for case in cases.validation[fabric.global_rank :: fabric.world_size]:
            state.check_stop()
            difference = _predicted(case, job, state) - case.target
            flat = torch.from_numpy(difference.reshape(plan.outputs, -1).astype(np.float64)).to(fabric.device)
            sums += torch.stack([flat.abs().mean(1), flat.square().mean(1).sqrt(), torch.ones_like(flat[:, 0])])
        if fabric.world_size > 1:
            sums = fabric.all_reduce(sums, reduce_op="sum")  # type: ignore[assignment]
        mae, rmse = (sums[:2] / sums[2]).tolist()
        columns: dict[str, float | None] = {"mae": float(np.mean(mae)), "rmse": float(np.mean(rmse))}
        for index, name in enumerate(names):
            columns.update({f"mae_{name}": mae[index], f"rmse_{name}": rmse[index]})
        return ValidationResult(score=-float(np.mean(np.array(mae) / plan.target_std)), columns=columns)

    def card(self, job: Job, training: dict[str, Any], best: dict[str, float | None]) -> RegressionCard:
        """Names and units of the values, and the window."""
        plan: RegressionPlan = job.plan
        return RegressionCard(
            preprocessing=plan.preprocessing().to_dict(),
            channel_names=tuple(job.dataset.channel_names),
            target_names=tuple(job.dataset.target_names),
            target_mean=plan.target_mean,
            target_std=plan.target_std,
            inference=Windows(roi_size=plan.patch_size, overlap=plan.overlap, mirror_axes=plan.mirror_axes),
            training={**training, "scores": best},
        )


def _predicted(case: PreparedPair, job: Job, state: State) -> np.ndarray[Any, Any]:
    """(outputs, *spatial) in the units of the files."""
    plan = job.plan
    values = sliding_window_inference(
        np.asarray(case.image),
        TorchEngine(state.module, device=state.fabric.device, precision=job.precision.for_inference),
        roi_size=plan.patch_size,
        overlap=min(plan.overlap, LARGEST_OVERLAP),
        sw_batch_size=plan.batch_size,
    )
    column = (-1, *[1] * plan.spatial_dims)
    std, mean = (np.asarray(each, np.float32).reshape(column) for each in (plan.target_std, plan.target_mean))
    answer: np.ndarray[Any, Any] = values * std + mean
    return answer

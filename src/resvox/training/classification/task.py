"""Classification as a task: whole images, cross-entropy, balanced accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from resvox.cards import ClassificationCard, WholeImage
from resvox.datasets.classification import ClassificationDataset, ImageCase, class_counts
from resvox.evaluation import ClassScores, score_classes
from resvox.inference import TorchEngine, probabilities_from_logits
from resvox.training.batches import Sample
from resvox.training.classification.cache import PreparedImage, prepare_images
from resvox.training.classification.plan import ClassificationPlan
from resvox.training.classification.samples import ImageSamples
from resvox.training.losses import ClassificationLoss
from resvox.training.task import Cases, Job, State, Task, ValidationResult, refuse_mismatch
from resvox.weights.by_name import Names


class Classification(Task):
    """Images and their classes; the score is the balanced accuracy, the mean of the classes' recalls."""

    shown: ClassVar[str] = "balanced_accuracy"
    title: ClassVar[str] = "balanced accuracy"

    def check(self, dataset: ClassificationDataset, plan: ClassificationPlan) -> None:
        """Dims, channels and classes are the dataset's."""
        refuse_mismatch(
            dataset,
            ("spatial_dims", plan.spatial_dims, dataset.spatial_dims),
            ("in_channels", plan.in_channels, len(dataset.channel_names)),
            ("num_classes", plan.num_classes, dataset.num_classes),
        )

    def names(self, dataset: ClassificationDataset) -> Names:
        """The classes and channels."""
        channels = tuple(dataset.channel_names)
        return Names(outputs=tuple(dataset.classes), channels=channels, has_background=False)

    def columns(self, dataset: ClassificationDataset) -> tuple[str, ...]:
        """Accuracy, balanced accuracy, AUC, log loss, and the recall of each class."""
        return ("accuracy", "balanced_accuracy", "auc", "log_loss", *(f"recall_{name}" for name in dataset.classes))

    def prepare(
        self, cases: Sequence[ImageCase], job: Job, *, share: slice, progress: Callable[[int, int, str], None]
    ) -> None:
        """Prepare the cases, see `prepare_images`."""
        prepare_images(cases, job.dataset, job.plan, job.run.cache, share=share, progress=progress)

    def prepared(self, cases: Sequence[ImageCase], job: Job) -> list[PreparedImage]:
        """The prepared cases, see `prepare_images`."""
        return prepare_images(cases, job.dataset, job.plan, job.run.cache, check=False)

    def samples(self, cases: Cases, job: Job) -> torch.utils.data.Dataset[Sample]:
        """The samples: whole images."""
        return ImageSamples(cases.train, job.plan)

    def loss(self, cases: Cases, job: Job) -> nn.Module:
        """Cross-entropy; a class's weight is the cases a class has on average over those that it has."""
        plan: ClassificationPlan = job.plan
        weights = None
        if plan.class_balance == "weights":
            counts = np.bincount([case.label for case in cases.train], minlength=plan.num_classes)
            weights = (len(cases.train) / (plan.num_classes * counts)).tolist()
        return ClassificationLoss(class_weights=weights, label_smoothing=plan.label_smoothing)

    def validate(self, cases: Cases, job: Job, state: State) -> ValidationResult:
        """Every validation image once; the images are shared among the processes."""
        scores = _scored(cases.validation, job, state)
        columns: dict[str, float | None] = {
            "accuracy": scores.accuracy,
            "balanced_accuracy": scores.balanced_accuracy,
            "auc": scores.mean_auc,
            "log_loss": scores.log_loss,
            **{f"recall_{name}": value for name, value in scores.recall.items()},
        }
        # Few validation images give the same accuracy at many steps: the surer one is kept.
        return ValidationResult(score=scores.balanced_accuracy, tie=-scores.log_loss, columns=columns)

    def card(self, job: Job, training: dict[str, Any], best: dict[str, float | None]) -> ClassificationCard:
        """Classes by index, and how an image becomes what the network sees."""
        plan: ClassificationPlan = job.plan
        split = job.dataset.split(fraction=plan.validation_fraction, seed=plan.seed)
        return ClassificationCard(
            preprocessing=plan.preprocessing().to_dict(),
            channel_names=tuple(job.dataset.channel_names),
            labels={name: index for index, name in enumerate(job.dataset.classes)},
            inference=WholeImage(image_size=plan.image_size, fit=plan.fit, batch_size=plan.batch_size),
            training={**training, "scores": best, "cases": class_counts(split.train, job.dataset.classes)},
        )


def _scored(images: list[PreparedImage], job: Job, state: State) -> ClassScores:
    plan, fabric = job.plan, state.fabric
    engine = TorchEngine(state.module, device=fabric.device, precision=job.precision.for_inference)
    mine = list(range(len(images)))[fabric.global_rank :: fabric.world_size]
    table = torch.zeros(len(images), plan.num_classes, dtype=torch.float64, device=fabric.device)
    for first in range(0, len(mine), plan.batch_size):
        state.check_stop()
        places = mine[first : first + plan.batch_size]
        logits = engine(np.stack([images[place].image for place in places]))
        table[places] = torch.from_numpy(probabilities_from_logits(logits.T).T).to(table)
    if fabric.world_size > 1:
        table = fabric.all_reduce(table, reduce_op="sum")  # type: ignore[assignment]
    return score_classes(table.cpu().numpy(), [image.label for image in images], job.dataset.classes)

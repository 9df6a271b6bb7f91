"""The training half of a toy fourth task: a dataset, a plan and a runner, in a file each in real life.

A heat map with one output is learned, whose largest value is at the keypoint. Nothing of resvox.training knows of it.
Prediction is in `prediction/keypoints.py`, evaluation below.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from prediction.keypoints import KeypointCard

from resvox.cards import Windows
from resvox.datasets.splits import NAMED, divide
from resvox.evaluation.result import EvaluateResult
from resvox.evaluation.tasks import EvaluationTask
from resvox.training.batches import Sample
from resvox.training.plans.fields import plan_field
from resvox.training.plans.patch import PatchPlan
from resvox.training.task import Task, ValidationResult
from resvox.training.tasks import Refusal, TaskRow
from resvox.volumes import read_volume


@dataclass(frozen=True, kw_only=True)
class PointCase:
    id: str
    image: Path
    position_mm: tuple[float, ...]
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class Split:
    train: tuple[PointCase, ...]
    validation: tuple[PointCase, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class PointDataset:
    cases: tuple[PointCase, ...]
    source: Path
    name: str = "points"
    channel_names: tuple[str, ...] = ("CT",)
    spatial_dims: int = 3

    @property
    def learned(self):
        return "points", ("the brightest",)

    def split(self, *, fraction=0.2, seed=0):
        train, validation, reason = divide(self.cases, fraction=fraction, seed=seed, source=self.source, named=NAMED)
        return Split(train=train, validation=validation, reason=reason)


def read_points(path):
    """A folder of scans, each with a ``<case>.json`` of its keypoint."""
    cases = tuple(
        PointCase(id=file.stem, image=file.with_suffix(".nii.gz"), position_mm=json.loads(file.read_text()))
        for file in sorted(Path(path).glob("*.json"))
    )
    return PointDataset(cases=cases, source=Path(path))


@dataclass(frozen=True, kw_only=True)
class PointPlan(PatchPlan):
    TASK: ClassVar[str] = "keypoint"

    task: str = plan_field("keypoint", "what is learned", "task")
    model: str = plan_field("unet", "a segmentation model", "network")

    def model_options(self):
        return self.network_options(1)


def take_facts(dataset):
    return dataset


def make_plan(facts, *, device="auto", **changes):
    return PointPlan.from_dict({"in_channels": len(facts.channel_names), "orientation": "SPL", **changes})


@dataclass(frozen=True, kw_only=True)
class PreparedPoint:
    id: str
    image: np.ndarray
    index: tuple[int, ...]
    source: int | None = None


class Samples(torch.utils.data.Dataset):
    def __init__(self, cases):
        self.cases = cases

    def __getitem__(self, number):
        case = self.cases[number % len(self.cases)]
        target = torch.tensor(np.ravel_multi_index(case.index, case.image.shape[1:]))
        return Sample(image=torch.from_numpy(case.image), target=target, case=case.id, number=number)


class PointLoss(torch.nn.Module):
    """Cross-entropy over the voxels."""

    def forward(self, output, target):
        return torch.nn.functional.cross_entropy(output.flatten(1), target)


class Keypoints(Task):
    shown: ClassVar[str] = "distance"
    title: ClassVar[str] = "distance"

    def check(self, dataset, plan):
        assert plan.in_channels == len(dataset.channel_names)

    def columns(self, dataset):
        return ("distance",)

    def prepare(self, cases, job, *, share, progress):
        pass  # nothing is kept on disk

    def prepared(self, cases, job):
        made = []
        for case in cases:
            prepared = job.plan.preprocessing().apply(read_volume(case.image))
            index = tuple(round(place) for place in prepared.grid.index(case.position_mm))
            made.append(PreparedPoint(id=case.id, image=prepared.array, index=index))
        return made

    def samples(self, cases, job):
        return Samples(cases.train)

    def loss(self, cases, job):
        return PointLoss()

    def validate(self, cases, job, state):
        distances = []
        state.module.eval()
        with torch.no_grad():
            for case in cases.validation:
                score = state.module(torch.from_numpy(case.image[None]))[0, 0]
                found = np.unravel_index(int(score.argmax()), score.shape)
                distances.append(float(np.linalg.norm(np.subtract(found, case.index))))
        state.module.train()
        distance = float(np.mean(distances))
        return ValidationResult(score=-distance, columns={"distance": distance})

    def card(self, job, training, best):
        return KeypointCard(
            preprocessing=job.plan.preprocessing().to_dict(),
            channel_names=job.dataset.channel_names,
            inference=Windows(roi_size=job.plan.patch_size),
            training={**training, "scores": best},
        )


class PointScores(dict):
    def to_dict(self):
        return dict(self)

    def to_json(self, path):
        path.write_text(json.dumps(self))
        return path


def evaluate_points(predictions, references, options, on_case):
    """Millimetres between what `prediction/keypoints.py` writes and the references."""
    scores = {}
    for file in sorted(Path(references).glob("*.json")):
        found = json.loads((Path(predictions) / file.name).read_text())["position_mm"]
        scores[file.stem] = float(np.linalg.norm(np.subtract(found, json.loads(file.read_text()))))
    return EvaluateResult(scores=PointScores(scores), labels={})


TRAINING_ROW = TaskRow(
    reader="training.keypoint_task.read_points",
    fingerprint="training.keypoint_task.take_facts",
    planner="training.keypoint_task.make_plan",
    plan="training.keypoint_task.PointPlan",
    runner="training.keypoint_task.Keypoints",
    weights_fields=None,
    models=("segmentation",),
    refused={"weights": Refusal(expected="new weights", fix="leave --weights out")},
)
EVALUATION_ROW = EvaluationTask(evaluate="training.keypoint_task.evaluate_points")

"""What differs between the tasks of a training run; loop, checkpoints, logs and processes are the same for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from resvox.errors import PlanError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from resvox.training.batches import Sample
    from resvox.training.logs import ProgressDisplay
    from resvox.training.steps import Job, State


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What a validation found.

    Args:
        score: the higher the better; the weights with the highest are kept.
        columns: of metrics.csv.
        tie: decides between two equal scores, the higher the better.
    """

    score: float
    columns: dict[str, float | None]
    tie: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Cases:
    """Prepared cases, of whatever kind the task makes of them."""

    train: list[Any]
    validation: list[Any]


class Task(ABC):
    """One task: its data, its loss, its validation, what its model file says. Abstract; its classes are final.

    ``shown`` is the column of metrics.csv that stands in the progress line, ``title`` its name there.
    """

    shown: ClassVar[str]
    title: ClassVar[str]

    @abstractmethod
    def check(self, dataset: Any, plan: Any) -> None:
        """Refuse a plan that was not drawn for the dataset.

        Raises:
            PlanError: naming the field.
        """

    @abstractmethod
    def columns(self, dataset: Any) -> tuple[str, ...]:
        """What a validation adds to metrics.csv, in order."""

    @abstractmethod
    def prepare(self, fabric: Fabric, job: Job, display: ProgressDisplay) -> Cases:
        """The cases as the network sees them; every process prepares its share and gets all."""

    @abstractmethod
    def samples(self, cases: Cases, job: Job) -> torch.utils.data.Dataset[Sample]:
        """Sample n of the run for every n."""

    @abstractmethod
    def loss(self, cases: Cases, job: Job) -> nn.Module:
        """Called with the network's output and the batch's target."""

    @abstractmethod
    def validate(self, cases: Cases, job: Job, state: State) -> Validation:
        """The network against the validation cases; the same answer on every process."""

    @abstractmethod
    def metadata(self, job: Job, best: dict[str, float | None]) -> dict[str, Any]:
        """What a prediction needs beside the weights; ``best`` are the columns of the best validation."""


def refuse_mismatch(dataset: Any, *planned: tuple[str, Any, Any]) -> None:
    """Refuse the first (field, value in the plan, value in the data) whose two values differ."""
    for name, value, found in planned:
        if value != found:
            raise PlanError(
                f"{name}={value} in the plan",
                expected=f"{found}, as in the dataset {dataset.name!r}",
                fix="draw the plan from this dataset",
                path=dataset.source,
            )

"""What differs between the tasks of a training run; loop, checkpoints, logs and processes are the same for all."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from lightning_fabric import Fabric
from torch import nn

from resvox.cards import ModelCard
from resvox.errors import PlanError
from resvox.training.batches import Sample
from resvox.training.checkpoints import Progress
from resvox.training.distributed.peers import Peers
from resvox.training.optimization.averaging import WeightAverage
from resvox.training.optimization.pacing import ValidationTimes
from resvox.training.plans.precision import Precision
from resvox.training.profiling import StageClock
from resvox.training.records import Snapshot
from resvox.training.run_folder import RunFolder
from resvox.training.stopping import StopGuard
from resvox.weights.by_name import Names

LARGEST_OVERLAP = 0.25  # of windows while validating: half the time of 0.5, and it only ranks checkpoints


@dataclass(frozen=True, kw_only=True)
class ValidationResult:
    """The result of a validation.

    Args:
        score: the higher the better; the weights with the highest are kept. None where the validation cases allow
            no score: then it chooses no weights.
        columns: of metrics.csv.
        tie: decides between two equal scores, the higher the better.
        kept: further numbers that are kept with the scores of the best weights, for the card.
        cases: the scores of each case, of all processes.
        snapshots: slices of the worst cases of this process.
    """

    score: float | None
    columns: dict[str, float | None]
    tie: float = 0.0
    kept: dict[str, float | None] = field(default_factory=dict)
    cases: dict[str, dict[str, float | None]] = field(default_factory=dict)
    snapshots: tuple[Snapshot, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cases:
    """Prepared cases, of whatever type the task makes of them; all have an ``id`` and a ``source``, see `members`."""

    train: list[Any]
    validation: list[Any]

    def members(self) -> dict[str, dict[str, int | None]]:
        """The checksum of each case's files by part and id, as checkpoints keep them."""
        parts = {"train": self.train, "validation": self.validation}
        return {part: {case.id: case.source for case in cases} for part, cases in parts.items()}


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What ``on_step`` is called with after each step, on every process; ``numbers`` are this process's samples.

    ``score`` is the result of a validation, None where there was none: mean Dice, balanced accuracy, MAE.
    """

    step: int
    loss: float
    learning_rate: float
    seconds: float
    cases: tuple[str, ...]
    numbers: tuple[int, ...]
    rank: int
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """What stays the same during a run. Dataset and plan are of the task's own types."""

    task: Task
    dataset: Any
    plan: Any
    run: RunFolder
    resume: bool
    overwrite: bool
    finish: bool
    precision: Precision
    workers: int
    shown: bool
    on_step: Callable[[StepReport], None] | None
    colours: dict[str, str]
    profile: bool = False
    machines: int = 1
    augments_on_device: bool = False
    augment_on: torch.device | None = None  # that of this process, once it is known


@dataclass(kw_only=True)
class State:
    """What changes during a run."""

    fabric: Fabric
    module: nn.Module  # the network itself: what is validated and saved
    model: nn.Module  # the network as Fabric wraps it: what is trained
    optimizer: Any
    progress: Progress
    stop: StopGuard
    peers: Peers  # the other machines
    average: WeightAverage | None = None  # of the weights, where the plan asks for one
    clock: StageClock = field(default_factory=lambda: StageClock(enabled=False, device=torch.device("cpu")))
    validations: ValidationTimes = field(default_factory=ValidationTimes)
    loaded: str = ""  # which weights it began from, in words
    # held while weights, averages and the number of the step change: between, a checkpoint is that of one step
    steady: Any = field(default_factory=threading.RLock)
    buffers: list[torch.Tensor] = field(default_factory=list)  # statistics before an unfinished step
    whole: Any = None  # on CUDA, an event behind the last work that a checkpoint needs

    def keep_buffers(self) -> None:
        """Keep the running statistics: the forward pass of a step that is never finished has changed them."""
        if self.peers.is_active:  # else nothing is saved amid a step
            self.buffers = [each.detach().clone() for each in self.module.buffers()]
            self.mark_whole()

    @torch.no_grad()
    def undo_unfinished(self) -> None:
        """Put the running statistics back where a step has begun and not ended."""
        for each, kept in zip(self.module.buffers(), self.buffers, strict=False):
            each.copy_(kept)
        self.buffers = []

    def mark_whole(self) -> None:
        """Note that the work that the device has been given so far is all that a checkpoint needs."""
        if self.peers.is_active and self.fabric.device.type == "cuda":
            self.whole = torch.cuda.current_stream(self.fabric.device).record_event()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """On CUDA a stream of its own: the default one may wait forever for numbers of a machine that is lost."""
        device = self.fabric.device
        if device.type != "cuda":
            yield
            return
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        if self.whole is not None:
            stream.wait_event(self.whole)
        with torch.cuda.stream(stream):
            yield
            stream.synchronize()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """The network with the weights that are validated and saved: the average of them where there is one."""
        with nullcontext() if self.average is None else self.average.applied(self.module, self.steady):
            self.mark_whole()
            yield

    def check_stop(self) -> None:
        """Called by a validation between two cases, so that a signal need not wait for all of them.

        Raises:
            StopRequestedError: a signal has arrived, and no other process would wait for this one.
        """
        if self.fabric.world_size == 1:
            self.stop.check()


class Task(ABC):
    """One task: its data, its loss, its validation, the metadata of its model file. Abstract; subclasses are final.

    ``shown`` is the column of metrics.csv that stands in the progress line, ``title`` its name there.
    """

    shown: ClassVar[str]
    title: ClassVar[str]
    augments_on_device: ClassVar[bool] = False  # whether `samples` gives cuts where the job has a device to augment on

    @abstractmethod
    def check(self, dataset: Any, plan: Any) -> None:
        """Check that the plan was made for the dataset.

        Raises:
            PlanError: naming the field.
        """

    @abstractmethod
    def columns(self, dataset: Any) -> tuple[str, ...]:
        """The columns that a validation adds to metrics.csv, in order."""

    def names(self, dataset: Any) -> Names | None:
        """What outputs and channels stand for, so that weights to begin from are matched; None: a new head."""
        return None

    def remarks(self, job: Job) -> list[str]:
        """Lines to show before the cases are prepared."""
        return []

    @abstractmethod
    def prepare(
        self, cases: Sequence[Any], job: Job, *, share: slice, progress: Callable[[int, int, str], None]
    ) -> None:
        """Write this process's share of the prepared cases into the cache, where they are not there whole.

        Args:
            progress: called with (done, in all, id).
        """

    @abstractmethod
    def prepared(self, cases: Sequence[Any], job: Job) -> list[Any]:
        """The prepared cases, one for each of ``cases``; every process has finished `prepare`."""

    @abstractmethod
    def samples(self, cases: Cases, job: Job) -> torch.utils.data.Dataset[Sample]:
        """Sample n of the run for every n."""

    @abstractmethod
    def loss(self, cases: Cases, job: Job) -> nn.Module:
        """A module called with the network's output and the batch's target, and with ``known`` if samples have it."""

    @abstractmethod
    def validate(self, cases: Cases, job: Job, state: State) -> ValidationResult:
        """The network against the validation cases; the same result on every process."""

    @abstractmethod
    def card(self, job: Job, training: dict[str, Any], best: dict[str, float | None]) -> ModelCard:
        """The card of the model file: what a prediction needs beside the weights.

        Args:
            training: dataset and steps; the task adds its scores.
            best: the columns of the best validation, and what it kept beside them.
        """


def refuse_mismatch(dataset: Any, *planned: tuple[str, Any, Any]) -> None:
    """Raise for the first (field, value in the plan, value in the data) whose two values differ."""
    for name, value, found in planned:
        if value != found:
            raise PlanError(
                f"{name}={value} in the plan",
                expected=f"{found}, as in the dataset {dataset.name!r}",
                fix="make the plan from this dataset",
                path=dataset.source,
            )

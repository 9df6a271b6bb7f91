"""What every plan has in common: shared decisions, YAML with comments, changes, comparison."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from resvox.blueprint.resnet_recipe import LEVELS
from resvox.errors import PlanError
from resvox.files import write_atomically
from resvox.training.plans.fields import CHOICES, PARTS, check_fraction, check_least, check_per_axis, coerce, plan_field
from resvox.training.plans.text import plain, plan_text, read_yaml

if TYPE_CHECKING:
    from typing_extensions import Self

    from resvox.preprocessing import Preprocessing

MAY_CHANGE_ON_RESUME = ("max_minutes", "checkpoint_interval")


@dataclass(frozen=True, kw_only=True)
class TrainingPlan(ABC):
    """The decisions that every training shares; abstract, the plan of each task adds its own.

    Sizes are voxels and axes are array axes (D, H, W or H, W); spacing is mm. ``notes`` are the reasons, written
    into the YAML as comments and never compared.

    Raises:
        PlanError: a value out of range, a choice that is not one, or two fields that contradict each other.
    """

    TASK: ClassVar[str] = ""
    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # of the task's own fields

    # data
    spatial_dims: int = plan_field(3, "2 for images, 3 for volumes", "data")
    in_channels: int = plan_field(1, "channels of a scan", "data")
    # network
    strides: tuple[int | tuple[int, ...], ...] = plan_field(
        (2, 2, 2, 2, 2), "of stem, pooling and the last three stages: one number each, or one per axis", "network"
    )
    norm: str = plan_field("instance", "batch, instance or group", "network")
    further_options: Mapping[str, Any] = field(
        default_factory=dict,
        metadata={"comment": "of the network, as resvox.create_model takes them", "part": "network"},
    )
    weights: str | None = plan_field(None, "file of weights to begin from; null: new ones", "network")
    weights_peer: str | None = plan_field(None, "whose weights they are, where their names do not say", "network")
    weights_first_conv: str = plan_field("sum", "of weights for other channels: sum, repeat or first", "network")
    weights_head: str = plan_field("match", "match: classes keep their rows by name; new: none does", "network")
    weights_inflate: str = plan_field("centre", "of 2D weights in a 3D network: centre or average", "network")
    # preprocessing and augmentation
    orientation: str | None = plan_field(
        None, "where the array axes point, e.g. SPL; null keeps the file's", "preprocessing"
    )
    spacing_mm: tuple[float, ...] | None = plan_field(
        None, "target spacing of each array axis; null keeps the file's", "preprocessing"
    )
    crop: str = plan_field(
        "none",
        "none; nonzero: cut away the border that is 0; nonzero_mask: and label nothing where every channel is 0",
        "preprocessing",
    )
    normalization: tuple[Mapping[str, Any], ...] = plan_field(
        ({"kind": "zscore"},), "one per channel: {kind: window, ...} or {kind: zscore, ...}", "preprocessing"
    )
    augmentation: str = plan_field(
        "default", "none, light, default, or nnunet: the strengths of nnU-Net", "preprocessing"
    )
    mirror_axes: tuple[int, ...] = plan_field((), "array axes that augmentation may mirror", "preprocessing")
    channel_dropout: float = plan_field(
        0.0, "chance that a channel of a sample is set to 0, so that scans may lack it later", "preprocessing"
    )
    # learning
    optimizer: str = plan_field("adamw", "adamw or sgd")
    learning_rate: float = plan_field(1e-3, "the highest, reached after the warm-up")
    weight_decay: float = plan_field(1e-2, "on kernels only, not on norms and biases")
    momentum: float = plan_field(0.99, "of sgd (Nesterov)")
    gradient_clip: float = plan_field(12.0, "largest norm of the gradient; 0 switches it off")
    warmup_steps: int = plan_field(50, "of linear growth of the learning rate")
    decay: str = plan_field("poly", "poly, cosine or constant")
    steps: int = plan_field(10_000, "optimizer steps")
    max_minutes: float | None = plan_field(None, "stop earlier, after this many minutes of training; null: no limit")
    frozen_stages: int = plan_field(0, "of stem and four residual stages that learn nothing: 0 to 5")
    layer_decay: float = plan_field(1.0, "each stage learns so many times as fast as the one behind it; 1: all alike")
    ema_decay: float = plan_field(
        0.0, "of the moving average of the weights, which is validated and saved; 0: the weights themselves"
    )
    # monitoring
    validation_interval: int = plan_field(250, "steps between validations", "monitoring")
    validation_fraction: float = plan_field(
        0.2, "of the cases validate, where the dataset does not say which", "monitoring"
    )
    checkpoint_interval: int = plan_field(250, "steps between checkpoints: what a kill can cost", "monitoring")
    seed: int = plan_field(0, "all randomness follows from it, the step and the sample", "monitoring")
    precision: str = plan_field("auto", "auto (bf16-mixed on a GPU), 32-true, bf16-mixed or 16-mixed", "monitoring")
    notes: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    # fields that the plan of each task defines itself
    if TYPE_CHECKING:
        task: str
        model: str
        batch_size: int

    def __post_init__(self) -> None:
        hints = _hints(type(self))
        for item in _fields(type(self)):
            object.__setattr__(self, item.name, coerce(item.name, getattr(self, item.name), hints[item.name]))
        if self.task != self.TASK:
            raise PlanError(f"task={self.task!r} in a plan for {self.TASK}", expected=self.TASK)
        _check_choices(self)
        _check_numbers(self)
        _check_shapes(self)
        self.check_own()
        self.preprocessing()  # refuses unknown normalizations and orientations

    @abstractmethod
    def check_own(self) -> None:
        """Check the task's own fields."""

    @property
    @abstractmethod
    def sample_size(self) -> tuple[int, ...]:
        """Voxels of one sample of a batch, (D,) H, W."""

    @abstractmethod
    def model_options(self) -> dict[str, Any]:
        """The keyword arguments for `resvox.create_model(plan.model, ...)`."""

    def built_options(self) -> dict[str, Any]:
        """All keyword arguments for `resvox.create_model(plan.model, ...)`."""
        return {**self.model_options(), **self.further_options}

    @property
    def axis_strides(self) -> tuple[tuple[int, ...], ...]:
        """Strides with one number per axis throughout."""
        return tuple((s,) * self.spatial_dims if isinstance(s, int) else s for s in self.strides)

    def preprocessing(self) -> Preprocessing:
        """What is done to a scan before the network sees it."""
        from resvox.preprocessing import Preprocessing

        return Preprocessing.from_dict(
            {
                "orientation": self.orientation,
                "spacing_mm": self.spacing_mm,
                "crop": self.crop,
                "normalization": [dict(each) for each in self.normalization],
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, without the notes."""
        return {item.name: plain(getattr(self, item.name)) for item in _fields(type(self))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, path: str | os.PathLike[str] | None = None) -> Self:
        """A plan from plain values; unknown names are refused with the nearest known one."""
        known = [item.name for item in _fields(cls)]
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
                raise PlanError(
                    f"unknown field {name!r}",
                    expected=f"one of {', '.join(known)}",
                    fix=f"did you mean {near[0]!r}?" if near else "remove it",
                    path=path,
                )
        try:
            return cls(**values)
        except PlanError as error:
            raise PlanError(error.got, expected=error.expected, fix=error.fix, path=path) from None

    def with_changes(self, **changes: Any) -> Self:
        """A copy with some fields changed; unknown names are refused."""
        changed = type(self).from_dict({**self.to_dict(), **changes})
        kept = {name: note for name, note in self.notes.items() if name not in changes}
        return dataclasses.replace(changed, notes=kept)

    def differences(self, other: TrainingPlan) -> dict[str, tuple[Any, Any]]:
        """Fields whose values differ: ``{name: (this plan's, the other's)}``."""
        own, others = self.to_dict(), other.to_dict()
        return {
            name: (own.get(name), others.get(name)) for name in {**own, **others} if own.get(name) != others.get(name)
        }

    def changes_since(self, saved: Mapping[str, Any], *, path: str | os.PathLike[str]) -> dict[str, tuple[Any, Any]]:
        """Fields that differ from a saved ``to_dict()`` and must not change on a resume: ``{name: (now, then)}``.

        Args:
            saved: of this version or an older one; fields it lacks have their defaults.
            path: the file it was read from, for errors.

        Raises:
            PlanError: values that a plan of this task rejects.
        """
        changed = self.differences(type(self).from_dict(saved, path=path))
        return {name: values for name, values in changed.items() if name not in MAY_CHANGE_ON_RESUME}

    def to_yaml(self) -> str:
        """The plan as YAML: a comment on each field, and the reason for its value where one is known."""
        fields = ((item.name, item.metadata["comment"], getattr(self, item.name)) for item in _fields(type(self)))
        return plan_text(fields, self.notes)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the plan as commented YAML, atomically."""
        return write_atomically(Path(path), self.to_yaml().encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a plan from YAML.

        Raises:
            PlanError: no such file, not YAML, an unknown field (with a suggestion), or a contradiction.
        """
        return cls.from_dict(read_yaml(path), path=path)


@functools.lru_cache(maxsize=8)
def _hints(cls: type[TrainingPlan]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.lru_cache(maxsize=8)
def _fields(cls: type[TrainingPlan]) -> tuple[Any, ...]:
    """A plan's fields in the order of the YAML, without the notes."""
    own = [item for item in dataclasses.fields(cls) if item.name != "notes"]
    return tuple(sorted(own, key=lambda item: PARTS.index(item.metadata["part"])))


def _check_choices(plan: TrainingPlan) -> None:
    for name, choices in {**CHOICES, **plan.CHOICES}.items():
        value = getattr(plan, name)
        if value not in choices:
            near = difflib.get_close_matches(value, choices, n=1, cutoff=0.4)
            raise PlanError(
                f"{name}={value!r}",
                expected=f"one of {', '.join(choices)}",
                fix=f"did you mean {near[0]!r}?" if near else "",
            )


def _check_numbers(plan: TrainingPlan) -> None:
    least = {
        "in_channels": 1, "batch_size": 1, "steps": 1, "validation_interval": 1, "checkpoint_interval": 1,
        "warmup_steps": 0, "seed": 0, "weight_decay": 0, "gradient_clip": 0,
    }  # fmt: skip
    check_least(plan, least)
    for name in ("validation_fraction", "momentum", "ema_decay", "channel_dropout"):
        check_fraction(plan, name)
    _check_rates(plan)
    if plan.warmup_steps >= plan.steps:
        raise PlanError(
            f"warmup_steps={plan.warmup_steps} with steps={plan.steps}",
            expected="a warm-up shorter than the training",
            fix=f"set warmup_steps to {plan.steps // 20}",
        )
    if plan.channel_dropout and plan.in_channels == 1:
        raise PlanError(
            f"channel_dropout={plan.channel_dropout} with in_channels=1",
            expected="several channels, of which some stay",
            fix="set channel_dropout to 0",
        )


def _check_rates(plan: TrainingPlan) -> None:
    """The learning rate, and what it is multiplied by."""
    if plan.learning_rate <= 0 or (plan.max_minutes is not None and plan.max_minutes <= 0):
        raise PlanError(f"learning_rate={plan.learning_rate}, max_minutes={plan.max_minutes}", expected="more than 0")
    if not 0 < plan.layer_decay <= 1:
        raise PlanError(f"layer_decay={plan.layer_decay}", expected="above 0 and at most 1")
    if not 0 <= plan.frozen_stages <= LEVELS or (plan.frozen_stages and plan.weights is None):
        raise PlanError(
            f"frozen_stages={plan.frozen_stages}, weights={plan.weights!r}",
            expected=f"0 to {LEVELS}, and weights to keep",
            fix="set weights to a file, or frozen_stages to 0",
        )


def _check_shapes(plan: TrainingPlan) -> None:
    if plan.spatial_dims not in (2, 3):
        raise PlanError(f"spatial_dims={plan.spatial_dims}", expected="2 or 3")
    check_per_axis(plan, "spacing_mm", plan.spatial_dims)
    if len(plan.normalization) != plan.in_channels:
        raise PlanError(
            f"{len(plan.normalization)} normalizations for in_channels={plan.in_channels}",
            expected="one per channel",
        )
    if any(axis not in range(plan.spatial_dims) for axis in plan.mirror_axes):
        raise PlanError(f"mirror_axes={plan.mirror_axes}", expected=f"axes from 0 to {plan.spatial_dims - 1}")
    if len(plan.strides) != LEVELS or any(
        len(stride) != plan.spatial_dims or min(stride) < 1 for stride in plan.axis_strides
    ):
        raise PlanError(
            f"strides={plan.strides}",
            expected=f"{LEVELS} strides, each a number or {plan.spatial_dims} numbers",
        )

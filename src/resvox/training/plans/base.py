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

import yaml

from resvox.errors import PlanError
from resvox.files import write_atomically
from resvox.training.plans.fields import check_choices, check_common_shapes, check_numbers, coerce

if TYPE_CHECKING:
    from typing_extensions import Self

    from resvox.preprocessing import Preprocessing

MAY_CHANGE_ON_RESUME = ("max_minutes", "checkpoint_interval")
PARTS = ("task", "data", "network", "preprocessing", "learning", "monitoring")  # the order of the YAML


def plan_field(default: Any, comment: str, part: str = "learning") -> Any:
    """A dataclass field of a plan: its default, its comment in the YAML, and the part of the YAML that holds it."""
    assert part in PARTS
    return field(default=default, metadata={"comment": comment, "part": part})


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
        (2, 2, 2, 2, 2), "of stem, pooling and the last three stages: one number each, or one an axis", "network"
    )
    norm: str = plan_field("instance", "batch, instance or group", "network")
    further_options: Mapping[str, Any] = field(
        default_factory=dict,
        metadata={"comment": "of the network, as resvox.create_model takes them", "part": "network"},
    )
    weights: str | None = plan_field(None, "file of weights to begin from; null: new ones", "network")
    weights_peer: str | None = plan_field(None, "whose weights they are, where their names do not say", "network")
    weights_first_conv: str = plan_field("sum", "of weights for other channels: sum, repeat or first", "network")
    weights_inflate: str = plan_field("centre", "of 2D weights in a 3D network: centre or average", "network")
    # preprocessing and augmentation
    orientation: str | None = plan_field(
        None, "where the array axes point, e.g. SPL; null keeps the file's", "preprocessing"
    )
    spacing_mm: tuple[float, ...] | None = plan_field(
        None, "target spacing of each array axis; null keeps the file's", "preprocessing"
    )
    crop: str = plan_field("none", "none, or nonzero: cut away the empty border", "preprocessing")
    normalization: tuple[Mapping[str, Any], ...] = plan_field(
        ({"kind": "zscore"},), "one a channel: {kind: window, ...} or {kind: zscore, ...}", "preprocessing"
    )
    augmentation: str = plan_field("default", "none, light or default", "preprocessing")
    mirror_axes: tuple[int, ...] = plan_field((), "array axes that augmentation may mirror", "preprocessing")
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
        check_choices(self)
        check_numbers(self)
        check_common_shapes(self)
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
        return {item.name: _plain(getattr(self, item.name)) for item in _fields(type(self))}

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
        lines = ["# A training plan of resvox. Edit any value, then: resvox train DATASET -o RUN --plan THIS_FILE"]
        for item in _fields(type(self)):
            lines.append(f"\n# {item.metadata['comment']}")
            if self.notes.get(item.name):
                lines.append(f"#   why: {' '.join(self.notes[item.name].split())}")
            value = yaml.safe_dump(
                _plain(getattr(self, item.name)), default_flow_style=True, sort_keys=False, width=10_000
            )
            lines.append(f"{item.name}: {value.strip().removesuffix('...').strip()}")
        return "\n".join(lines) + "\n"

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


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields in a plan's file, unchecked.

    Raises:
        PlanError: no such file, or not YAML.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PlanError("no such plan", expected="a YAML file", path=path) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlanError(f"not YAML ({error})", expected="a plan as Plan.save writes it", path=path) from error
    if not isinstance(values, dict):
        raise PlanError("not a mapping", expected="lines of 'field: value'", path=path)
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


@functools.lru_cache(maxsize=8)
def _hints(cls: type[TrainingPlan]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.lru_cache(maxsize=8)
def _fields(cls: type[TrainingPlan]) -> tuple[Any, ...]:
    """A plan's fields in the order of the YAML, without the notes."""
    own = [item for item in dataclasses.fields(cls) if item.name != "notes"]
    return tuple(sorted(own, key=lambda item: PARTS.index(item.metadata["part"])))

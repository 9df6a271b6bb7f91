"""The plan of a training run: every decision, in one YAML file with comments, read back without loss."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from resvox.errors import PlanError
from resvox.training.files import write_atomically
from resvox.training.plan_checks import check_choices, check_numbers, check_shapes, coerce

if TYPE_CHECKING:
    from resvox.preprocessing import Preprocessing

MAY_CHANGE_ON_RESUME = ("max_minutes", "checkpoint_interval")


def _said(default: Any, comment: str) -> Any:
    return field(default=default, metadata={"comment": comment})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every decision of a training run. Sizes are voxels and axes are array axes (D, H, W); spacing is mm.

    Follows nnU-Net (Isensee et al. 2021, Nat. Methods 18:203) in what is drawn from a dataset's fingerprint;
    see `draw_plan`. ``notes`` are the reasons, written into the YAML as comments and never compared.

    Raises:
        PlanError: a value out of range, a choice that is not one, or two fields that contradict each other.
    """

    # what the data are
    spatial_dims: int = _said(3, "2 for images, 3 for volumes")
    in_channels: int = _said(1, "channels of a scan")
    num_classes: int = _said(2, "labels, background included")
    # what the network is
    model: str = _said("unet", "a segmentation model of `resvox models`")
    encoder: str = _said("resnet18", "its encoder")
    encoder_depth: int = _said(5, "how many of the encoder's five levels are used")
    decoder_filters: tuple[int, ...] = _said(
        (256, 128, 64, 32, 16),
        "width of each decoder stage, deepest first (those beyond encoder_depth are left out)",
    )
    strides: tuple[int | tuple[int, ...], ...] = _said(
        (2, 2, 2, 2, 2), "of stem, pooling and the last three stages: one number each, or one an axis"
    )
    norm: str = _said("instance", "batch, instance or group")
    # what it sees
    orientation: str | None = _said(None, "where the array axes point, e.g. SPL; null keeps the file's")
    spacing_mm: tuple[float, ...] | None = _said(None, "target spacing of each array axis; null keeps the file's")
    crop: str = _said("none", "none, or nonzero: cut away the empty border")
    normalization: tuple[Mapping[str, Any], ...] = _said(
        ({"kind": "zscore"},), "one a channel: {kind: window, ...} or {kind: zscore, ...}"
    )
    patch_size: tuple[int, ...] = _said((64, 64, 64), "voxels of a training patch and of the inference window")
    batch_size: int = _said(2, "patches a step, over all processes together")
    overlap: float = _said(0.5, "of neighbouring inference windows, a fraction of the patch")
    foreground_fraction: float = _said(0.5, "of the patches are centred on a voxel of a label")
    augmentation: str = _said("default", "none, light or default")
    mirror_axes: tuple[int, ...] = _said((), "array axes that augmentation may mirror")
    # how it learns
    loss: str = _said("dice_ce", "dice_ce or ce")
    optimizer: str = _said("adamw", "adamw or sgd")
    learning_rate: float = _said(1e-3, "the highest, reached after the warm-up")
    weight_decay: float = _said(1e-2, "on kernels only, not on norms and biases")
    momentum: float = _said(0.99, "of sgd (Nesterov)")
    gradient_clip: float = _said(12.0, "largest norm of the gradient; 0 switches it off")
    warmup_steps: int = _said(50, "of linear growth of the learning rate")
    decay: str = _said("poly", "poly, cosine or constant")
    steps: int = _said(10_000, "optimizer steps")
    max_minutes: float | None = _said(None, "stop earlier, after this many minutes of training; null: no limit")
    # how it is watched
    validation_interval: int = _said(250, "steps between validations on whole volumes")
    validation_fraction: float = _said(0.2, "of the cases validate, where the dataset does not say which")
    checkpoint_interval: int = _said(250, "steps between checkpoints: what a kill can cost")
    seed: int = _said(0, "all randomness follows from it, the step and the sample")
    precision: str = _said("auto", "auto (bf16-mixed on a GPU), 32-true, bf16-mixed or 16-mixed")
    notes: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            if item.name != "notes":
                hint = _hints()[item.name]
                object.__setattr__(self, item.name, coerce(item.name, getattr(self, item.name), hint))
        check_choices(self)
        check_numbers(self)
        check_shapes(self)
        self.preprocessing()  # refuses normalizations and orientations that are none

    @property
    def total_stride(self) -> tuple[int, ...]:
        """How much smaller the deepest feature map in use is, one factor an axis."""
        return tuple(
            math.prod(stride[axis] for stride in self.axis_strides[: self.encoder_depth])
            for axis in range(self.spatial_dims)
        )

    @property
    def axis_strides(self) -> tuple[tuple[int, ...], ...]:
        """Strides with one number an axis throughout."""
        return tuple((s,) * self.spatial_dims if isinstance(s, int) else s for s in self.strides)

    def model_options(self) -> dict[str, Any]:
        """The keyword arguments for `resvox.create_model(plan.model, ...)`."""
        return {
            "encoder_name": self.encoder,
            "encoder_depth": self.encoder_depth,
            "spatial_dims": self.spatial_dims,
            "in_channels": self.in_channels,
            "num_classes": self.num_classes,
            "decoder_filters": self.decoder_filters,
            "strides": self.strides,
            "norm": self.norm,
        }

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
        return {
            item.name: _plain(getattr(self, item.name)) for item in dataclasses.fields(self) if item.name != "notes"
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, path: str | os.PathLike[str] | None = None) -> Plan:
        """A plan from plain values; unknown names are refused with the nearest known one."""
        known = [item.name for item in dataclasses.fields(cls) if item.name != "notes"]
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

    def with_changes(self, **changes: Any) -> Plan:
        """A copy with some fields changed; unknown names are refused."""
        changed = Plan.from_dict({**self.to_dict(), **changes})
        kept = {name: note for name, note in self.notes.items() if name not in changes}
        return dataclasses.replace(changed, notes=kept)

    def differences(self, other: Plan) -> dict[str, tuple[Any, Any]]:
        """Fields whose values differ: ``{name: (mine, the other's)}``."""
        mine, theirs = self.to_dict(), other.to_dict()
        return {name: (mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]}

    def to_yaml(self) -> str:
        """The plan as YAML: a comment on each field, and the reason for its value where one is known."""
        lines = ["# A training plan of resvox. Edit any value, then: resvox train DATASET -o RUN --plan THIS_FILE"]
        for item in dataclasses.fields(self):
            if item.name == "notes":
                continue
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
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan from YAML.

        Raises:
            PlanError: no such file, not YAML, an unknown field (with a suggestion), or a contradiction.
        """
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise PlanError("no such plan", expected="a YAML file", path=path) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise PlanError(f"not YAML ({error})", expected="a plan as Plan.save writes it", path=path) from error
        if not isinstance(values, dict):
            raise PlanError("not a mapping", expected="lines of 'field: value'", path=path)
        return cls.from_dict(values, path=path)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


@functools.lru_cache(maxsize=1)
def _hints() -> dict[str, Any]:
    return typing.get_type_hints(Plan)

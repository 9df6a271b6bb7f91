"""Arguments with which a network is created: aliases, input shapes, and the rejection of unknown names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resvox.blueprint.choices import plain
from resvox.blueprint.leaves import is_whole
from resvox.errors import BlueprintError, suggest

# names of options in timm, MONAI and segmentation_models.pytorch, and their names here
ALIASES = {
    "in_chans": "in_channels",
    "n_input_channels": "in_channels",
    "out_channels": "num_classes",
    "classes": "num_classes",
    "ndim": "spatial_dims",
    "drop_path_rate": "drop_path",
    "zero_init_last": "zero_init_residual",
    "act": "activation",
    "decoder_channels": "decoder_filters",
    "classifier_activation": "output_activation",
    "base_width": "width_per_group",
    "cardinality": "groups",
    "img_size": "image_size",
}
# options of timm, torchvision, SMP and Keras that select pretrained weights
PRETRAINED = ("pretrained", "weights", "encoder_weights", "weights_backbone", "pretrained_backbone")


@dataclass(frozen=True, kw_only=True)
class Interface:
    """Dims and channels of a network. ``size``: that of ``input_shape``; ``None`` along an axis of any length."""

    spatial_dims: int
    in_channels: int
    num_classes: int
    size: tuple[int | None, ...] | None = None


def without_pretrained(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Remove options for pretrained weights whose value means "no weights".

    Raises:
        BlueprintError: pretrained weights are requested; this package has none.
    """
    for name in PRETRAINED:
        value = arguments.get(name)
        if value is not None and plain(value) is not False:
            raise BlueprintError(
                f"{name}={value!r}",
                expected=f"{name}=None or False, because no weights come with resvox",
                fix="build the model without it, then resvox.load_weights(model, 'file.pth') with the weights of "
                "torchvision, timm, MONAI, SMP or Keras",
            )
    return {name: value for name, value in arguments.items() if name not in PRETRAINED}


def settle_aliases(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with aliases replaced by the names of this package, in Python's own types.

    Raises:
        BlueprintError: a name and its alias are both given and disagree, or pretrained weights are requested.
    """
    settled: dict[str, Any] = {}
    as_given: dict[str, str] = {}
    for name, value in without_pretrained(arguments).items():
        value = plain(value)
        canonical = ALIASES.get(name, name)
        if settled.get(canonical) is None:  # None counts as not given
            settled[canonical], as_given[canonical] = value, name
        elif value is not None and value != settled[canonical]:
            raise BlueprintError(
                f"{as_given[canonical]}={settled[canonical]!r} and {name}={value!r}",
                expected="one of the two",
                fix=f"both mean {canonical}; give only {canonical}",
            )
    return settled


def settle_interface(
    *,
    spatial_dims: int | None,
    in_channels: int | None,
    num_classes: int | None,
    input_shape: Sequence[int | None] | None,
    default_classes: int,
    default_dims: int = 2,
) -> Interface:
    """Dims and channels from explicit numbers and Keras's ``input_shape=(*spatial, channels)``; both must agree.

    Raises:
        BlueprintError: a number that is not valid, or an explicit one that ``input_shape`` contradicts.
    """
    spatial_dims, in_channels, num_classes = map(plain, (spatial_dims, in_channels, num_classes))
    if input_shape is not None:
        input_shape = shape = _shape(input_shape)
        if len(shape) not in (3, 4):
            raise BlueprintError(
                f"input_shape={shape!r}",
                expected="(H, W, channels) or (D, H, W, channels); `spatial_dims` must be 2 or 3",
                fix="leave the batch axis out",
            )
        spatial_dims = _agree("spatial_dims", spatial_dims, len(shape) - 1, shape)
        if shape[-1] is None:
            raise BlueprintError(f"input_shape={shape!r}", expected="a number of channels as the last entry")
        in_channels = _agree("in_channels", in_channels, shape[-1], shape)
    dims = default_dims if spatial_dims is None else spatial_dims
    channels = 3 if in_channels is None else in_channels
    classes = default_classes if num_classes is None else num_classes
    for name, value, least in (
        ("spatial_dims", dims, 2),
        ("in_channels", channels, 1),
        ("num_classes", classes, 0),
    ):
        if type(value) is not int or value < least:
            raise BlueprintError(f"{name}={value!r}", expected=f"a whole number of at least {least}")
    if dims > 3:
        raise BlueprintError(f"spatial_dims={dims}", expected="2 or 3")
    size = None if input_shape is None else tuple(input_shape[:-1])
    return Interface(spatial_dims=dims, in_channels=channels, num_classes=classes, size=size)


def _shape(given: object) -> tuple[int | None, ...]:
    value = plain(given)
    good = isinstance(value, tuple | list) and all(n is None or is_whole(n, 1) for n in value)
    if not good:
        raise BlueprintError(
            f"input_shape={value!r}", expected="(*spatial, channels): whole numbers of at least 1, None where open"
        )
    return tuple(value)


def _agree(name: str, given: int | None, implied: int, shape: tuple[int | None, ...]) -> int:
    if given is not None and given != implied:
        raise BlueprintError(
            f"{name}={given} and input_shape={shape!r}, which gives {implied}",
            expected="two that agree",
            fix=f"leave {name} out, or correct input_shape",
        )
    return implied


def refuse_unknown(model: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Reject unknown options and suggest the nearest known ones; options for pretrained weights are known.

    Raises:
        BlueprintError: an option is unknown; the text names the first one.
    """
    names = sorted(set(known))
    for name in given:
        if name not in names and name not in PRETRAINED:
            raise BlueprintError(
                f"unknown option {name}= for {model}",
                expected="one of " + ", ".join(names),
                fix=suggest(name, [*names, *ALIASES]),
            )

"""The ``preprocessing`` of a bundle as `MonaiPreprocessing`: each transform by name, others are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from resvox.errors import PlanError, WeightsError
from resvox.prediction.bundle.targets import Target, transforms_of
from resvox.preprocessing.monai import TRANSFORMS, MonaiPreprocessing, MonaiTransform
from resvox.weights.bundle.configuration import Configuration

PREPROCESSING = "preprocessing"
# what reading a scan here does already, and what changes no value
WITHOUT_EFFECT = {
    "LoadImage": {"reader", "image_only", "ensure_channel_first", "simple_keys", "prune_meta_pattern", "prune_meta_sep",
                  "meta_keys", "meta_key_postfix", "overwriting"},
    "EnsureChannelFirst": {"strict_check", "channel_dim"},
    "AddChannel": set(),
    "EnsureType": {"data_type", "device", "track_meta", "wrap_sequence"},
    "ToTensor": {"device", "track_meta", "wrap_sequence"},
    "ToDevice": {"device", "non_blocking"},
    "Identity": set(),
    "SelectItems": set(),
}  # fmt: skip
# arguments that have one value here
FIXED: dict[str, dict[str, tuple[Any, ...]]] = {
    "Orientation": {"as_closest_canonical": (False,), "labels": (None, [["L", "R"], ["P", "A"], ["I", "S"]])},
    "Spacing": {"padding_mode": ("border",), "align_corners": (False, True), "diagonal": (False,),
                "scale_extent": (False,), "recompute_affine": (False,), "ensure_same_shape": (True, False),
                "min_pixdim": (None,), "max_pixdim": (None,)},
    "CropForeground": {"mode": ("constant",), "select_fn": (None,), "return_coords": (False,)},
}  # fmt: skip
UNUSED = {"CropForeground": {"source_key", "start_coord_key", "end_coord_key"}}
BESIDE = {"label", "labels", "mask", "seg"}  # images that only training and evaluation have


def preprocessing_of(
    configuration: Configuration, image_names: tuple[str, ...], slice_axis: int | None = None
) -> tuple[MonaiPreprocessing, str]:
    """How the bundle prepares its image, and the image's key.

    Args:
        configuration: of the bundle.
        image_names: the inputs that its metadata names.
        slice_axis: of the inferer, see `MonaiPreprocessing`.

    Raises:
        WeightsError: a transform or an argument that is not known here, several images, or code in place of a value.
    """
    targets = transforms_of(configuration, PREPROCESSING, {*TRANSFORMS, *WITHOUT_EFFECT})
    key = _image_key(targets, image_names, configuration)
    made = [each for each in (_transform(target, key) for target in targets) if each is not None]
    try:
        return MonaiPreprocessing(transforms=tuple(made), slice_axis=slice_axis), key
    except PlanError as error:
        raise WeightsError(error.got, expected=error.expected, path=configuration.path) from error


def _image_key(targets: list[Target], image_names: tuple[str, ...], configuration: Configuration) -> str:
    """The image that a prediction has, of those that are loaded."""
    loaded = next((target.keys() for target in targets if target.name == "LoadImage"), None)
    if loaded is None:
        return image_names[0] if image_names else "image"
    found = [key for key in loaded if key in image_names] or [key for key in loaded if key not in BESIDE]
    if len(found) != 1:
        raise WeightsError(
            f"{PREPROCESSING} of {len(found)} images ({', '.join(found)})",
            expected="one image; its files are its channels",
            path=configuration.path,
        )
    return found[0]


def _transform(target: Target, key: str) -> MonaiTransform | None:
    """The transform, or None where it does not concern the image or changes nothing."""
    keys = target.keys()
    if keys is not None and key not in keys:
        return None
    if target.name in WITHOUT_EFFECT:
        target.check_known(WITHOUT_EFFECT[target.name])
        return None
    cls = TRANSFORMS.get(target.name)
    if cls is None:
        target.refuse(
            f"the transform {target.name}",
            f"one of {', '.join((*TRANSFORMS, *WITHOUT_EFFECT))}, also with d at the end",
            "predict with MONAI, or remove it if the model does not need it",
        )
    known = {item.name for item in fields(cls)}  # type: ignore[arg-type]
    fixed = FIXED.get(target.name, {})
    target.check_known(known | set(fixed) | UNUSED.get(target.name, set()))
    target.check_fixed(fixed)
    given: dict[str, Any] = {name: target.read(name) for name in target.arguments if name in known}
    try:
        return cls(**{name: _typed(cls, name, _of_key(value, name, keys, key)) for name, value in given.items()})
    except PlanError as error:
        target.refuse(f"{error.got} of {target.name}", error.expected)
    except TypeError:
        needed = [item.name for item in fields(cls) if item.name not in given]  # type: ignore[arg-type]
        target.refuse(f"{target.name} without {needed[0]}", "all that it needs")


def _of_key(value: Any, name: str, keys: tuple[str, ...] | None, key: str) -> Any:
    """Take this image's interpolation from a list with one for each image."""
    if name == "mode" and isinstance(value, list) and keys is not None and len(value) == len(keys):
        return value[keys.index(key)]
    return value


LISTS: Mapping[str, set[str]] = {
    "Spacing": {"pixdim"},
    "CropForeground": {"margin", "k_divisible", "channel_indices"},
    "NormalizeIntensity": {"subtrahend", "divisor"},
}


def _typed(cls: type[MonaiTransform], name: str, value: Any) -> Any:
    """A list where the transform has one, also of a single number."""
    if name not in LISTS.get(cls.name, set()) or value is None:
        return value
    return tuple(value) if isinstance(value, list) else (value,)

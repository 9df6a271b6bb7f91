"""What ``plans.json`` states: preprocessing, patch, resampling and the network of each configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resvox.errors import suggest
from resvox.weights.nnunet.fields import JsonFields, is_whole, read_json
from resvox.weights.nnunet.network import NnunetNetwork, network_of

_INTENSITIES = ("foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality")
_PREPROCESSOR = "DefaultPreprocessor"


@dataclass(frozen=True, kw_only=True)
class NnunetIntensity:
    """Intensities of one channel in the foreground of the training data, for the normalization of CT."""

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


@dataclass(frozen=True, kw_only=True)
class NnunetResampling:
    """A resampling function by its name in nnU-Net, such as ``"resample_data_or_seg_to_shape"``, with its arguments."""

    function: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class NnunetConfiguration:
    """One configuration, with what it inherits.

    Attributes:
        name: such as ``"3d_fullres"``.
        patch_size: 2 or 3 numbers in the transposed order of axes; 2 for a network that sees slices.
        spacing_mm: of the prepared image, in the transposed order; as many numbers as ``patch_size``.
        normalization_schemes: one per channel, such as ``"CTNormalization"``.
        use_mask_for_norm: one per channel: whether statistics are those of the nonzero mask.
        resampling_data: of images.
        resampling_segmentation: of label maps, such as the previous stage's.
        resampling_probabilities: of the network's outputs.
        previous_stage: the configuration whose label map is a further input; None outside a cascade.
        network: the network.
        batch_size: of training.
        batch_dice: of training.
    """

    name: str
    patch_size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    resampling_data: NnunetResampling
    resampling_segmentation: NnunetResampling
    resampling_probabilities: NnunetResampling
    previous_stage: str | None
    network: NnunetNetwork
    batch_size: int
    batch_dice: bool

    @property
    def spatial_dims(self) -> int:
        """Axes that the network sees: 2 or 3."""
        return len(self.patch_size)


@dataclass(frozen=True, kw_only=True)
class NnunetPlans:
    """The plans of a model.

    Attributes:
        dataset_name: such as ``"Dataset002_Heart"``.
        plans_name: such as ``"nnUNetResEncUNetLPlans"``.
        image_reader_writer: the class that read the images: it decides order and orientation of the axes.
        transpose_forward: the spatial axes of an image as read, in the order in which the network sees them.
        transpose_backward: its inverse.
        intensities: per channel; empty where the plans have none.
        fields: the file's content, from which configurations are read.
    """

    dataset_name: str
    plans_name: str
    image_reader_writer: str
    transpose_forward: tuple[int, ...]
    transpose_backward: tuple[int, ...]
    intensities: tuple[NnunetIntensity, ...]
    fields: JsonFields

    @property
    def configurations(self) -> tuple[str, ...]:
        """The names of the configurations."""
        return tuple(self.fields.object("configurations"))

    @staticmethod
    def read(path: Path) -> NnunetPlans:
        """The content of a ``plans.json``.

        Raises:
            WeightsError: not readable, or a field that is missing or not valid.
        """
        return NnunetPlans.of(read_json(path))

    @staticmethod
    def of(fields: JsonFields) -> NnunetPlans:
        """The same from the object in the file."""
        forward, backward = (fields.wholes(f"transpose_{way}", least=0) for way in ("forward", "backward"))
        if sorted(forward) != [0, 1, 2]:
            fields.reject("transpose_forward", "an order of the axes 0, 1 and 2")
        if sorted(backward) != [0, 1, 2] or any(backward[axis] != place for place, axis in enumerate(forward)):
            fields.reject("transpose_backward", f"the inverse of transpose_forward {list(forward)}")
        manager = fields.text("label_manager", "LabelManager")
        if manager != "LabelManager":
            fields.reject("label_manager", "LabelManager")
        return NnunetPlans(
            dataset_name=fields.text("dataset_name", ""),
            plans_name=fields.text("plans_name", ""),
            image_reader_writer=fields.text("image_reader_writer", "SimpleITKIO"),
            transpose_forward=forward,
            transpose_backward=backward,
            intensities=_intensities(fields),
            fields=fields,
        )

    def configuration(self, name: str) -> NnunetConfiguration:
        """A configuration with what it inherits.

        Raises:
            WeightsError: no such configuration, a circle of inheritance, or a field that is missing or not valid.
        """
        return _configuration(name, self._inherited(name))

    def _inherited(self, name: str) -> JsonFields:
        every = self.fields.object("configurations")
        line: list[str] = []
        following: Any = name
        while following is not None:
            if not isinstance(following, str) or not isinstance(every.get(following), Mapping):
                hint = suggest(str(following), every)
                self.fields.reject("configurations", f"one with the name {following!r}", hint)
            if following in line:
                self.fields.reject("configurations", f"no circle: {' inherits from '.join([*line, following])}")
            line.append(following)
            following = every[following].get("inherits_from")
        merged: dict[str, Any] = {}
        for each in reversed(line):  # shallow: a key of the child replaces its parent's value as a whole
            merged.update(every[each])
        merged.pop("inherits_from", None)
        return JsonFields(merged, path=self.fields.path, prefix=f"configurations.{name}.")


def _intensities(fields: JsonFields) -> tuple[NnunetIntensity, ...]:
    name = next((each for each in _INTENSITIES if fields.has(each)), None)
    if name is None:
        return ()
    channels = fields.nested(name)
    found = []
    for number in range(len(channels.values)):
        one = channels.nested(str(number))
        if not one.values:  # nnU-Net writes an empty object for channels that no scheme needs
            return ()
        keys = ("mean", "std", "percentile_00_5", "percentile_99_5")
        found.append(NnunetIntensity(**{key: one.number(key) for key in keys}))
    return tuple(found)


def _configuration(name: str, fields: JsonFields) -> NnunetConfiguration:
    patch, spacing = fields.wholes("patch_size"), fields.numbers("spacing")
    if len(patch) not in (2, 3):
        fields.reject("patch_size", "2 or 3 whole numbers")
    if len(spacing) != len(patch):
        fields.reject("spacing", f"{len(patch)} numbers, as many as patch_size has")
    if fields.text("preprocessor_name", _PREPROCESSOR) != _PREPROCESSOR:
        fields.reject("preprocessor_name", _PREPROCESSOR, "another one computes something else")
    schemes = tuple(fields.items("normalization_schemes", lambda each: isinstance(each, str), "names, one per channel"))
    masks = tuple(fields.items("use_mask_for_norm", lambda each: isinstance(each, bool), "true or false per channel"))
    if len(masks) != len(schemes):
        fields.reject("use_mask_for_norm", f"{len(schemes)} entries, as many as normalization_schemes has")
    return NnunetConfiguration(
        name=name,
        patch_size=patch,
        spacing_mm=spacing,
        normalization_schemes=schemes,
        use_mask_for_norm=masks,
        resampling_data=_resampling(fields, "data"),
        resampling_segmentation=_resampling(fields, "seg"),
        resampling_probabilities=_resampling(fields, "probabilities"),
        previous_stage=fields.optional_text("previous_stage"),
        network=network_of(fields, len(patch)),
        batch_size=fields.whole("batch_size", least=1, default=2),
        batch_dice=fields.flag("batch_dice", False),
    )


def _resampling(fields: JsonFields, what: str) -> NnunetResampling:
    arguments = fields.object(f"resampling_fn_{what}_kwargs", {})
    orders = [arguments.get(name, 0) for name in ("order", "order_z")]
    if not all(is_whole(order, 0) and order <= 5 for order in orders):
        fields.reject(f"resampling_fn_{what}_kwargs", "an order from 0 to 5")
    return NnunetResampling(function=fields.text(f"resampling_fn_{what}"), arguments=arguments)

"""The model card of a model folder of nnU-Net v2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resvox.cards import SegmentationCard, Windows
from resvox.cards.segmentation import Cascade
from resvox.errors import ResvoxError, WeightsError
from resvox.preprocessing.nnunet import IntensityRule, NnunetPreprocessing, Resampling
from resvox.regions import Regions

if TYPE_CHECKING:
    from resvox.weights.nnunet import NnunetCheckpoint, NnunetConfiguration, NnunetFolder, NnunetPlans, NnunetResampling

OVERLAP = 0.5
METHODS = {"resample_data_or_seg_to_shape": "spline", "resample_torch_fornnunet": "torch"}
SPLINE_KEYS = {"is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold"}
TORCH_KEYS = {"is_seg", "force_separate_z", "memefficient_seg_resampling", "separate_z_anisotropy_threshold"}
ORIENTATIONS = {
    "SimpleITKIO": None,
    "NibabelIO": None,
    "NaturalImage2DIO": None,
    "Tiff3DIO": None,
    "NibabelIOWithReorient": "SAR",
    "SimpleITKIOWithReorient": "SAR",
}


def card_of(folder: NnunetFolder, checkpoint: NnunetCheckpoint) -> SegmentationCard:
    """The card of one fold.

    Raises:
        WeightsError: a reader of images, a normalization or a resampling that is not known.
    """
    plans, configuration, dataset = folder.plans, folder.configuration, folder.dataset
    dims = len(configuration.patch_size)
    try:
        regions = None
        if dataset.has_regions:
            regions = Regions(values=dict(dataset.regions), class_order=dataset.regions_class_order or ())
        preprocessing = preprocessing_of(plans, configuration)
    except ResvoxError as error:
        raise WeightsError(error.got, expected=error.expected, fix=error.fix, path=error.path or folder.path) from error
    labels = {name: values[0] for name, values in dataset.labels.items()} if regions is None else regions.labels()
    return SegmentationCard(
        preprocessing=preprocessing.to_dict(),
        channel_names=dataset.channel_names,
        labels={"background": 0, **labels},
        regions=regions,
        ignore=dataset.ignore,
        inference=Windows(
            roi_size=configuration.patch_size,
            overlap=OVERLAP,
            mirror_axes=tuple(axis for axis in checkpoint.mirror_axes if axis < dims),
            mirror=True,
            style="nnunet",
        ),
        cascade=_cascade(folder, configuration),
        largest=largest_of(folder),
        training={
            "library": "nnU-Net",
            "dataset": plans.dataset_name,
            "plans": plans.plans_name,
            "configuration": configuration.name,
            "trainer": checkpoint.trainer,
            "fold": checkpoint.fold,
            "epochs": checkpoint.epoch,
        },
    )


def preprocessing_of(plans: NnunetPlans, configuration: NnunetConfiguration) -> NnunetPreprocessing:
    """How a configuration's images are prepared.

    Raises:
        PlanError: what is not known.
    """
    reader = plans.image_reader_writer
    if reader not in ORIENTATIONS:
        raise ResvoxError(
            f"image_reader_writer {reader!r}",
            expected=f"one of {', '.join(ORIENTATIONS)}",
            fix="another reader may order the axes otherwise",
        )
    return NnunetPreprocessing(
        spacing_mm=configuration.spacing_mm,
        order=plans.transpose_forward,
        rules=tuple(_rules(plans, configuration)),
        image=_resampling(configuration.resampling_data),
        labels=_resampling(configuration.resampling_segmentation),
        scores=_resampling(configuration.resampling_probabilities),
        orientation=ORIENTATIONS[reader],
        spacing_beside=reader == "Tiff3DIO",
    )


def _rules(plans: NnunetPlans, configuration: NnunetConfiguration) -> list[IntensityRule]:
    rules = []
    pairs = zip(configuration.normalization_schemes, configuration.use_mask_for_norm, strict=True)
    for channel, (scheme, masked) in enumerate(pairs):
        numbers = {}
        if scheme == "CTNormalization" and channel < len(plans.intensities):
            known = plans.intensities[channel]
            numbers = {
                "mean": known.mean,
                "std": known.std,
                "percentile_00_5": known.percentile_00_5,
                "percentile_99_5": known.percentile_99_5,
            }
        rules.append(IntensityRule(scheme=scheme, masked=masked, **numbers))
    return rules


def _resampling(stated: NnunetResampling) -> Resampling:
    method = METHODS.get(stated.function)
    if method is None:
        raise ResvoxError(f"the resampling {stated.function!r}", expected=f"one of {', '.join(METHODS)}")
    given = dict(stated.arguments)
    unknown = sorted(set(given) - (SPLINE_KEYS if method == "spline" else TORCH_KEYS))
    if unknown:
        raise ResvoxError(
            f"{stated.function} with {unknown[0]}={given[unknown[0]]!r}",
            expected=f"of {', '.join(sorted(SPLINE_KEYS if method == 'spline' else TORCH_KEYS))}",
        )
    # what a plan leaves out has the default of nnU-Net's function
    return Resampling(
        method=method,
        order=given.get("order", 3 if method == "spline" else 1),
        order_z=given.get("order_z", 0),
        force_separate_z=given.get("force_separate_z", False if method == "spline" else None),
        threshold=given.get("separate_z_anisotropy_threshold", 3.0),
        less_memory=given.get("memefficient_seg_resampling", False),
    )


def _cascade(folder: NnunetFolder, configuration: NnunetConfiguration) -> Cascade | None:
    if configuration.previous_stage is None:
        return None
    parts = folder.path.name.split("__")
    name = "__".join([*parts[:-1], configuration.previous_stage])
    return Cascade(labels=folder.dataset.foreground_labels, model=f"../../{name}")


def largest_of(folder: NnunetFolder) -> tuple[tuple[int, ...], ...] | None:
    """The groups of labels of which ``postprocessing.json`` keeps the largest component; None without that file.

    Raises:
        WeightsError: a function that is not known.
    """
    path = folder.postprocessing
    if path is None:
        return None
    from resvox.weights.nnunet.fields import read_json

    fields = read_json(path)
    names = fields.items("postprocessing_fns", lambda each: isinstance(each, str), "names of functions")
    kwargs = fields.items("postprocessing_kwargs", lambda each: isinstance(each, dict), "arguments for each function")
    groups = []
    for name, arguments in zip(names, kwargs, strict=True):
        if name != KEEP_LARGEST:
            fields.reject("postprocessing_fns", KEEP_LARGEST)
        groups.append(tuple(sorted(_flat(arguments.get("labels_or_regions")))))
    return tuple(groups)


KEEP_LARGEST = "remove_all_but_largest_component_from_segmentation"


def _flat(value: object) -> set[int]:
    if isinstance(value, (list, tuple)):
        return {each for part in value for each in _flat(part)}
    if type(value) is not int:
        raise WeightsError(f"labels_or_regions holds {value!r}", expected="values of labels in postprocessing.json")
    return {value}

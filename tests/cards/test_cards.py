"""Model cards: the JSON of model files as it has always been, and one error per fault that names file and field."""

import copy
import json

import pytest

from resvox.cards import ClassificationCard, RegressionCard, SegmentationCard, WholeImage, Windows
from resvox.errors import WeightsError
from resvox.regions import Regions

PREPROCESSING = {
    "orientation": "SPL",
    "spacing_mm": [4.0, 3.0, 3.0],
    "crop": "none",
    "normalization": [{"kind": "window", "low": -1000.0, "high": 1000.0, "mean": 0.0, "std": 500.0}],
    "minimum_size": None,
}
# The bytes that resvox train wrote in version 0.1, one model of each task.
SEGMENTATION = (
    '{"preprocessing": {"orientation": "SPL", "spacing_mm": [4.0, 3.0, 3.0], "crop": "none", "normalization": '
    '[{"kind": "window", "low": -1000.0, "high": 1000.0, "mean": 0.0, "std": 500.0}], "minimum_size": null}, '
    '"channel_names": ["CT"], "task": "segmentation", "labels": {"background": 0, "liver": 7, "spleen": 3}, '
    '"colours": {"liver": "#112233"}, "inference": {"roi_size": [8, 16, 16], "overlap": 0.5, "mirror_axes": [0, 2]}, '
    '"training": {"dataset": "d", "step": 20, "steps": 30, "dice": {"liver": 0.5, "spleen": null}}}'
)
# The same with regions and voxels that were not annotated.
REGIONS = SEGMENTATION.replace(
    '"labels": {"background": 0, "liver": 7, "spleen": 3}',
    '"labels": {"background": 0, "rest of tumour": 1, "core": 2}, "regions": {"tumour": [1, 2, 3], "core": [2, 3]}, '
    '"regions_class_order": [1, 2], "ignore": 4',
)
CLASSIFICATION = (
    '{"preprocessing": {"orientation": "SPL", "spacing_mm": [4.0, 3.0, 3.0], "crop": "none", "normalization": '
    '[{"kind": "window", "low": -1000.0, "high": 1000.0, "mean": 0.0, "std": 500.0}], "minimum_size": null}, '
    '"channel_names": ["CT"], "task": "classification", "labels": {"ill": 1, "healthy": 0}, '
    '"inference": {"image_size": [8, 16, 16], "fit": "resize", "batch_size": 6}, '
    '"training": {"dataset": "d", "step": 20, "steps": 30, "scores": {"auc": 0.5}, "cases": {"ill": 3}}}'
)
REGRESSION = (
    '{"preprocessing": {"orientation": "SPL", "spacing_mm": [4.0, 3.0, 3.0], "crop": "none", "normalization": '
    '[{"kind": "window", "low": -1000.0, "high": 1000.0, "mean": 0.0, "std": 500.0}], "minimum_size": null}, '
    '"channel_names": ["CT"], "task": "regression", "target_names": ["dose", "depth"], '
    '"target_mean": [5.0, 1.5], "target_std": [2.0, 0.5], '
    '"inference": {"roi_size": [8, 16, 16], "overlap": 0.5, "mirror_axes": []}, '
    '"training": {"dataset": "d", "step": 20, "steps": 30, "scores": {"mae": 0.5}}}'
)
CARDS = [
    (SegmentationCard, SEGMENTATION),
    (SegmentationCard, REGIONS),
    (ClassificationCard, CLASSIFICATION),
    (RegressionCard, REGRESSION),
]


@pytest.mark.parametrize(("kind", "text"), CARDS)
def test_a_card_is_written_byte_for_byte_as_it_was_read(kind, text):
    card = kind.from_dict(json.loads(text), path="m.safetensors")
    assert json.dumps(card.to_dict()) == text


def test_a_card_built_by_hand_has_the_same_bytes():
    card = SegmentationCard(
        preprocessing=PREPROCESSING,
        channel_names=("CT",),
        labels={"background": 0, "liver": 7, "spleen": 3},
        colours={"liver": "#112233"},
        inference=Windows(roi_size=(8, 16, 16), mirror_axes=(0, 2)),
        training={"dataset": "d", "step": 20, "steps": 30, "dice": {"liver": 0.5, "spleen": None}},
    )
    assert json.dumps(card.to_dict()) == SEGMENTATION
    assert card.labels_by_class == {"background": 0, "spleen": 3, "liver": 7}
    assert list(card.labels_by_class) == ["background", "spleen", "liver"]
    assert (card.spatial_dims, card.in_channels, card.input_size) == (3, 1, (8, 16, 16))


def test_a_file_that_says_little_has_defaults():
    values = json.loads(SEGMENTATION)
    del values["task"], values["colours"], values["training"]
    values["inference"] = {"roi_size": [8, 16]}
    values["weights_from"] = {"source": "elsewhere"}
    card = SegmentationCard.from_dict(values)
    assert card.inference == Windows(roi_size=(8, 16), overlap=0.5, mirror_axes=())
    assert card.colours is None
    assert card.training is None
    assert not {"training", "colours"} & set(card.to_dict())
    values = json.loads(CLASSIFICATION)
    del values["inference"]["batch_size"]
    card = ClassificationCard.from_dict(values)
    assert card.inference == WholeImage(image_size=(8, 16, 16), fit="resize", batch_size=16)
    assert card.classes == ("healthy", "ill")


def test_regions_name_the_outputs_and_the_labels_that_are_written():
    values = json.loads(REGIONS)
    del values["labels"]
    card = SegmentationCard.from_dict(values)
    assert card == SegmentationCard.from_dict(json.loads(REGIONS))
    assert card.regions == Regions(values={"tumour": (1, 2, 3), "core": (2, 3)}, class_order=(1, 2))
    assert (card.output_names, card.ignore) == (("tumour", "core"), 4)
    without = SegmentationCard.from_dict(json.loads(SEGMENTATION))
    assert without.output_names == ("background", "spleen", "liver")


@pytest.mark.parametrize(("kind", "text"), [card for card in CARDS if card[1] != REGIONS])
def test_one_error_lists_every_missing_field_and_the_file(kind, text):
    for name in kind.needed:
        values = {key: value for key, value in json.loads(text).items() if key != name}
        with pytest.raises(WeightsError, match=rf"^m\.safetensors: a model file without {name}; "):
            kind.from_dict(values, path="m.safetensors")
    with pytest.raises(WeightsError) as caught:
        kind.from_dict({}, path="m.safetensors")
    assert ", ".join(kind.needed) in str(caught.value)


SHARED = [("preprocessing", []), ("channel_names", []), ("channel_names", "CT"), ("channel_names", [1]),
          ("inference", [8]), ("training", "yes")]  # fmt: skip
WINDOWS = [("roi_size", [8]), ("roi_size", [8, 0, 8]), ("roi_size", [8, 8.5, 8]), ("roi_size", 8), ("overlap", 1),
           ("overlap", "0.5"), ("overlap", True), ("mirror_axes", [3]), ("mirror_axes", [0, 0]),
           ("mirror_axes", 1)]  # fmt: skip
LABELS = [("labels", {}), ("labels", ["a"]), ("labels", {"a": -1}), ("labels", {"a": 1.5}), ("labels", {"a": True}),
          ("labels", {"a": 1, "b": 1})]  # fmt: skip
JOINED = [("regions", [1]), ("regions_class_order", "1"), ("regions.tumour", "1"), ("regions.core", []),
          ("ignore", "4"), ("ignore", -1)]  # fmt: skip
TOGETHER = [({"regions": {}}, "no regions"), ({"regions": {"a": 0}}, "'a' of the values"),
            ({"regions": {"tumour": [1, 1], "core": 2}}, "'tumour' of the values"),
            ({"regions": {"tumour": [1]}}, "for 1 regions"), ({"regions_class_order": [1, 5]}, "also for 5"),
            ({"regions_class_order": [1]}, "for 2 regions")]  # fmt: skip
IMAGES = [("image_size", [8]), ("fit", "stretch"), ("fit", None), ("batch_size", 0), ("batch_size", "6")]
VALUES = [("target_mean", []), ("target_mean", 5.0), ("target_mean", ["a", "b"]), ("target_mean", [1.0, float("nan")]),
          ("target_std", [1.0]), ("target_names", ["a"])]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "text", "field", "value"),
    [
        *((SegmentationCard, SEGMENTATION, *each) for each in (*SHARED, *LABELS, ("colours", 3))),
        *((SegmentationCard, REGIONS, *each) for each in JOINED),
        *((SegmentationCard, SEGMENTATION, f"inference.{name}", value) for name, value in WINDOWS),
        *((ClassificationCard, CLASSIFICATION, *each) for each in (*SHARED, *LABELS)),
        *((ClassificationCard, CLASSIFICATION, f"inference.{name}", value) for name, value in IMAGES),
        *((RegressionCard, REGRESSION, *each) for each in (*SHARED, *VALUES)),
        *((RegressionCard, REGRESSION, f"inference.{name}", value) for name, value in WINDOWS),
    ],
)
def test_a_value_of_another_type_names_file_and_field(kind, text, field, value):
    values = json.loads(text)
    place = copy.copy(values)
    outer, _, inner = field.partition(".")
    if inner:
        place[outer] = {**values[outer], inner: value}
    else:
        place[outer] = value
    with pytest.raises(WeightsError) as caught:
        kind.from_dict(place, path="m.safetensors")
    assert str(caught.value).startswith(f"m.safetensors: {field}="), caught.value
    assert "expected" in str(caught.value)


@pytest.mark.parametrize(("changed", "words"), TOGETHER)
def test_regions_that_do_not_fit_each_other_name_the_file(changed, words):
    with pytest.raises(WeightsError, match=words) as caught:
        SegmentationCard.from_dict({**json.loads(REGIONS), **changed}, path="m.safetensors")
    assert str(caught.value).startswith("m.safetensors: ")


def test_a_long_wrong_value_does_not_fill_the_screen():
    values = {**json.loads(SEGMENTATION), "labels": [1] * 10000}
    with pytest.raises(WeightsError) as caught:
        SegmentationCard.from_dict(values, path="m.safetensors")
    assert len(str(caught.value)) < 300

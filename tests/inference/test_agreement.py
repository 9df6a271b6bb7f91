"""When engines agree: the measure of the guard for label maps, classes and values."""

from __future__ import annotations

import numpy as np
import pytest

import resvox
from resvox.inference import make_engine
from resvox.inference.engines import choosing
from resvox.inference.engines.agreement import (
    PATIENCE,
    ClassAgreement,
    LabelAgreement,
    ValueAgreement,
    region_labels,
)
from resvox.inference.engines.guard import GuardedEngine
from resvox.inference.engines.table import ENGINES, EngineRow


class Fixed:
    """An engine with one output."""

    device, precision = "cpu", "bfloat16"

    def __init__(self, name, output):
        self.name, self.output = name, np.asarray(output, np.float32)

    def __call__(self, windows):
        return self.output


def chosen(agreement, output, reference, windows):
    notes = []
    made = GuardedEngine(
        [("fast", lambda: Fixed("fast", output))],
        lambda: Fixed("plain", reference),
        agreement=agreement,
        notify=notes.append,
    )
    made(windows)
    return made.name, notes


IMAGES = np.random.default_rng(0).normal(size=(2, 1, 4, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("output", "name", "words"),
    [
        ([[0.0, 3.0], [2.0, 0.0]], "fast", None),
        ([[0.0, 3.01], [2.01, 0.0]], "fast", None),
        ([[0.0, 3.0], [0.0, 0.1]], "plain", "fast would give an image another class; not used"),
        ([[0.0, 3.0], [1.7, 0.0]], "plain", "fast would move a probability by 0.035; not used"),
    ],
)
def test_a_classifier_keeps_its_classes_and_its_probabilities(output, name, words):
    found, notes = chosen(ClassAgreement(), output, [[0.0, 3.0], [2.0, 0.0]], IMAGES)
    assert found == name
    assert notes == ([words] if words else [])


def test_a_single_class_is_compared_by_its_sigmoid():
    assert chosen(ClassAgreement(), [[0.01], [3.0]], [[-0.01], [3.0]], IMAGES)[0] == "plain"
    assert chosen(ClassAgreement(), [[0.02], [3.0]], [[0.01], [3.0]], IMAGES)[0] == "fast"


@pytest.mark.parametrize(
    ("error", "one_voxel", "name"),
    [(9e-4, 0.0, "fast"), (1.1e-3, 0.0, "plain"), (0.0, 9e-3, "fast"), (0, 2e-2, "plain")],
)
def test_values_differ_by_at_most_a_thousandth_of_their_deviation(error, one_voxel, name):
    reference = np.zeros((1, 1, 32, 32), np.float32)
    output = reference + np.float32(error)
    output[0, 0, 3, 4] += np.float32(one_voxel)
    windows = np.random.default_rng(0).normal(size=reference.shape).astype(np.float32)
    assert chosen(ValueAgreement(), output, reference, windows)[0] == name


def test_a_uniform_window_does_not_tell_values_apart():
    made = GuardedEngine(
        [("fast", lambda: Fixed("fast", np.ones((1, 1, 4, 4))))],
        lambda: Fixed("plain", np.zeros((1, 1, 4, 4))),
        agreement=ValueAgreement(),
        notify=lambda text: None,
    )
    made(np.zeros((1, 1, 4, 4), np.float32))
    assert made.changed is None
    made(IMAGES[:1])
    assert made.name == "plain"


def labels(foreground, *, of=30):
    """Logits (1, 2, of, of, of) whose first voxels, in the order of memory, are foreground."""
    logits = np.zeros((1, 2, of**3), np.float32)
    logits[0, 1] = np.where(np.arange(of**3) < foreground, 1, -1)
    return logits.reshape(1, 2, of, of, of)


SIDE = 96  # of a window in which 0.1 % are 884 voxels


@pytest.mark.parametrize(
    ("output", "reference", "name", "words"),
    [
        (400_000, 400_000, "fast", None),
        (400_880, 400_000, "fast", None),
        (401_000, 400_000, "plain", "fast would change 0.11 % of the labels of a window; not used"),
        (1_030, 1_000, "fast", None),
        (1_030, 970, "fast", None),  # a Dice of exactly 0.97
        (1_000, 1_100, "plain", "fast would lower the Dice of a label in a window to 0.952; not used"),
        (1_100, 990, "plain", "fast would lower the Dice of a label in a window to 0.947; not used"),
        (1_700, 900, "plain", "fast would lower the Dice of a label in a window to 0.692; not used"),
    ],
)
def test_labels_are_compared_by_their_share_and_their_dice(output, reference, name, words):
    found, notes = chosen(LabelAgreement(), labels(output, of=SIDE), labels(reference, of=SIDE), IMAGES)
    assert found == name
    assert notes == ([words] if words else [])


def maps(*sizes, of=SIDE):
    """Logits (1, labels, of, of, of) of a label map whose labels have these voxels, one behind the other."""
    found = np.repeat(np.arange(1, len(sizes) + 1), sizes)
    values = np.concatenate([found, np.zeros(of**3 - len(found), int)])
    return np.float32(values == np.arange(len(sizes) + 1)[:, None]).reshape(1, -1, of, of, of)


def test_each_label_keeps_its_dice():
    reference = maps(200_000, 5_000)
    assert chosen(LabelAgreement(), maps(200_000, 4_900), reference, IMAGES) == ("fast", [])
    name, notes = chosen(LabelAgreement(), maps(200_000, 4_500), reference, IMAGES)
    assert (name, notes) == ("plain", ["fast would lower the Dice of a label in a window to 0.947; not used"])
    assert chosen(LabelAgreement(), maps(200_000, 900), maps(200_000, 500), IMAGES) == (
        "fast",
        [],
    )  # by the share alone


def test_one_output_and_regions_keep_their_dice_too():
    single = lambda size: np.where(np.arange(SIDE**3) < size, 1, -1).reshape(1, 1, SIDE, SIDE, SIDE)  # noqa: E731
    assert chosen(LabelAgreement(), single(1_500), single(1_500), IMAGES)[0] == "fast"
    assert chosen(LabelAgreement(), single(1_500), single(1_200), IMAGES)[0] == "plain"
    measure = LabelAgreement(region_labels((1,)))
    assert chosen(measure, single(1_500), single(1_200), IMAGES)[0] == "plain"


def test_a_window_with_little_foreground_does_not_tell_labels_apart_until_there_were_several():
    """Its few labels could all change within the share of a window that is allowed."""
    measure = LabelAgreement()
    assert not measure.can_tell(IMAGES, labels(0, of=SIDE))
    assert not any(measure.can_tell(IMAGES, maps(999, 999)) for _ in range(PATIENCE))
    assert not measure.can_tell(IMAGES, labels(0, of=SIDE))
    assert measure.can_tell(IMAGES, labels(1, of=SIDE))
    assert LabelAgreement().can_tell(IMAGES, labels(1_000, of=SIDE))


def test_in_a_small_window_a_fiftieth_is_enough():
    assert LabelAgreement().can_tell(IMAGES, labels(20, of=10))
    assert not LabelAgreement().can_tell(IMAGES, labels(19, of=10))


def test_the_verdict_of_another_rule_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setenv("RESVOX_CACHE", str(tmp_path))
    keys = []
    monkeypatch.setattr(choosing, "_read_verdict", lambda name: keys.append(name))
    network = resvox.create_model("resnet10", widths=(4,) * 4, stem_width=4, spatial_dims=2, in_channels=1)
    for rule in ("one", "one", "other"):
        measure = LabelAgreement()
        measure.rule = rule
        make_engine(
            lambda: network, roi_size=(8, 8), in_channels=1, engine="torch", device="cpu", agreement=measure,
            fingerprint="f", notify=lambda text: None,
        )  # fmt: skip
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("agreement", "expected"),
    [
        (LabelAgreement(), ["bfloat16", "float32"]),
        (ClassAgreement(), ["float32"]),
        (ValueAgreement(), ["float32"]),
    ],
)
def test_numbers_are_not_rounded_to_bfloat16_on_a_processor(monkeypatch, agreement, expected):
    network = resvox.create_model("resnet10", widths=(4,) * 4, stem_width=4, spatial_dims=2, in_channels=1)
    monkeypatch.setattr(choosing, "_has_bfloat16", lambda row, place: True)
    tried, real = [], choosing._making

    def watched(row, request):
        if not row.is_reference:
            tried.append(request.precision)
        return real(row, request)

    monkeypatch.setattr(choosing, "_making", watched)
    make_engine(
        lambda: network, roi_size=(8, 8), in_channels=1, engine="torch", device="cpu", agreement=agreement,
        notify=lambda text: None,
    )  # fmt: skip
    assert tried == expected


def test_a_new_engine_is_a_row_and_a_module(monkeypatch):
    """The row below stands for one in the table, this test module for the engine's own."""
    row = EngineRow(name="fixed", package="numpy", network=f"{__name__}:fixed_engine")
    monkeypatch.setitem(
        __import__("sys").modules, __name__, __import__("types").SimpleNamespace(fixed_engine=fixed_engine)
    )
    monkeypatch.setattr("resvox.inference.engines.table.ENGINES", (*ENGINES, row))
    from resvox.prediction.options import PredictOptions

    assert PredictOptions(model="m", engine="fixed").engine == "fixed"
    made = make_engine(lambda: None, roi_size=(4, 4), in_channels=1, engine="fixed", device="cpu", notify=print)
    assert made.name == "fixed"
    np.testing.assert_array_equal(made(IMAGES), np.zeros((1, 1, 4, 4)))


def fixed_engine(request):
    return Fixed("fixed", np.zeros((1, 1, *request.roi_size)))

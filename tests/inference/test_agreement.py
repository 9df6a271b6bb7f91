"""When engines agree: the measure of the guard for label maps, classes and values."""

from __future__ import annotations

import numpy as np
import pytest

import resvox
from resvox.inference import make_engine
from resvox.inference.engines import choosing
from resvox.inference.engines.agreement import ClassAgreement, LabelAgreement, ValueAgreement
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


@pytest.mark.parametrize(
    ("output", "reference", "name", "words"),
    [
        (13_000, 13_000, "fast", None),
        (13_026, 13_000, "fast", None),
        (13_040, 13_000, "plain", "fast would change 0.15 % of the labels of a window; not used"),
        (195, 200, "fast", None),
        (180, 200, "plain", "fast would lower the Dice of a label in a window to 0.947; not used"),
        (110, 100, "plain", "fast would lower the Dice of a label in a window to 0.952; not used"),
        (110, 99, "fast", None),  # a label of less than 100 voxels counts by its share alone
    ],
)
def test_labels_are_compared_by_their_share_and_their_dice(output, reference, name, words):
    found, notes = chosen(LabelAgreement(), labels(output), labels(reference), labels(0))
    assert found == name
    assert notes == ([words] if words else [])


def test_a_window_with_little_foreground_does_not_tell_labels_apart():
    """Its few labels could all change within the share of a window that is allowed."""
    output, reference = labels(99), labels(0)
    engine = Fixed("fast", output)
    made = GuardedEngine(
        [("fast", lambda: engine)], lambda: Fixed("plain", reference), agreement=LabelAgreement(),
        notify=lambda text: None,
    )  # fmt: skip
    made(labels(0))
    assert (made.name, made.changed) == ("fast", None)
    engine.output = labels(200)
    made(labels(0))
    assert made.name == "plain"


def test_in_a_small_window_a_fiftieth_is_enough():
    assert LabelAgreement().can_tell(labels(0, of=10), labels(20, of=10))
    assert not LabelAgreement().can_tell(labels(0, of=10), labels(19, of=10))


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

"""Labels on the scan's grid from slices of logits: as if every logit were brought there before the largest is taken."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import resvox.preprocessing
from resvox.errors import InferenceError
from resvox.inference import labels_from_logits, probabilities_from_logits, sliding_window_inference
from resvox.inference.boxes import BoxWalk
from resvox.inference.restoring import Restorer, can_restore
from resvox.inference.streaming import FinishedSlice, stream_sliding_window
from resvox.preprocessing import Crop, Pad, Preprocessing, Reorient, Respace
from resvox.volumes import Grid, Volume


def smooth_predictor(classes):
    def predict(windows):
        value = windows[:, 0]
        return np.stack([np.sin(1.5 * value * (k + 1) + k) for k in range(classes)], axis=1).astype(np.float32)

    return predict


@st.composite
def scans(draw):
    dims = draw(st.sampled_from([2, 3, 3]))
    shape = tuple(draw(st.integers(1, 14 if dims == 3 else 40)) for _ in range(dims))
    letters = draw(st.permutations(["SI", "AP", "RL"] if dims == 3 else ["AP", "RL"]))
    return {
        "shape": shape,
        "order": draw(st.permutations(range(dims))),
        "flips": tuple(draw(st.sampled_from([1, -1])) for _ in range(dims)),
        "orientation": "".join(draw(st.sampled_from(pair)) for pair in letters),
        "spacing_mm": tuple(draw(st.floats(0.6, 3.0)) for _ in range(dims)),
        "grid_mm": draw(st.one_of(st.none(), st.tuples(*[st.floats(0.6, 3.0)] * dims))),
        "minimum_size": draw(st.sampled_from([None, (6,) * dims])),
        "crop": draw(st.sampled_from(["none", "nonzero", "nonzero_mask"])),
    }


def prepared_scan(scan):
    dims = len(scan["shape"])
    rng = np.random.default_rng(sum(scan["shape"]))
    array = rng.normal(size=scan["shape"]).astype(np.float32)
    for axis in range(dims):  # waves of some voxels, so that labels have an extent
        array += np.sin(np.arange(scan["shape"][axis]) / 3).reshape((-1,) + (1,) * (dims - 1 - axis))
    if scan["crop"] != "none":
        array[:1] = 0
        array[array < -1] = 0  # some of it enclosed by other values
    direction = (np.eye(dims)[:, ::-1][:, list(scan["order"])] * np.array(scan["flips"])).copy()
    volume = Volume(array, spacing_mm=scan["spacing_mm"], direction=direction, origin_mm=(5.0,) * dims)
    steps = Preprocessing(
        orientation=scan["orientation"],
        spacing_mm=scan["grid_mm"],
        crop=scan["crop"],
        minimum_size=scan["minimum_size"],
    )
    return volume, steps.apply(volume)


@settings(max_examples=60, deadline=None)
@given(
    scans(),
    st.integers(1, 6),
    st.integers(2, 9),
    st.sampled_from([0.0, 0.25, 0.5]),
    st.sampled_from([2.5, 1e-6]),
    st.integers(1, 2),
)
def test_streamed_labels_are_those_of_the_full_buffer(scan, classes, roi, overlap, memory_gb, threads):
    volume, prepared = prepared_scan(scan)
    options = {"roi_size": roi, "overlap": overlap}
    logits = sliding_window_inference(prepared.array, smooth_predictor(classes), **options)
    slices = stream_sliding_window(prepared.array, smooth_predictor(classes), memory_gb=memory_gb, **options)
    labels, scores = Restorer(prepared, threads=threads, probabilities=True).restore(slices)
    whole = [FinishedSlice(index=index, start=0, logits=logits[:, index]) for index in range(logits.shape[1])]
    at_once, scores_at_once = Restorer(prepared, probabilities=True).restore(whole)
    assert labels.grid == volume.grid
    np.testing.assert_array_equal(labels.array, at_once.array)
    np.testing.assert_array_equal(scores.array, scores_at_once.array)
    expected = prepared.restore_scores(logits).array  # every class on the scan's grid, by ITK
    np.testing.assert_allclose(
        scores.array, prepared.restore_scores(probabilities_from_logits(logits)).array, atol=2e-4
    )
    cut_away = cropped_away(prepared)
    assert (labels.array[cut_away] == 0).all()
    clear = margin(expected) > 1e-3  # elsewhere two classes tie up to rounding
    np.testing.assert_array_equal(labels.array[clear & ~cut_away], labels_from_logits(expected)[clear & ~cut_away])


def margin(logits):
    if len(logits) == 1:
        return np.abs(logits[0])
    ranked = np.sort(logits, axis=0)
    return ranked[-1] - ranked[-2]


def cropped_away(prepared):
    inside = np.ones((1, *prepared.grid.shape), np.uint8)
    for step in reversed(prepared.steps):
        if isinstance(step, Crop):
            inside = np.ones((1, *step.target.shape), np.uint8)
            inside = step.inverse(inside, "labels")
        elif step.source.shape == prepared.source.shape or inside.shape[1:] == step.target.shape:
            inside = step.inverse(inside, "labels")
    return inside[0] == 0


def test_only_classes_that_can_win_are_interpolated(monkeypatch):
    scan = Volume(np.zeros((60, 60, 60), np.float32), spacing_mm=(1.0,) * 3)
    prepared = Preprocessing(orientation="SPL", spacing_mm=(2.0,) * 3).apply(scan)
    logits = np.full((50, *prepared.grid.shape), -5.0, np.float32)
    logits[0] = 1
    logits[7, 10:20, 10:20, 10:20] = 4
    asked = []
    real = BoxWalk.interpolated

    def watched(self, box, span, targets):
        asked.append(len(box))
        return real(self, box, span, targets)

    monkeypatch.setattr(BoxWalk, "interpolated", watched)
    slices = [FinishedSlice(index=index, start=0, logits=logits[:, index]) for index in range(logits.shape[1])]
    labels, _ = Restorer(prepared, values={7: 200}).restore(slices)
    assert set(np.unique(labels.array)) == {0, 200}
    assert labels.array.dtype == np.uint8
    assert set(asked) == {2}
    assert labels.array[30, 30, 30] == 200


def test_label_values_above_a_byte_widen_the_type():
    scan = Volume(np.zeros((4, 4, 4), np.float32), spacing_mm=(1.0,) * 3)
    prepared = Preprocessing(orientation="SPL").apply(scan)
    slices = [
        FinishedSlice(
            index=i, start=0, logits=np.eye(2, dtype=np.float32)[1][:, None, None] * np.ones((2, 4, 4), np.float32)
        )
        for i in range(4)
    ]
    labels, _ = Restorer(prepared, values={0: 0, 1: 1000}).restore(slices)
    assert labels.array.dtype == np.uint16
    assert (labels.array == 1000).all()


def step_classes():
    """All classes of preprocessing that have the interface of a step, found by looking at its modules."""
    members = ("source", "target", "forward", "inverse")
    found = set()
    for each in pkgutil.walk_packages(resvox.preprocessing.__path__, "resvox.preprocessing."):
        module = importlib.import_module(each.name)
        for value in vars(module).values():
            is_own = isinstance(value, type) and value.__module__ == each.name and not is_protocol(value)
            names = (set(dir(value)) | set(getattr(value, "__dataclass_fields__", ()))) if is_own else ()
            if is_own and all(name in names for name in members):
                found.add(value)
    return found


def is_protocol(kind):
    return getattr(kind, "_is_protocol", False)


def not_restorable(classes):
    whole = Preprocessing().apply(Volume(np.zeros((2, 2, 2), np.float32), spacing_mm=(1.0, 1.0, 1.0)))
    return {kind for kind in classes if not can_restore(dataclasses.replace(whole, steps=(object.__new__(kind),)))}


def test_every_step_of_preprocessing_can_be_restored_slice_by_slice():
    assert {Reorient, Crop, Respace, Pad} <= step_classes()
    assert not not_restorable(step_classes())


def test_a_planted_new_step_breaks_that_law(monkeypatch):
    class Rotate(Crop):
        pass

    monkeypatch.setattr(Rotate, "__module__", "resvox.preprocessing.crop")
    monkeypatch.setattr(resvox.preprocessing.crop, "Rotate", Rotate, raising=False)
    assert not_restorable(step_classes()) == {Rotate}


def test_unknown_steps_are_refused():
    scan = Volume(np.zeros((4, 4, 4), np.float32), spacing_mm=(1.0,) * 3)
    prepared = Preprocessing(orientation="SPL", spacing_mm=(2.0,) * 3).apply(scan)
    turned = dataclasses.replace(prepared, steps=prepared.steps[::-1])
    with pytest.raises(InferenceError, match=r"steps are not known here.*Prepared\.restore_labels"):
        Restorer(turned)
    assert Grid((4, 4, 4), spacing_mm=(1.0,) * 3) == scan.grid

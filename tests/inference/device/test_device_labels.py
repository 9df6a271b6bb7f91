"""Label maps made on a device: those of the sums in main memory, to the bit on a processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resvox.errors import InferenceError
from resvox.inference import (
    LinearHead,
    RegionRestorer,
    Restorer,
    WindowCount,
    sliding_window_inference,
    stream_sliding_window,
)
from resvox.inference.device.labelling import DeviceLabels
from resvox.inference.device.restoring import LabelRule
from resvox.preprocessing import Preprocessing
from resvox.volumes import Volume

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


class Parabolas:
    """Outputs that are largest where a voxel is nearest to a centre of their own; exact products and sums alone."""

    def __init__(self, outputs, *, device="cpu", fails=()):
        self.centres = torch.linspace(-2, 2, outputs, device=device)[:, None, None, None]
        self.device = device
        self.fails, self.calls = set(fails), []

    def on_device(self, windows):
        self.calls.append(len(windows))
        if len(self.calls) in self.fails:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        off = windows[:, :1] - self.centres
        return 1 - off * off

    def __call__(self, windows):
        return self.on_device(torch.from_numpy(windows).to(self.device)).cpu().numpy()


@st.composite
def scans(draw):
    letters = draw(st.permutations(["SI", "AP", "RL"]))
    return {
        "shape": tuple(draw(st.integers(1, 14)) for _ in range(3)),
        "order": draw(st.permutations(range(3))),
        "flips": tuple(draw(st.sampled_from([1, -1])) for _ in range(3)),
        "orientation": "".join(draw(st.sampled_from(pair)) for pair in letters),
        "spacing_mm": tuple(draw(st.floats(0.6, 3.0)) for _ in range(3)),
        "grid_mm": draw(st.one_of(st.none(), st.tuples(*[st.floats(0.6, 3.0)] * 3))),
        "minimum_size": draw(st.sampled_from([None, (6, 6, 6)])),
        "crop": draw(st.sampled_from(["none", "nonzero", "nonzero_mask"])),
    }


def prepared_scan(scan):
    rng = np.random.default_rng(sum(scan["shape"]))
    array = rng.normal(size=scan["shape"]).astype(np.float32)
    for axis in range(3):  # waves of some voxels, so that labels have an extent
        array += np.sin(np.arange(scan["shape"][axis]) / 3).reshape((-1,) + (1,) * (2 - axis))
    if scan["crop"] != "none":
        array[:1] = 0
        array[array < -1] = 0  # some of it enclosed by other values
    direction = (np.eye(3)[:, ::-1][:, list(scan["order"])] * np.array(scan["flips"])).copy()
    volume = Volume(array, spacing_mm=scan["spacing_mm"], direction=direction, origin_mm=(5.0,) * 3)
    return Preprocessing(
        orientation=scan["orientation"],
        spacing_mm=scan["grid_mm"],
        crop=scan["crop"],
        minimum_size=scan["minimum_size"],
    ).apply(volume)


def fixed_scan(shape=(13, 12, 11), grid_mm=(1.3, 0.8, 2.0)):
    scan = {
        "shape": shape,
        "order": (0, 1, 2),
        "flips": (1, -1, 1),
        "orientation": "SPL",
        "spacing_mm": (1.0, 1.5, 0.7),
        "grid_mm": grid_mm,
        "minimum_size": None,
        "crop": "none",
    }
    return prepared_scan(scan)


def in_main_memory(prepared, engine, rule, *, batch=1, **windows):
    slices = stream_sliding_window(prepared.array, engine, sw_batch_size=batch, independent=rule.regions, **windows)
    if rule.regions:
        return RegionRestorer(prepared, class_order=rule.values).restore(slices)[0]
    return Restorer(prepared, values=dict(enumerate(rule.values)), head=rule.head).restore(slices)[0]


def on_device(prepared, engine, rule, *, notes=None, **options):
    made = {name: options.pop(name) for name in ("batch", "memory") if name in options}
    labels = DeviceLabels(engine, rule, notify=(notes if notes is not None else []).append, **made)
    return labels.labels(prepared, **options)


def assert_same(made, expected):
    assert made.grid == expected.grid
    assert made.array.dtype == expected.array.dtype
    assert made.array.flags.c_contiguous
    np.testing.assert_array_equal(made.array, expected.array)


KINDS = {
    "single": (1, LabelRule(values=(0, 7))),
    "two": (2, LabelRule(values=(0, 200))),
    "three": (3, LabelRule(values=(0, 300, 2))),
    "many": (9, LabelRule(values=tuple(range(0, 18, 2)))),
    "regions": (3, LabelRule(values=(4, 2, 9), regions=True)),
}


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40, deadline=None)
@given(
    scans(),
    st.sampled_from(sorted(KINDS)),
    st.tuples(*[st.integers(2, 9)] * 3),
    st.sampled_from([0.0, 0.25, 0.5, 0.7]),
    st.sampled_from(["gaussian", "constant", "half-gaussian"]),
    st.sampled_from(["stepped", "even"]),
    st.sampled_from([(), (1,), (0, 2)]),
    st.sampled_from([None, 60_000, 1]),
    st.sampled_from([None, 0.2]),
    st.integers(1, 3),
)
def test_labels_are_those_of_sums_in_main_memory(
    device, scan, kind, roi, overlap, mode, placement, mirror, memory, skip_empty, batch
):
    prepared = prepared_scan(scan)
    outputs, rule = KINDS[kind]
    engine = Parabolas(outputs, device=device)
    windows = {
        "roi_size": roi, "overlap": overlap, "mode": mode, "placement": placement, "mirror_axes": mirror,
        "skip_empty": skip_empty,
    }  # fmt: skip
    made = on_device(prepared, engine, rule, memory=memory, batch=batch, **windows)
    assert_same(made, in_main_memory(prepared, engine, rule, batch=batch, **windows))


@pytest.mark.parametrize("device", DEVICES)
def test_a_late_head_changes_labels_only_where_two_logits_are_as_close_as_rounding(device):
    prepared = fixed_scan((24, 22, 20))
    rng = np.random.default_rng(5)
    head = LinearHead(rng.normal(size=(40, 6)).astype(np.float32), rng.normal(size=40).astype(np.float32))
    rule, engine = LabelRule(values=tuple(range(40)), head=head), Parabolas(6, device=device)
    windows = {"roi_size": 8, "overlap": 0.5}
    made = on_device(prepared, engine, rule, **windows).array
    expected = in_main_memory(prepared, engine, rule, **windows).array
    logits = head(sliding_window_inference(prepared.array, engine, **windows))
    on_scan = np.sort(prepared.restore_scores(logits).array, axis=0)
    differ = made != expected
    assert (on_scan[-1] - on_scan[-2])[differ].max(initial=0) <= 1e-5 * np.abs(on_scan).max()
    assert differ.mean() < 1e-3
    assert len(np.unique(made)) >= 3


def test_of_equal_logits_the_first_class_wins_as_in_argmax():
    class Tied(Parabolas):
        def on_device(self, windows):
            return super().on_device(windows)[:, [0, 1, 1, 0]]

    rule = LabelRule(values=(0, 1, 2, 3))
    made = on_device(fixed_scan(), Tied(2), rule, roi_size=6)
    assert set(np.unique(made.array)) == {0, 1}


def test_memory_that_runs_out_makes_slabs_and_then_batches_smaller():
    prepared, rule = fixed_scan(), LabelRule(values=(0, 1, 2))
    windows = {"roi_size": 6, "overlap": 0.5}
    expected = in_main_memory(prepared, Parabolas(3), rule, **windows)
    engine, notes, seen = Parabolas(3, fails=(1, 4, 5, 6, 9)), [], []
    labels = DeviceLabels(engine, rule, batch=4, memory=200_000, notify=notes.append)
    count = WindowCount()
    made = labels.labels(prepared, **windows, count=count, progress=lambda done, total: seen.append((done, total)))
    assert_same(made, expected)
    assert notes == [
        *["out of memory on cpu; continuing with smaller slabs"] * 3,
        "out of memory on cpu; continuing with 2 windows at a time",
        "out of memory on cpu; continuing with 1 windows at a time",
    ]
    assert set(engine.calls[9:]) == {1}
    assert count.tiles > 1
    assert seen[-1] == (count.computed, count.computed)
    assert_same(labels.labels(prepared, **windows), expected)  # what was found out is kept
    assert len(notes) == 5


def test_memory_that_never_suffices_leaves_the_scan_to_main_memory():
    notes: list[str] = []
    engine = Parabolas(3, fails=range(99))
    assert on_device(fixed_scan(), engine, LabelRule(values=(0, 1, 2)), roi_size=6, batch=2, notes=notes) is None
    assert notes[-1] == "out of memory on cpu for one window and its slab; continuing with sums in main memory"
    assert engine.calls == [2, 1]


def test_another_error_is_not_taken_for_memory():
    class Broken(Parabolas):
        def on_device(self, windows):
            raise RuntimeError("an operation that does not exist")

    with pytest.raises(RuntimeError, match="does not exist"):
        on_device(fixed_scan(), Broken(3), LabelRule(values=(0, 1, 2)), roi_size=6)


class Cropping(Parabolas):
    def on_device(self, windows):
        return super().on_device(windows)[..., 1:]


class Infinite(Parabolas):
    def on_device(self, windows):
        return super().on_device(windows) / 0


@pytest.mark.parametrize(
    ("engine", "rule", "text"),
    [
        (Cropping(3), LabelRule(values=(0, 1, 2)), r"returned \(1, 3, 6, 6, 5\) for windows of \(1, 1, 6, 6, 6\)"),
        (Infinite(3), LabelRule(values=(0, 1, 2)), "NaN or infinite; expected finite logits"),
        (Parabolas(4), LabelRule(values=(0, 1, 2)), "a network with 4 outputs; expected one per label or region, 3"),
        (Parabolas(1), LabelRule(values=(1, 2), regions=True), "a network with 1 outputs; expected .*, 2"),
    ],
)
def test_outputs_that_cannot_be_are_refused(engine, rule, text):
    with pytest.raises(InferenceError, match=text):
        on_device(fixed_scan(), engine, rule, roi_size=6, batch=1)

"""--speed: fewer windows where the labels of the first scan allow it, and full where they do not."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from prediction.conftest import ThresholdEngine

from resvox.errors import InferenceError
from resvox.inference import Difference, WindowCount
from resvox.inference.passes.label_changes import BINS, ResolvedVoxels
from resvox.prediction.segmenter import Segmenter
from resvox.prediction.speed.control import SpeedControl
from resvox.prediction.speed.verdicts import ALLOWANCES, LIMITS, Verdict, chosen
from resvox.workflow import predict


class SureEngine(ThresholdEngine):
    """The same classes, tens of logits apart."""

    def __call__(self, windows):
        return 100 * super().__call__(windows)


class FickleEngine(ThresholdEngine):
    """A network that sees classes by the place in the window: every window has another answer for a voxel."""

    def __call__(self, windows):
        ramp = np.arange(windows.shape[-1], dtype=np.float32)
        return np.stack([np.broadcast_to(np.sin(ramp * k + k), windows[:, 0].shape) for k in range(3)], axis=1)


@pytest.fixture
def sure_engine(monkeypatch):
    monkeypatch.setattr("resvox.inference.engines.make_engine", SureEngine, raising=False)


@pytest.fixture
def fickle_engine(monkeypatch):
    monkeypatch.setattr("resvox.inference.engines.make_engine", FickleEngine, raising=False)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESVOX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def scans(write_scan, tmp_path):
    def write(count):
        rng = np.random.default_rng(0)
        for number in range(count):
            values = np.kron(rng.integers(-900, 900, (4, 4, 4)), np.ones((6, 6, 6))).astype(np.int16)
            write_scan(tmp_path / "scans" / f"s{number}.nii.gz", values)
        return tmp_path / "scans"

    return write


def lines_of(out):
    return [json.loads(line) for line in (out / "predict.jsonl").read_text().splitlines()]


def maps_of(out):
    return {path.name: np.asarray(nibabel.load(path).dataobj) for path in sorted(out.glob("s*.nii.gz"))}


def assert_same_maps(a, b):
    one, two = maps_of(a), maps_of(b)
    assert list(one) == list(two)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.parametrize("speed", ["balanced", "fast"])
@pytest.mark.parametrize("resample", ["logits", "labels"])
def test_of_a_batch_the_first_scan_is_measured_and_the_others_need_fewer_windows(
    make_model, sure_engine, scans, tmp_path, speed, resample
):
    folder, notes = scans(3), []
    options = {"overlap": 0.5, "resample": resample}
    predict(make_model(), folder, tmp_path / "full", **options)
    result = predict(make_model(), folder, tmp_path / "out", speed=speed, on_note=notes.append, **options)
    assert (result.ok, notes) == (True, [])
    assert_same_maps(tmp_path / "full", tmp_path / "out")  # its answer for a voxel is the same in all windows
    lines = [line["speed"] for line in lines_of(tmp_path / "out")]
    assert [line["used"] for line in lines] == ["full", speed, speed]
    assert [line["asked"] for line in lines] == [speed] * 3
    assert lines[0]["computed"] == 125 > lines[1]["computed"]
    assert lines[1]["measured"] == {**lines[0]["measured"], "is_first": False}
    assert lines[0]["measured"]["labels_changed"] == 0
    assert result.speed.startswith(f"speed {speed}: as measured, 0.000 % of the labels differ from full")
    some = f"; {sum(line['computed'] for line in lines[1:])} of 250 windows computed" if speed == "balanced" else ""
    assert result.speed.endswith(f"least Dice 1.0000{some}; 1 scan in full")
    assert lines_of(tmp_path / "out")[0]["options"]["speed"] == speed
    assert "speed" not in lines_of(tmp_path / "full")[0]


@pytest.mark.parametrize("speed", ["balanced", "fast"])
def test_labels_that_would_change_are_said_and_full_is_used(make_model, fickle_engine, scans, tmp_path, speed):
    folder, notes = scans(3), []
    predict(make_model(), folder, tmp_path / "full", overlap=0.5)
    result = predict(make_model(), folder, tmp_path / "out", overlap=0.5, speed=speed, on_note=notes.append)
    assert_same_maps(tmp_path / "full", tmp_path / "out")
    used = [line["speed"]["used"] for line in lines_of(tmp_path / "out")]
    if speed == "balanced":  # every voxel is in doubt somewhere, so every window is computed
        assert (used, notes) == (["full", "balanced", "balanced"], [])
        assert {line["speed"]["computed"] for line in lines_of(tmp_path / "out")} == {125}
        return
    assert used == ["full"] * 3
    (note,) = notes
    assert note.startswith("speed fast: ")
    assert note.endswith("more than 1 % or below 0.97; full is used")
    assert result.speed.endswith("3 scans in full")


def test_the_verdict_of_an_earlier_batch_serves_a_single_scan(make_model, sure_engine, scans, tmp_path):
    folder = scans(1)
    options = {"overlap": 0.5, "speed": "balanced"}
    for number, used in enumerate(["full", "balanced"]):
        predict(make_model(), folder, tmp_path / str(number), **options)
        (line,) = lines_of(tmp_path / str(number))
        assert (line["speed"]["used"], line["speed"]["measured"]["is_first"]) == (used, used == "full")
    predict(make_model(), folder, tmp_path / "other", mirror=True, **options)
    assert lines_of(tmp_path / "other")[0]["speed"]["used"] == "full"  # other settings, another verdict


def test_a_batch_is_measured_again_and_a_run_that_goes_on_does_what_is_missing(
    make_model, sure_engine, scans, tmp_path
):
    folder, out = scans(3), tmp_path / "out"
    options = {"overlap": 0.5, "speed": "balanced"}
    predict(make_model(), folder, out, **options)
    (out / "s1.nii.gz").unlink()
    again = predict(make_model(), folder, out, **options)
    assert [case.status for case in again.cases] == ["present", "written", "present"]
    assert lines_of(out)[-1]["speed"]["used"] == "full"
    (kept,) = predict(make_model(), folder / "s1.nii.gz", out, overlap=0.5).cases
    assert "speed balanced instead of full" in kept.reason


def test_several_processes_each_measure_their_first_scan(make_model, scans, tmp_path):
    folder = scans(4)
    options = {"overlap": 0.5, "engine": "torch", "device": "cpu", "speed": "balanced"}
    result = predict(make_model(), folder, tmp_path / "out", processes=2, **options)
    assert result.ok, result.cases
    assert {line["speed"]["asked"] for line in lines_of(tmp_path / "out")} == {"balanced"}


@pytest.mark.parametrize("speed", ["balanced", "fast"])
def test_mirrored_averaged_and_reduced_precision_models_take_it(make_model, scans, tmp_path, speed):
    volume = nibabel.load(scans(1) / "s0.nii.gz")
    from resvox.volumes import Volume

    scan = Volume(np.asarray(volume.dataobj), spacing_mm=(2, 2, 2))
    segmenter = Segmenter([make_model(), make_model()], mirror=True, speed=speed, overlap=0.5, precision="bfloat16")
    first, second = segmenter.segment(scan), segmenter.segment(scan)
    full = Segmenter([make_model(), make_model()], mirror=True, overlap=0.5, precision="bfloat16").segment(scan)
    np.testing.assert_array_equal(first.label_map.array, full.label_map.array)
    assert first.log["speed"]["measured"]["is_first"]
    assert not second.log["speed"]["measured"]["is_first"]
    assert full.log == {}


@pytest.mark.parametrize("speed", ["balanced", "fast"])
def test_a_model_for_regions_takes_it(make_model, scans, tmp_path, speed):
    import resvox
    from resvox.volumes import read_volume
    from resvox.weights import read_header

    metadata = {**read_header(make_model()).metadata, "regions": {"all": [1, 2], "core": [2], "rim": [3]}}
    metadata["regions_class_order"] = [1, 2, 3]
    del metadata["labels"], metadata["colours"]
    network = resvox.load_model(make_model())
    network.head.weight.data *= 100
    model = resvox.save_model(network, tmp_path / "regions.safetensors", metadata=metadata)
    scan = read_volume(scans(1) / "s0.nii.gz")
    options = {"overlap": 0.5, "engine": "torch-plain", "region_masks": True}
    segmenter = Segmenter(model, speed=speed, **options)
    first, second = segmenter.segment(scan), segmenter.segment(scan)
    full = Segmenter(model, **options).segment(scan)
    np.testing.assert_array_equal(first.region_masks.array, full.region_masks.array)
    record = second.log["speed"]
    changed = float(np.mean(second.label_map.array != full.label_map.array))
    assert changed == (0.0 if record["used"] == "full" else pytest.approx(record["measured"]["labels_changed"]))


def test_probabilities_of_the_balanced_speed_are_blended_from_the_windows_that_were_computed(
    make_model, sure_engine, scans
):
    from resvox.volumes import read_volume

    scan = read_volume(scans(1) / "s0.nii.gz")
    segmenter = Segmenter(make_model(), overlap=0.5, speed="balanced")
    first, second = (segmenter.segment(scan, probabilities=True) for _ in range(2))
    np.testing.assert_allclose(first.probabilities.array, second.probabilities.array, atol=1e-5)  # logits near 100


def tried(*differences):
    return [
        (limit, computed, Difference(share=share, least_dice=dice))
        for limit, computed, (share, dice) in zip(LIMITS, (20, 30, 40, 50), differences, strict=False)
    ]


def test_a_scan_whose_windows_show_more_changes_than_are_allowed_goes_back():
    notes = []
    control = SpeedControl("balanced", labels_of=None, top_two=None, name="none", notify=notes.append)
    control.verdict = chosen(tried((0.0, 1.0)), speed="balanced", windows=64)

    def run_with(changed):
        def run(*, count, passes):
            passes.budget.see(np.repeat([0, 1], [90_000, 10_000]))
            left = ResolvedVoxels(np.full(BINS, 10.0), np.full((2, BINS), 10.0))
            passes.budget.left = left
            label = np.ones(1000, np.int64)
            for bin in range(BINS):
                passes.change_rates.add(label, 0 * label, bin * label, np.where(np.arange(1000) < changed, 0, label))
            return iter(())

        return run

    for changed, goes_back in ((0, False), (500, True)):
        assert list(control.slices(run_with(changed), WindowCount())) == []
        assert control.goes_back() == goes_back
        record = control.record(WindowCount(), is_first=False, expected=control.expected, went_back=goes_back)["speed"]
        assert (record["used"], record["went_back"]) == ("full" if goes_back else "balanced", goes_back)
        assert (record["expected"]["least_dice"] < 0.995) == goes_back
    (note,) = notes
    assert note.startswith("speed balanced: ")
    assert note.endswith("as its own windows show; full is used for this scan")


def test_a_scan_that_goes_back_has_the_labels_of_full(make_model, sure_engine, scans, tmp_path, monkeypatch):
    folder, options = scans(2), {"overlap": 0.5}
    predict(make_model(), folder, tmp_path / "full", **options)
    monkeypatch.setattr(SpeedControl, "goes_back", lambda self: self.expected is not None)
    result = predict(make_model(), folder, tmp_path / "out", speed="balanced", **options)
    assert_same_maps(tmp_path / "full", tmp_path / "out")
    first, second = (line["speed"] for line in lines_of(tmp_path / "out"))
    assert (second["used"], second["went_back"]) == ("full", True)
    assert second["computed"] > first["computed"] == 125
    assert "went_back" not in first
    assert result.speed.endswith("2 scans in full; 1 of these because more changes than allowed were expected")


def test_a_speed_that_cannot_be_is_refused(make_model):
    with pytest.raises(InferenceError, match=r"speed='warp'; expected 'full' or 'balanced' or 'fast'"):
        Segmenter(make_model(), speed="warp")


def test_the_fewest_windows_that_use_half_of_the_allowance_are_chosen():
    found = chosen(tried((0.004, 0.9), (0.0008, 0.996), (0.0004, 0.998), (0.0, 1.0)), speed="balanced", windows=64)
    assert found == Verdict(is_allowed=True, share=0.0004, least_dice=0.998, computed=40, windows=64, limit=LIMITS[2])


def test_of_the_strictest_limit_the_whole_allowance_counts_and_beyond_it_full_is_used():
    rough = [(0.004, 0.9)] * 3
    assert chosen(tried(*rough, (0.0009, 0.996)), speed="balanced", windows=64).is_allowed
    for last in ((0.0011, 1.0), (0.0, 0.994)):
        verdict = chosen(tried(*rough, last), speed="balanced", windows=64)
        assert not verdict.is_allowed
        assert (verdict.computed, verdict.limit) == (50, LIMITS[3])
        assert verdict.describe("balanced").endswith("more than 0.1 % or below 0.995; full is used")
    assert ALLOWANCES["fast"].share > ALLOWANCES["balanced"].share

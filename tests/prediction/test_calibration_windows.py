"""Windows of prepared scans: those to calibrate on, and others to compare on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from resvox.cards import ClassificationCard, SegmentationCard, WholeImage, Windows
from resvox.errors import InferenceError
from resvox.prediction.model_files import read_model_file
from resvox.prediction.quantized import windows
from resvox.prediction.quantized.scans import KeptScans, ScanFiles
from resvox.prediction.quantized.windows import cut, scans_wanted
from resvox.training.prepared import PREPARED_BY, digest_of, prepared_entry


def card(roi=(8, 8, 8), **changes):
    common = {"preprocessing": {}, "channel_names": ("CT",), "labels": {"background": 0, "organ": 1}}
    return SegmentationCard(**common, inference=Windows(roi_size=roi, **changes))


def scan(number, shape=(24, 24, 24)):
    """A scan whose voxels say which one it is, and where they are."""
    ramp = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
    return 1e6 * number + ramp


def numbers(found):
    return {int(window.flat[0] // 1e6) for window in found}


def test_every_third_scan_is_kept_for_the_comparison():
    sets = cut(map(scan, range(8)), card(), total=8)
    assert (numbers(sets.calibration), numbers(sets.check)) == ({0, 2, 3, 5, 6}, {1, 4, 7})
    assert (sets.scans, sets.check_scans) == (5, 3)
    assert (len(sets.calibration), len(sets.check)) == (32, 18)
    assert {window.shape for window in sets.calibration + sets.check} == {(1, 1, 8, 8, 8)}
    again = cut(map(scan, range(8)), card(), total=8)
    np.testing.assert_array_equal(sets.calibration, again.calibration)


def test_of_a_single_scan_other_windows_are_compared():
    sets = cut([scan(0)], card(), total=1)
    places = [{window.flat[0] for window in found} for found in (sets.calibration, sets.check)]
    assert len(places[0]) == 32
    assert len(places[1]) == 16
    assert not places[0] & places[1]
    assert (sets.check_scans, sets.others) == (0, True)


def test_a_scan_that_cannot_be_used_leaves_the_spare_windows_of_the_first():
    for shape in ((24, 24, 24), (8, 8, 80)):  # of many windows and of few
        sets = cut([scan(0, shape)], card(), total=2)
        places = [{window.flat[0] for window in found} for found in (sets.calibration, sets.check)]
        assert all(places)
        assert not places[0] & places[1]
        assert (sets.check_scans, sets.others) == (0, True)


def test_a_scan_of_a_single_window_is_compared_on_that_one_and_padded():
    sets = cut([scan(0, (8, 6, 8))], card(padding_value=-7.0), total=1)
    assert not sets.others
    assert len(sets.calibration) == len(sets.check) == 1
    assert (sets.check[0][0, 0, :, [0, -1]] == -7).all()


def test_windows_without_contrast_are_not_drawn(monkeypatch):
    monkeypatch.setattr(windows, "CALIBRATION", 4)
    monkeypatch.setattr(windows, "CHECK", 2)
    half = scan(0, (32, 32, 32))
    half[:, 16:] = 0
    sets = cut([half], card(), total=1)
    assert min(window.std() for window in sets.calibration + sets.check) > 0


def test_large_windows_are_fewer(monkeypatch):
    monkeypatch.setattr(windows, "LARGEST", 48 * 4 * 8**3 // 4)
    sets = cut([scan(0)], card(), total=1)
    assert (len(sets.calibration), len(sets.check)) == (8, 4)


def test_a_network_for_2d_images_sees_slices():
    sets = cut([scan(0)], card((8, 8)), total=1)
    assert {window.shape for window in sets.calibration} == {(1, 1, 8, 8)}


def test_a_whole_image_is_a_window():
    inference = WholeImage(image_size=(6, 7), fit="resize")
    whole = ClassificationCard(preprocessing={}, channel_names=("a",), labels={"x": 0}, inference=inference)
    assert (scans_wanted(whole), scans_wanted(card())) == (48, 8)
    sets = cut([scan(number, (6, 7)) for number in range(3)], whole, total=3)
    assert (len(sets.calibration), len(sets.check)) == (2, 1)


def test_scans_are_prepared_as_for_a_prediction_and_bad_ones_left_out(make_model, write_scan, tmp_path):
    for name in "abc":
        write_scan(tmp_path / "scans" / f"{name}.nii.gz")
    (tmp_path / "scans" / "bad.nii.gz").write_text("no scan")
    file, notes = read_model_file(make_model()), []
    scans = ScanFiles(file=file, inputs=tmp_path / "scans", notify=notes.append)
    found = list(scans)
    assert (scans.total, len(found)) == (4, 3)
    assert {array.shape for array in found} == {(1, 11, 10, 9)}
    assert 0 < max(np.abs(array).max() for array in found) <= 1  # windowed
    assert len(notes) == 1
    assert "bad.nii.gz" in notes[0]
    with pytest.raises(InferenceError, match=r"no scan to calibrate on \(.*bad\.nii\.gz"):
        list(ScanFiles(file=file, inputs=tmp_path / "scans" / "bad.nii.gz", notify=notes.append))


def test_a_training_run_keeps_the_scans_that_were_prepared_in_this_way(make_model, tmp_path, monkeypatch):
    monkeypatch.setenv("RESVOX_PREPARED", "")  # each run keeps its own
    own = read_model_file(make_model())
    file = dataclasses.replace(own, path=tmp_path / "model.safetensors")
    (tmp_path / "plan.yaml").touch()

    def keep(name, facts):
        def write(folder):
            np.save(folder / "image.npy", scan(0))
            return facts

        prepared_entry(tmp_path / "cache" / name, write, arrays=("image.npy",))

    keep("other", {PREPARED_BY: digest_of({**own.card.preprocessing, "orientation": "LPS"})})
    keep("older", {})
    with pytest.raises(InferenceError, match=r"keeps none; fix: --calibrate SCANS"):
        KeptScans(file=file)
    for name in "ab":  # prepared again after its files were copied
        keep(name, {PREPARED_BY: digest_of(own.card.preprocessing), "source": 7})
    kept = KeptScans(file=file)
    assert kept.total == 1
    np.testing.assert_array_equal(next(iter(kept)), scan(0))

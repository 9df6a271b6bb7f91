"""Batches: geometry as another reader sees it, bad inputs, runs again, names that clash."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resvox.volumes import Volume, write_volume
from resvox.workflow import predict


def rotation(angles):
    """A rotation matrix from three angles in radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = [i for i in range(3) if i != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations([0, 1, 2]),
    flips=st.tuples(*[st.sampled_from([1, -1])] * 3),
    angles=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    spacing=st.tuples(*[st.floats(0.7, 4.0)] * 3),
    shape=st.tuples(*[st.integers(3, 13)] * 3),
)
def test_the_label_map_lies_on_the_scan_as_nibabel_sees_both(
    make_model, threshold_engine, write_scan, tmp_path, order, flips, angles, spacing, shape
):
    linear = rotation(angles)[:, order] * np.array(flips) * np.array(spacing)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, (12.5, -40.0, 101.0)
    values = np.random.default_rng(3).integers(-900, 900, shape).astype(np.int16)
    scan = write_scan(tmp_path / "scan.nii.gz", values, affine)
    result = predict(make_model(), scan, tmp_path / "out", overwrite=True)
    assert result.ok, result.cases[0].reason
    made = nibabel.load(tmp_path / "out" / "scan.nii.gz")
    np.testing.assert_allclose(made.affine, nibabel.load(scan).affine, atol=1e-3)
    expected = np.where(values > 250, 7, np.where(values < -250, 3, 0))
    np.testing.assert_array_equal(np.asarray(made.dataobj), expected)
    assert made.get_data_dtype() == np.uint8


@pytest.fixture
def bad_inputs(tmp_path, write_scan):
    """Seven things that are no scans, by what the message must say."""
    folder = tmp_path / "bad"
    whole = write_scan(folder / "whole.nii.gz").read_bytes()
    (folder / "whole.nii.gz").unlink()
    (folder / "truncated.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "text.nii.gz").write_text("this is a letter to my aunt\n")
    write_scan(folder / "time.nii.gz", np.zeros((5, 5, 5, 4), np.int16))
    write_scan(folder / "nan.nii.gz", np.full((5, 5, 5), np.nan, np.float32))
    write_scan(folder / "some_nan.nii.gz", np.where(np.eye(5)[..., None] > 0, np.nan, 0.0) * np.ones(5))
    two = Volume(np.zeros((2, 5, 5, 5), np.float32), spacing_mm=(1.0, 1.0, 1.0))
    write_volume(two, folder / "two_channels.nrrd")
    (folder / "empty").mkdir()
    (folder / "zero.nii.gz").touch()
    hole = Path(pydicom.__file__).parent / "data/test_files/dicomdirtests/77654033/CT2"
    shutil.copytree(hole, folder / "CT2")
    return folder


BAD = {
    "truncated.nii.gz": "truncated|damaged|ends early|cut",
    "text.nii.gz": "not|no ",
    "time.nii.gz": "4-D image|channels",
    "nan.nii.gz": "all of 125 voxels are NaN",
    "some_nan.nii.gz": "NaN or infinite",
    "two_channels.nrrd": "2 channels",
    "empty": "empty|no images",
    "zero.nii.gz": "empty",
    "CT2": "gap of 202.50 mm",
    "nowhere.nii.gz": "no such file",
}


def test_each_bad_input_gets_one_line_and_the_good_ones_are_written(make_model, bad_inputs, write_scan, tmp_path):
    good = [write_scan(tmp_path / f"good{i}.nii.gz") for i in range(2)]
    inputs = [good[0], *(bad_inputs / name for name in BAD), good[1]]
    result = predict(make_model(), inputs, tmp_path / "out")
    assert [case.id for case in result.with_status("written")] == ["good0", "good1"]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.nii.gz")) == ["good0.nii.gz", "good1.nii.gz"]
    failed = {Path(case.reason.partition(": ")[0]).name: case.reason for case in result.with_status("failed")}
    assert set(failed) == set(BAD)
    for name, expected in BAD.items():
        assert "\n" not in failed[name]
        assert re.search(expected, failed[name]), failed[name]
        assert "unexpected" not in failed[name]
    assert str(result) == f"2 written, {len(BAD)} failed"


def test_a_folder_is_searched_and_its_bad_files_are_reported(make_model, bad_inputs, write_scan, tmp_path):
    write_scan(bad_inputs / "good.nii.gz")
    result = predict(make_model(), bad_inputs, tmp_path / "out")
    assert [case.id for case in result.with_status("written")] == ["good"]
    assert len(result.with_status("failed")) == len(BAD) - 1  # all but the one that does not exist


def test_channels_of_a_case_are_one_input(make_model, write_scan, tmp_path):
    for index in range(2):
        write_scan(tmp_path / "in" / f"a_{index:04d}.nii.gz")
    write_scan(tmp_path / "in" / "b_0000.nii.gz")
    result = predict(make_model(channels=2), tmp_path / "in", tmp_path / "out")
    assert [case.id for case in result.with_status("written")] == ["a"]
    (failed,) = result.with_status("failed")
    assert "b_0000.nii.gz" in failed.reason
    assert "expected 2" in failed.reason


def test_a_second_run_does_only_what_is_missing(make_model, write_scan, tmp_path):
    scans = [write_scan(tmp_path / f"{name}.nii.gz") for name in "abc"]
    predict(make_model(), scans, tmp_path / "out")
    before = {name: (tmp_path / "out" / f"{name}.nii.gz").stat().st_mtime_ns for name in "ac"}
    (tmp_path / "out" / "b.nii.gz").unlink()
    again = predict(make_model(), scans, tmp_path / "out")
    assert [case.status for case in again.cases] == ["present", "written", "present"]
    assert str(again) == "1 written, 2 already done"
    assert before == {name: (tmp_path / "out" / f"{name}.nii.gz").stat().st_mtime_ns for name in "ac"}
    once_more = predict(make_model(), scans, tmp_path / "out", overwrite=True)
    assert len(once_more.with_status("written")) == 3


def test_a_kept_map_of_another_model_is_remarked_on(make_model, write_scan, tmp_path):
    scan = write_scan(tmp_path / "a.nii.gz")
    other = Path(shutil.copy(make_model(), tmp_path / "other.safetensors"))
    predict(other, scan, tmp_path / "out")
    (kept,) = predict(make_model(), scan, tmp_path / "out").cases
    assert kept.status == "present"
    assert "another model" in kept.reason
    assert "--overwrite" in kept.reason


def test_a_kept_map_of_another_scan_of_the_same_name_is_an_error(make_model, write_scan, tmp_path):
    first, second = (write_scan(tmp_path / place / "scan.nii.gz") for place in ("one", "two"))
    predict(make_model(), first, tmp_path / "out")
    (failed,) = predict(make_model(), second, tmp_path / "out").cases
    assert failed.status == "failed"
    assert str(first) in failed.reason
    assert failed.reason.startswith(str(second))


def test_two_scans_of_one_name_get_their_folders_names(make_model, write_scan, tmp_path):
    scans = [write_scan(tmp_path / place / "scan.nii.gz") for place in ("one", "two")]
    result = predict(make_model(), scans, tmp_path / "out")
    assert [case.path.name for case in result.cases] == ["one_scan.nii.gz", "two_scan.nii.gz"]


def test_a_scan_is_never_replaced_by_its_label_map(make_model, write_scan, tmp_path):
    scan = write_scan(tmp_path / "scan.nii.gz")
    before = scan.read_bytes()
    (outcome,) = predict(make_model(), scan, tmp_path, overwrite=True).cases
    assert outcome.status == "failed"
    assert "would replace the scan itself" in outcome.reason
    assert scan.read_bytes() == before
    (outcome,) = predict(make_model(), scan, tmp_path, suffix="_labels").cases
    assert outcome.path == tmp_path / "scan_labels.nii.gz"


def test_results_inside_of_the_input_folder_are_no_inputs_of_the_next_run(make_model, write_scan, tmp_path):
    write_scan(tmp_path / "scan.nii.gz")
    for _ in range(2):
        result = predict(make_model(), tmp_path, tmp_path / "out")
        assert [case.id for case in result.cases] == ["scan"]


def test_probabilities_are_written_beside_the_label_map(make_model, write_scan, tmp_path):
    scan = write_scan(tmp_path / "scan.nii.gz")
    predict(make_model(), scan, tmp_path / "out", probabilities=True)
    made = nibabel.load(tmp_path / "out" / "scan_probabilities.nii.gz")
    values = np.asarray(made.dataobj)
    assert values.squeeze(axis=3).shape if values.ndim == 5 else values.shape == (9, 10, 11, 3)
    np.testing.assert_allclose(values.sum(axis=-1), 1, atol=1e-4)


def test_a_picture_gives_a_picture(make_model, tmp_path):
    picture = Volume(np.random.default_rng(0).integers(0, 255, (20, 17), np.uint8), spacing_mm=(1.0, 1.0))
    write_volume(picture, tmp_path / "cell.png")
    result = predict(make_model(spatial_dims=2), tmp_path / "cell.png", tmp_path / "out")
    assert result.ok, result.cases[0].reason
    from resvox.volumes import read_volume

    made = read_volume(tmp_path / "out" / "cell.png")
    assert made.array.shape == (20, 17)
    assert set(np.unique(made.array)) <= {0, 3, 7}


def test_a_case_that_cannot_be_written_is_an_outcome(make_model, write_scan, tmp_path, monkeypatch):
    scans = [write_scan(tmp_path / f"{name}.nii.gz") for name in "ab"]
    import resvox.volumes

    real = resvox.volumes.write_label_map

    def full_disk(volume, path):
        if Path(path).name.startswith("a"):
            raise OSError(28, "No space left on device", str(path))
        return real(volume, path)

    monkeypatch.setattr(resvox.volumes, "write_label_map", full_disk)
    result = predict(make_model(), scans, tmp_path / "out")
    assert [case.status for case in result.cases] == ["failed", "written"]
    assert result.cases[0].reason.endswith("a.nii.gz: No space left on device")


def test_an_unexpected_error_is_named_as_one_and_kept(make_model, write_scan, tmp_path, monkeypatch):
    import resvox.volumes

    def broken(case):
        raise ZeroDivisionError("in a reader\nof two lines")

    monkeypatch.setattr(resvox.volumes, "read_case", broken)
    (outcome,) = predict(make_model(), write_scan(tmp_path / "a.nii.gz"), tmp_path / "out").cases
    assert outcome.reason.endswith("a.nii.gz: unexpected ZeroDivisionError: in a reader of two lines")
    assert isinstance(outcome.error, ZeroDivisionError)


def test_the_log_tells_of_every_case(make_model, write_scan, tmp_path):
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"no"))
    scans = [write_scan(tmp_path / "a.nii.gz"), tmp_path / "text.nii.gz"]
    out = tmp_path / "out"
    out.mkdir()
    (out / "predict.jsonl").write_text('{"a line that a kill cut o\n')
    predict(make_model(), scans, out)
    written, failed = (json.loads(line) for line in (out / "predict.jsonl").read_text().splitlines()[1:])
    assert (written["status"], written["file"]) == ("written", "a.nii.gz")
    assert set(written["seconds"]) == {"read", "preprocess", "network", "restore", "write"}
    assert (failed["status"], failed["case"]) == ("failed", "text")


def test_callbacks_hear_of_cases_and_windows(make_model, write_scan, tmp_path):
    heard = []
    predict(
        make_model(),
        write_scan(tmp_path / "a.nii.gz"),
        tmp_path / "out",
        on_start=lambda cases: heard.append(("start", cases)),
        on_windows=lambda case, done, total: heard.append((case, done == total)),
        on_case=lambda outcome: heard.append(("case", outcome.status)),
    )
    assert heard[0] == ("start", 1)
    assert heard[-2:] == [("a", True), ("case", "written")]

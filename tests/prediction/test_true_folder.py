"""A folder of predictions stays true: each result belongs to its scan, model and options, or that is reported."""

from __future__ import annotations

import json
import os
import shutil
import signal
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction.test_predict_processes import start_python

from resvox.errors import InferenceError, WeightsError
from resvox.locks import Claims
from resvox.prediction.cases import Case, is_same, state_of
from resvox.prediction.results import FileResults, differences
from resvox.volumes import Volume, read_volume, write_volume
from resvox.workflow import predict

__all__ = ["start_python"]
FAST = {"engine": "torch-plain", "device": "cpu"}


def statuses(result):
    return [case.status for case in result.cases]


def other_scan(path, seed=7):
    array = np.random.default_rng(seed).integers(-900, 900, (9, 10, 11)).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 2, 3, 1])), path)
    return path


def lines_of(out):
    return [json.loads(line) for line in (out / "predict.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------------------------ the scan


def test_a_scan_that_was_replaced_under_its_name_is_reported_and_done_with_overwrite(make_model, write_scan, tmp_path):
    scan, out = write_scan(tmp_path / "a.nii.gz"), tmp_path / "out"
    predict(make_model(), scan, out, **FAST)
    before = (out / "a.nii.gz").read_bytes()
    other_scan(scan)
    result = predict(make_model(), scan, out, **FAST)
    assert statuses(result) == ["failed"]
    assert not result.ok
    assert result.cases[0].reason.startswith(str(scan))
    assert "before it changed" in result.cases[0].reason
    assert "--overwrite" in result.cases[0].reason
    assert (out / "a.nii.gz").read_bytes() == before
    assert statuses(predict(make_model(), scan, out, overwrite=True, **FAST)) == ["written"]
    assert statuses(predict(make_model(), scan, out, **FAST)) == ["present"]


def test_a_scan_that_was_copied_or_touched_is_the_same(make_model, write_scan, tmp_path):
    scan, out = write_scan(tmp_path / "a.nii.gz"), tmp_path / "out"
    predict(make_model(), scan, out, **FAST)
    os.utime(scan, (1, 1))
    (kept,) = predict(make_model(), scan, out, **FAST).cases
    assert (kept.status, kept.reason) == ("present", "")


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 3_000_000), place=st.floats(0, 1, exclude_max=True))
def test_a_change_of_one_byte_is_seen_wherever_it_is(tmp_path_factory, size, place):
    path = tmp_path_factory.mktemp("state") / "scan.nii"
    data = bytearray(size)
    path.write_bytes(data)
    known = json.loads(json.dumps(state_of([path])))
    assert is_same([path], known)
    os.utime(path, (1, 1))
    assert is_same([path], known)
    data[int(place * size)] = 1
    path.write_bytes(data)
    os.utime(path, (2, 2))
    assert not is_same([path], known)


def test_a_folder_of_slices_with_one_more_is_another_scan(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.dcm").write_bytes(bytes([number]) * 50)
    known = state_of([tmp_path])
    assert is_same([tmp_path], known)
    (tmp_path / "3.dcm").write_bytes(b"3" * 50)
    assert not is_same([tmp_path], known)
    (tmp_path / "3.dcm").unlink()
    (tmp_path / "1.dcm").write_bytes(b"x" * 50)
    assert not is_same([tmp_path], known)
    assert not is_same([tmp_path / "gone"], known)


# ------------------------------------------------------------------------------------- the model and the options


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"mirror": True}, "mirror_axes [] instead of [0, 1]"),
        ({"overlap": 0.75}, "overlap 0.25 instead of 0.75"),
        ({"resample": "labels"}, "resample logits instead of labels"),
        ({"skip_empty": True}, "skip_empty False instead of True"),
    ],
)
def test_a_kept_map_of_other_options_is_remarked_on(make_model, write_scan, tmp_path, changed, words):
    scan, out = write_scan(tmp_path / "a.nii.gz"), tmp_path / "out"
    predict(make_model(), scan, out, **FAST)
    (kept,) = predict(make_model(), scan, out, **FAST, **changed).cases
    assert kept.status == "present"
    assert kept.reason == f"kept, though made with other options ({words}); --overwrite does it again"
    assert statuses(predict(make_model(), scan, out, overwrite=True, **FAST, **changed)) == ["written"]
    assert predict(make_model(), scan, out, **FAST, **changed).cases[0].reason == ""


def test_a_model_that_was_averaged_with_is_remarked_on(make_model, write_scan, tmp_path):
    scan, out = write_scan(tmp_path / "a.nii.gz"), tmp_path / "out"
    other = Path(shutil.copy(make_model(), tmp_path / "other.safetensors"))
    predict([make_model(), other], scan, out, **FAST)
    assert predict([make_model(), other], scan, out, **FAST).cases[0].reason == ""
    (kept,) = predict(make_model(), scan, out, **FAST).cases
    assert "other models beside the first" in kept.reason


def test_probabilities_that_are_asked_for_later_are_made(make_model, write_scan, tmp_path):
    scan, out = write_scan(tmp_path / "a.nii.gz"), tmp_path / "out"
    predict(make_model(), scan, out, **FAST)
    before = read_volume(out / "a.nii.gz").array
    result = predict(make_model(), scan, out, probabilities=True, **FAST)
    assert statuses(result) == ["written"]
    assert (out / "a_probabilities.nii.gz").is_file()
    np.testing.assert_array_equal(read_volume(out / "a.nii.gz").array, before)
    assert statuses(predict(make_model(), scan, out, probabilities=True, **FAST)) == ["present"]
    assert statuses(predict(make_model(), scan, out, **FAST)) == ["present"]


def test_probabilities_are_not_put_beside_the_map_of_another_model(make_model, write_scan, tmp_path):
    scan, out = write_scan(tmp_path / "a.nii.gz"), tmp_path / "out"
    other = Path(shutil.copy(make_model(), tmp_path / "other.safetensors"))
    predict(other, scan, out, **FAST)
    before = (out / "a.nii.gz").read_bytes()
    (failed,) = predict(make_model(), scan, out, probabilities=True, **FAST).cases
    assert failed.status == "failed"
    assert "no a_probabilities.nii.gz beside a.nii.gz" in failed.reason
    assert (out / "a.nii.gz").read_bytes() == before


def test_a_folder_of_folds_of_which_one_is_not_finished_is_refused(make_model, write_scan, tmp_path):
    for fold in (0, 1):
        (tmp_path / "runs" / f"fold_{fold}" / "checkpoints").mkdir(parents=True)
    shutil.copy(make_model(), tmp_path / "runs" / "fold_0" / "model.safetensors")
    scan = write_scan(tmp_path / "a.nii.gz")
    with pytest.raises(WeightsError, match=r"fold_1 has no model.safetensors yet.*--resume.*fold_0 --also"):
        predict(tmp_path / "runs", scan, tmp_path / "out", **FAST)
    (tmp_path / "runs" / "notes").mkdir()  # not a run
    shutil.copy(make_model(), tmp_path / "runs" / "fold_1" / "model.safetensors")
    assert predict(tmp_path / "runs", scan, tmp_path / "out", **FAST).ok


# ------------------------------------------------------------------------------------------------ the log

# The label map is there and its line is not: killed between the two.
KILLED_BEFORE_THE_LINE = """
    import sys, time
    from resvox.prediction.log import RunLog
    from resvox.workflow import predict

    def add(self, outcomes):
        print("about to log", flush=True)
        time.sleep(600)

    RunLog.add = add
    predict(sys.argv[1], sys.argv[3:], sys.argv[2], engine="torch-plain", device="cpu")
"""


def test_a_line_that_a_kill_cut_off_is_completed_by_the_next_run(start_python, make_model, write_scan, tmp_path):
    out, scan = tmp_path / "out", write_scan(tmp_path / "one" / "a.nii.gz")
    process = start_python(KILLED_BEFORE_THE_LINE, make_model(), out, scan)
    assert process.stdout.readline().startswith("about to log")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (out / "a.nii.gz").is_file()
    assert not (out / "predict.jsonl").exists()
    other = other_scan(tmp_path / "two" / "a.nii.gz")
    (failed,) = predict(make_model(), other, out, **FAST).cases  # even before the first scan's own run
    assert failed.status == "failed"
    assert str(scan) in failed.reason
    again = predict(make_model(), scan, out, **FAST)
    assert statuses(again) == ["present"]
    assert again.cases[0].reason == ""
    written = [line for line in lines_of(out) if line["status"] == "written"]
    assert [(line["case"], line["file"], line["inputs"]) for line in written] == [("a", "a.nii.gz", [str(scan)])]
    assert not (out / ".claims").exists()


def test_a_map_of_which_nothing_is_known_is_remarked_on(make_model, write_scan, tmp_path):
    scan, out = write_scan(tmp_path / "a.nii.gz"), tmp_path / "out"
    predict(make_model(), scan, out, **FAST)
    (out / "predict.jsonl").unlink()
    (kept,) = predict(make_model(), scan, out, **FAST).cases
    assert kept.status == "present"
    assert "predict.jsonl does not say what it was made from" in kept.reason


def test_each_line_is_there_when_its_case_is_reported(make_model, write_scan, tmp_path):
    scans, out = [write_scan(tmp_path / f"{name}.nii.gz") for name in "abc"], tmp_path / "out"
    scans.insert(1, tmp_path / "gone.nii.gz")
    seen = []

    def look(outcome):
        seen.append(outcome.id)
        assert [line["case"] for line in lines_of(out)][: len(seen)] == seen

    predict(make_model(), scans, out, on_case=look, **FAST)
    assert seen == ["a", "gone", "b", "c"]
    assert [line["case"] for line in lines_of(out)] == seen


def test_a_full_disk_costs_the_line_and_not_the_map(make_model, write_scan, tmp_path, monkeypatch):
    def full(self, lines):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resvox.prediction.log.RunLog._append", full)
    assert predict(make_model(), write_scan(tmp_path / "a.nii.gz"), tmp_path / "out", **FAST).ok


# ------------------------------------------------------------------------------------------------ names and folders


@pytest.mark.parametrize(("names", "ending"), [(("a", "b"), ".nrrd"), (("a_0000", "b_0000"), ".nii.gz")])
def test_predicting_into_the_folder_of_the_scans_twice_does_nothing_new(make_model, tmp_path, names, ending):
    folder = tmp_path / "scans"
    for name in names:
        array = np.random.default_rng(0).integers(-900, 900, (9, 10, 11)).astype(np.int16)
        write_volume(Volume(array, spacing_mm=(3.0, 2.0, 2.0)), folder / f"{name}{ending}")
    first = predict(make_model(), folder, folder, probabilities=True, **FAST)
    assert statuses(first) == ["written"] * 2
    there = sorted(path.name for path in folder.iterdir())
    notes = []
    again = predict(make_model(), folder, folder, probabilities=True, on_note=notes.append, **FAST)
    assert statuses(again) == ["present"] * 2
    assert sorted(path.name for path in folder.iterdir()) == there
    assert notes == [f"4 files in {folder} that an earlier run wrote there left out, such as a.nii.gz"]
    named = predict(make_model(), sorted(folder.glob(f"*{ending}")), folder, on_note=notes.append, **FAST)  # by a shell
    assert statuses(named) == ["present"] * 2


def test_a_folder_of_predictions_can_be_an_input_of_another_run(make_model, write_scan, tmp_path):
    predict(make_model(), write_scan(tmp_path / "a.nii.gz"), tmp_path / "out", **FAST)
    result = predict(make_model(), tmp_path / "out", tmp_path / "second", **FAST)
    assert [case.id for case in result.cases] == ["a"]
    assert result.ok


def test_names_of_nested_scans_stay_when_a_subject_is_added(make_model, write_scan, tmp_path):
    out = tmp_path / "out"
    write_scan(tmp_path / "n" / "sub1" / "ct" / "image.nii.gz")
    assert [case.id for case in predict(make_model(), tmp_path / "n", out, **FAST).cases] == ["image"]
    other_scan(tmp_path / "n" / "sub0" / "ct" / "image.nii.gz")
    result = predict(make_model(), tmp_path / "n", out, **FAST)
    assert [(case.id, case.status) for case in result.cases] == [("sub0_ct_image", "written"), ("image", "present")]
    other_scan(tmp_path / "n" / "sub2" / "ct" / "image.nii.gz", seed=8)
    result = predict(make_model(), tmp_path / "n", out, **FAST)
    assert [(case.id, case.status) for case in result.cases] == [
        ("sub0_ct_image", "present"), ("image", "present"), ("sub2_ct_image", "written")
    ]  # fmt: skip


def test_two_results_of_one_file_name_are_one_result_and_one_error(make_model, write_scan, tmp_path):
    scans = [write_scan(tmp_path / f"{name}.nii.gz") for name in ("a", "a_probabilities", "b")]
    result = predict(make_model(), scans, tmp_path / "out", probabilities=True, **FAST)
    assert statuses(result) == ["written", "failed", "written"]
    assert "a_probabilities.nii.gz is also that of case 'a'" in result.cases[1].reason
    assert not result.ok
    values = read_volume(tmp_path / "out" / "a_probabilities.nii.gz", channels=3).array
    np.testing.assert_allclose(values.sum(axis=0), 1, atol=1e-4)


def test_another_scan_is_not_replaced_either(make_model, write_scan, tmp_path):
    scans = [write_scan(tmp_path / f"{name}.nii.gz") for name in ("a", "a_seg")]
    before = scans[1].read_bytes()
    result = predict(make_model(), scans, tmp_path, suffix="_seg", overwrite=True, **FAST)
    assert statuses(result) == ["failed", "written"]
    assert "would replace another scan" in result.cases[0].reason
    assert scans[1].read_bytes() == before


def test_two_links_to_one_scan_are_two_results(make_model, write_scan, tmp_path):
    scan = write_scan(tmp_path / "in" / "a.nii.gz")
    (tmp_path / "in" / "b.nii.gz").symlink_to(scan)
    result = predict(make_model(), tmp_path / "in", tmp_path / "out", **FAST)
    assert [(case.id, case.status) for case in result.cases] == [("a", "written"), ("b", "written")]


# ------------------------------------------------------------------------------------------------ wrong calls


@pytest.mark.parametrize("name", ["seg.nii.gz", "SEG.NII", "seg.png", "seg.nrrd", "predictions.csv", "out.zip"])
def test_an_output_that_is_a_file_by_its_name_is_refused(make_model, write_scan, tmp_path, name):
    scan = write_scan(tmp_path / "a.nii.gz")
    with pytest.raises(InferenceError, match=r"which is a file by its name; expected a folder.*fix: -o "):
        predict(make_model(), scan, tmp_path / name, **FAST)
    assert not (tmp_path / name).exists()


def test_an_output_that_is_a_file_is_refused_and_a_folder_of_such_a_name_is_not(make_model, write_scan, tmp_path):
    scan = write_scan(tmp_path / "a.nii.gz")
    (tmp_path / "taken").write_text("")
    with pytest.raises(InferenceError, match="which is a file; expected a folder"):
        predict(make_model(), scan, tmp_path / "taken", **FAST)
    (tmp_path / "v1.nii.gz").mkdir()
    assert predict(make_model(), scan, tmp_path / "v1.nii.gz", **FAST).ok


@pytest.mark.parametrize("kind", ["a scan", "a folder of scans"])
def test_a_model_and_scans_that_are_swapped_are_told_so(make_model, write_scan, tmp_path, kind):
    scan = write_scan(tmp_path / "scans" / "a.nii.gz")
    model = scan if kind == "a scan" else scan.parent
    with pytest.raises(WeightsError) as caught:
        predict(model, make_model(), tmp_path / "out", **FAST)
    assert str(caught.value).startswith(f"{model}: not a model, but {make_model()} among the inputs is one")
    assert f"fix: resvox predict {make_model()} {model}" in str(caught.value)


def test_a_scan_left_to_a_dead_container_is_done_once_its_claim_is_old(make_model, write_scan, tmp_path, monkeypatch):
    scans = [write_scan(tmp_path / f"{name}.nii.gz") for name in "ab"]
    claim = tmp_path / "out" / ".claims" / "a.nii.gz.lock"
    claim.parent.mkdir(parents=True)
    claim.write_text(json.dumps({"token": "1", "pid": 5, "host": "othernode|pid:[1]", "born": "1"}))
    monkeypatch.setattr(Claims.__init__, "__kwdefaults__", {**Claims.__init__.__kwdefaults__, "stale_seconds": 2.0})
    result = predict(make_model(), scans, tmp_path / "out", **FAST)
    assert statuses(result) == ["written", "written"]
    assert result.ok


def line_with(**settings):
    return {"options": {"overlap": 0.5, **settings}}


@pytest.mark.parametrize(
    ("settings", "usual"),
    [
        ({"postprocess": True}, False),
        ({"exact": True}, False),
        ({"orientation": "SPL"}, None),
        ({"calibrated": True}, False),
    ],
)
def test_an_option_that_is_switched_on_or_off_is_noticed_in_lines_that_have_it_or_not(settings, usual):
    ((name, value),) = settings.items()
    assert (
        differences(line_with(), line_with(**settings))
        == f"made with other options ({name} {usual} instead of {value})"
    )
    assert (
        differences(line_with(**settings), line_with())
        == f"made with other options ({name} {value} instead of {usual})"
    )
    assert differences(line_with(**settings), line_with(**settings)) == ""
    assert differences(line_with(**{name: usual}), line_with()) == ""
    assert differences({}, line_with(**settings)) == ""


def test_a_calibration_counts_only_for_probabilities_that_are_there(write_scan, tmp_path):
    scan, out = write_scan(tmp_path / "a.nii.gz"), tmp_path / "out"
    out.mkdir()
    (out / "a.nii.gz").write_bytes(b"")
    case = Case(id="a", inputs=(str(scan),), files=(scan,), item=None)
    line = {"inputs": [str(scan)], "file": "a.nii.gz", **line_with()}
    log = SimpleNamespace(folder=out, by_file={"a.nii.gz": line}, about=line_with(calibrated=True))
    names = ("a_probabilities.nii.gz", "a.nii.gz")
    with Claims(out) as locks:
        results = FileResults(log, locks, [case], lambda case: names, since=0.0, what="label map")
        assert results.outcome(case) is None  # predicted again, with both files
        (out / names[0]).write_bytes(b"")
        assert "calibrated False instead of True" in results.outcome(case).reason


def test_a_zip_is_the_same_model_each_time_it_is_unpacked(tmp_path):
    from resvox.prediction.log import describe_model
    from resvox.prediction.nnunet import files
    from resvox.weights.bundle import folder

    members = {
        files._unpacked: ("M/T__P__3d/fold_0/checkpoint_final.pth", "M/T__P__3d/plans.json"),
        folder._unpacked: ("b/models/model.pt", "b/configs/metadata.json"),
    }
    for unpacked, names in members.items():
        path = tmp_path / f"{names[0][0]}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "{}")
        state, found = path.stat(), []
        further = ("checkpoint_final.pth",) if unpacked is files._unpacked else ()
        for _ in range(2):
            inside = unpacked(path.resolve(), state.st_size, state.st_mtime_ns, *further)
            (file,) = inside.rglob(Path(names[0]).name)
            found.append(describe_model(file))
            os.utime(file, (5, 5))
            unpacked.cache_clear()
        assert found[0] == found[1]
        assert found[0] == {**describe_model(path), "member": names[0]}

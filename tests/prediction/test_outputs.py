"""What `predict` writes beside or instead of NIfTI: DICOM objects, 3D Slicer's format, sidecars, the report."""

from __future__ import annotations

import json

import numpy as np
import pydicom
import pytest
from delivery.series import write_series
from typer.testing import CliRunner

from resvox import workflow
from resvox.cli import app
from resvox.datasets.dicom_labels import read_dicom_labels
from resvox.errors import InferenceError
from resvox.prediction.options import PredictOptions
from resvox.volumes import read_volume

VALUES = {"dark": 3, "bright": 7}


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "series")


def predicted(out, name="series.nii.gz"):
    return read_volume(out / name)


@pytest.mark.parametrize("kind", ["seg", "labelmap", "rtstruct"])
def test_a_dicom_object_stands_beside_the_label_map(tmp_path, make_model, threshold_engine, series, kind):
    result = workflow.predict(make_model(), series, tmp_path / "out", dicom=kind)
    assert result.ok, [case.reason for case in result.cases]
    label_map = predicted(tmp_path / "out")
    assert set(np.unique(label_map.array)) == {0, 3, 7}
    read = read_dicom_labels(tmp_path / f"out/series_{kind}.dcm", label_map.grid, values=VALUES)
    np.testing.assert_array_equal(read.volume.array, label_map.array)


def test_a_rerun_does_what_is_missing_and_the_same_identifiers(tmp_path, make_model, threshold_engine, series):
    out = tmp_path / "out"
    workflow.predict(make_model(), series, out)
    again = workflow.predict(make_model(), series, out, dicom="seg")
    assert [case.status for case in again.cases] == ["written"]
    first = pydicom.dcmread(out / "series_seg.dcm").SOPInstanceUID
    assert [case.status for case in workflow.predict(make_model(), series, out, dicom="seg").cases] == ["present"]
    workflow.predict(make_model(), series, out, dicom="seg", overwrite=True)
    assert pydicom.dcmread(out / "series_seg.dcm").SOPInstanceUID == first


def test_the_dicom_object_alone(tmp_path, make_model, threshold_engine, series):
    result = workflow.predict(make_model(), series, tmp_path / "out", dicom="seg", format="none")
    assert [case.path.name for case in result.cases] == ["series_seg.dcm"]
    assert not (tmp_path / "out/series.nii.gz").exists()
    assert [
        c.status for c in workflow.predict(make_model(), series, tmp_path / "out", dicom="seg", format="none").cases
    ] == ["present"]


def test_a_scan_that_is_not_dicom_is_one_line_and_the_others_are_done(
    tmp_path, make_model, threshold_engine, series, write_scan
):
    nifti = write_scan(tmp_path / "a.nii.gz")
    result = workflow.predict(make_model(), [nifti, series], tmp_path / "out", dicom="seg")
    assert [case.status for case in result.cases] == ["failed", "written"]
    assert "a.nii.gz: a DICOM result for a scan that is not DICOM" in result.cases[0].reason
    assert not (tmp_path / "out/a.nii.gz").exists()


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "seg.nrrd", "nrrd", "mha"])
def test_every_format_holds_the_same_label_map_and_the_sidecar_its_names(
    tmp_path, make_model, threshold_engine, write_scan, ending
):
    scan = write_scan(tmp_path / "a.nii.gz")
    workflow.predict(make_model(), scan, tmp_path / "plain")
    workflow.predict(make_model(), scan, tmp_path / "out", format=ending, sidecar=True)
    expected, found = predicted(tmp_path / "plain", "a.nii.gz"), predicted(tmp_path / "out", f"a.{ending}")
    np.testing.assert_array_equal(found.array, expected.array)
    assert found.grid.matches(expected.grid, tolerance=1e-4)
    described = json.loads((tmp_path / "out/a.json").read_text())
    assert described["labels"] == {"background": 0, **VALUES}
    assert described["colours"]["bright"] == "#123456"
    voxels = (expected.array == 7).sum()
    assert described["volumes_ml"]["bright"] == pytest.approx(voxels * np.prod(expected.spacing_mm) / 1000, rel=1e-5)


def test_the_report_has_a_page_for_every_case(tmp_path, make_model, threshold_engine, write_scan):
    scans = [write_scan(tmp_path / f"scans/{name}.nii.gz") for name in "ab"]
    (tmp_path / "scans/broken.nii.gz").write_bytes(b"no scan")
    result = workflow.predict(make_model(), tmp_path / "scans", tmp_path / "out", report=True)
    assert not result.ok
    assert len(scans) == len(result.with_status("written")) == 2
    report = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "2 written, 1 failed" in report
    for name in "ab":
        assert f'href="views/{name}.html"' in report
        page = (tmp_path / f"out/views/{name}.html").read_text(encoding="utf-8")
        assert '"name": "bright"' in page
    # Label maps that were there before are shown, too.
    workflow.predict(make_model(), tmp_path / "scans", tmp_path / "out", report=True)
    assert 'href="views/a.html"' in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(InferenceError, match="format='none'"):
        PredictOptions(model="m", format="none")
    with pytest.raises(InferenceError, match="format='jpeg'"):
        PredictOptions(model="m", format="jpeg")
    with pytest.raises(InferenceError, match="a report without label maps"):
        PredictOptions(model="m", format="none", dicom="seg", report=True)
    with pytest.raises(InferenceError, match="dicom='sr'"):
        PredictOptions(model="m", dicom="sr")


def test_the_command_line_takes_them(tmp_path, make_model, threshold_engine, series):
    words = ["predict", str(make_model()), str(series), "-o", str(tmp_path / "out"), "--dicom", "rtstruct", "--sidecar"]
    done = CliRunner().invoke(app, [*words, "--format", "seg.nrrd", "--report"])
    assert done.exit_code == 0, done.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"series.seg.nrrd", "series_rtstruct.dcm", "series.json", "report.html", "views"} <= names

"""Label maps with names: 3D Slicer's format, the sidecar, and conversion between all formats."""

from __future__ import annotations

import json

import nrrd
import numpy as np
import pytest
import slicerio
from delivery.series import NAMES
from typer.testing import CliRunner

from resvox import workflow
from resvox.cli import app
from resvox.delivery.label_files import write_seg_nrrd, write_sidecar
from resvox.errors import ResvoxError
from resvox.volumes import read_volume, write_label_map


def test_slicer_reads_names_colours_and_the_grid(tmp_path, case):
    _, label_map, labels = case
    path = write_seg_nrrd(label_map, labels, tmp_path / "x.seg.nrrd")
    segments = slicerio.read_segmentation(str(path))["segments"]
    assert [(each["name"], each["labelValue"]) for each in segments] == [
        ("liver", 2),
        ("left kidney", 5),
        ("spleen", 9),
    ]
    assert segments[0]["terminology"]["type"] == ["SCT", "10200004", "Liver"]
    np.testing.assert_allclose(segments[0]["color"], [0x56 / 255, 0xB4 / 255, 0xE9 / 255], atol=1e-5)
    _, header = nrrd.read(str(path))
    assert header["Segment0_Extent"] == "3 13 4 14 1 4"
    assert header["Segment2_Extent"] == "0 -1 0 -1 0 -1"
    back = read_volume(path)
    np.testing.assert_array_equal(back.array, label_map.array)
    assert back.grid.matches(label_map.grid, tolerance=1e-6)
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_the_sidecar_holds_names_codes_and_millilitres(tmp_path, case):
    _, label_map, labels = case
    described = json.loads(write_sidecar(label_map, labels, tmp_path / "x.json").read_text())
    assert described["labels"] == NAMES
    assert described["volumes_ml"]["liver"] == pytest.approx((label_map.array == 2).sum() * 3.0 * 0.8 * 1.1 / 1000)
    assert described["volumes_ml"]["spleen"] == 0
    assert described["codes"]["left kidney"]["side"] == "left"


@pytest.mark.parametrize("through", ["seg", "labelmap", "rtstruct", ".seg.nrrd", ".nrrd", ".mha"])
def test_there_and_back_through_every_format(tmp_path, case, through):
    source, label_map, _ = case
    series = source.files[0].parent
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": NAMES}))
    write_label_map(label_map, tmp_path / "first.nii.gz")
    is_dicom = not through.startswith(".")
    middle = tmp_path / ("middle.dcm" if is_dicom else f"middle{through}")
    made = workflow.convert_labels(
        tmp_path / "first.nii.gz", middle, to=through if is_dicom else None, scan=series if is_dicom else None
    )
    assert list(made.labels) == ["liver", "left kidney", "spleen"]
    scan = series if through == "rtstruct" else None
    back = workflow.convert_labels(middle, tmp_path / "last.nii.gz", scan=scan if is_dicom else None)
    last = read_volume(back.path)
    values = np.array([0, *[back.labels[name] for name in back.labels]])
    same = {value: number for number, value in enumerate(values)}
    expected = np.vectorize({0: 0, 2: 1, 5: 2, 9: 3}.get)(label_map.array)
    moved = last if last.grid.matches(label_map.grid) else workflow_on(last, label_map)
    np.testing.assert_array_equal(np.vectorize(same.get)(moved.array), expected)


def workflow_on(volume, like):
    """A SEG read without its scan holds the frames that are not empty; the rest of the scan is background."""
    from resvox.volumes import resample

    return resample(volume, like.grid, interpolation="nearest")


def test_the_command_line_and_its_errors(tmp_path, case):
    source, label_map, _ = case
    write_label_map(label_map, tmp_path / "a.nii.gz")
    runner = CliRunner()
    series = str(source.files[0].parent)
    done = runner.invoke(
        app, ["convert-labels", str(tmp_path / "a.nii.gz"), "-o", str(tmp_path / "a.dcm"), "--scan", series]
    )
    assert done.exit_code == 0, done.output
    assert "(binary, 2 labels)" in done.output
    again = runner.invoke(
        app, ["convert-labels", str(tmp_path / "a.nii.gz"), "-o", str(tmp_path / "a.dcm"), "--scan", series]
    )
    assert again.exit_code == 1
    assert "a file of this name exists" in again.output
    with pytest.raises(ResvoxError, match=r"a\.nii\.gz: a DICOM result without its series"):
        workflow.convert_labels(tmp_path / "a.nii.gz", tmp_path / "b.dcm")
    with pytest.raises(ResvoxError, match="to='seg' with the ending"):
        workflow.convert_labels(tmp_path / "a.nii.gz", tmp_path / "b.nrrd", to="seg")
    workflow.convert_labels(tmp_path / "a.nii.gz", tmp_path / "rt.dcm", to="rtstruct", scan=series)
    with pytest.raises(ResvoxError, match="an RTSTRUCT without its scan"):
        workflow.convert_labels(tmp_path / "rt.dcm", tmp_path / "c.nii.gz")

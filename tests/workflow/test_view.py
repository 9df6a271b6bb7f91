"""`resvox.workflow.view`: files in, a page out, label names found where they lie."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from viewer.scenes import ball, page_data

from resvox import workflow
from resvox.errors import ResvoxError
from resvox.viewer import view
from resvox.volumes import Volume, write_label_map, write_volume


@pytest.fixture
def folder(tmp_path):
    scan, label = ball(value=5)
    write_volume(scan, tmp_path / "scan.nii.gz")
    (tmp_path / "out").mkdir()
    write_label_map(label, tmp_path / "out" / "scan.nii.gz")
    return tmp_path


def names(path):
    return [label["name"] for label in page_data(path.read_text(encoding="utf-8"))["layers"][0]["labels"]]


def test_names_come_from_what_lies_beside_the_label_map(folder):
    def shown(**options):
        return names(
            workflow.view(folder / "scan.nii.gz", folder / "out/scan.nii.gz", folder / "p.html", **options).path
        )

    assert shown() == ["label 5"]
    (folder / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "5": "box"}}))
    assert shown() == ["box"]
    (folder / "out/scan.json").write_text(json.dumps({"labels": {"sidecar": 5}, "colours": {"sidecar": "#102030"}}))
    assert shown() == ["sidecar"]
    assert shown(names={"given": 5}) == ["given"]
    assert shown(names=folder / "dataset.json") == ["box"]


def test_names_come_from_the_model_that_predicted(folder, make_model):
    line = {"file": "scan.nii.gz", "status": "written", "model": {"path": str(make_model())}}
    (folder / "out/predict.jsonl").write_text(json.dumps(line) + "\n{cut off")
    page = workflow.view(folder / "scan.nii.gz", folder / "out/scan.nii.gz", folder / "p.html").path
    assert names(page) == ["dark", "bright", "label 5"]


def test_one_file_per_structure_is_one_label_map(folder):
    for name, place in (("liver", 1), ("spleen", 9)):
        array = np.zeros((12, 16, 20), np.uint8)
        array[place] = 1
        write_label_map(Volume(array, spacing_mm=(3.0, 2.0, 1.0)), folder / f"{name}.nii.gz")
    page = workflow.view(folder / "scan.nii.gz", [folder / "liver.nii.gz", folder / "spleen.nii.gz"], folder).path
    assert page == folder / "scan.html"
    assert names(page) == ["liver", "spleen"]


def test_a_reference_adds_the_comparison(folder):
    page = workflow.view(
        folder / "scan.nii.gz", folder / "out/scan.nii.gz", folder / "p.html", reference=folder / "out/scan.nii.gz"
    ).path
    roles = [layer["role"] for layer in page_data(page.read_text(encoding="utf-8"))["layers"]]
    assert roles == ["prediction", "reference", "disagreement"]


def test_broken_names_and_missing_files_are_one_line(folder):
    (folder / "names.json").write_text("{")
    with pytest.raises(ResvoxError, match=r"names\.json: no labels in it"):
        workflow.view(
            folder / "scan.nii.gz", folder / "out/scan.nii.gz", folder / "p.html", names=folder / "names.json"
        )
    with pytest.raises(ResvoxError, match=r"nothing\.nii\.gz"):
        workflow.view(folder / "nothing.nii.gz", out=folder / "p.html")
    assert not (folder / "p.html").exists()


def test_pictures_of_labels_are_read_as_labels(tmp_path):
    write_volume(Volume(np.zeros((8, 9), np.uint8), spacing_mm=(1.0, 1.0)), tmp_path / "scan.png")
    labels = np.zeros((8, 9), np.uint8)
    labels[2:4] = 1
    Image.fromarray(labels * 255).convert("1").save(tmp_path / "one_bit.png")
    coloured = Image.fromarray(labels, mode="P")
    coloured.putpalette([0, 0, 0, 255, 0, 0])
    coloured.save(tmp_path / "palette.png")
    for name in ("one_bit.png", "palette.png"):
        assert names(workflow.view(tmp_path / "scan.png", tmp_path / name, tmp_path / "p.html").path) == ["label 1"]
        view(tmp_path / "scan.png", tmp_path / name).save(tmp_path / "q.html")
        assert names(tmp_path / "q.html") == ["label 1"]

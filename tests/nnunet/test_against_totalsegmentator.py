"""Tasks of TotalSegmentator beside its own program, and our table beside its own: `make test-nnunet`."""

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nnunet.total_cases import RUNS

from resvox.prediction.options import PredictOptions
from resvox.prediction.totalsegmentator.choices import TotalChoices
from resvox.prediction.totalsegmentator.predictor import TotalSegmenter
from resvox.prediction.totalsegmentator.table import task_names, task_of
from resvox.volumes import read_volume

pytestmark = pytest.mark.nnunet
TOYS = Path(os.environ.get("RESVOX_NNUNET_TOYS", "nnunet-toys")) / "total"


def differing(run, scan, *, folder="labels", **options):
    """Voxels with another label than TotalSegmentator's."""
    total = TotalChoices(
        weights_folder=TOYS / "results", run=run.run, roi_subset=run.subset, resampling_order=run.order
    )
    segmenter = TotalSegmenter(PredictOptions(model=run.task, total=total, **options))
    made = segmenter.segment(read_volume(TOYS / "scans" / f"{scan}.nii.gz")).label_map.array.T
    wanted = np.asanyarray(nibabel.load(TOYS / folder / run.name / f"{scan}.nii.gz").dataobj)
    assert made.shape == wanted.shape
    return int(np.count_nonzero(made != wanted))


SCANS = [pytest.param(run, scan, id=f"{run.name}-{scan}") for run in RUNS for scan in run.scans]


@pytest.mark.parametrize(("run", "scan"), SCANS)
def test_exact_label_maps_are_those_of_totalsegmentator(run, scan):
    assert differing(run, scan, exact=True) == 0


@pytest.mark.parametrize(("run", "scan"), SCANS)
def test_default_label_maps_are_those_of_totalsegmentator_with_sums_in_float32(run, scan):
    """So where they differ from its own, nnU-Net's two float16 arrays decide and nothing else."""
    assert differing(run, scan, folder="labels32", engine="torch-plain", precision="float32") == 0


def test_most_runs_find_something():
    found = [
        np.unique(np.asanyarray(nibabel.load(TOYS / "labels" / run.name / f"{scan}.nii.gz").dataobj))
        for run in RUNS
        for scan in run.scans
    ]
    assert sum(len(each) > 1 for each in found) >= len(found) - 1


def test_the_table_is_that_of_totalsegmentator():
    tables = json.loads((TOYS / "tables.json").read_text())
    for name in task_names():
        task, config = task_of(name), tables["configs"][name]
        assert {str(value): label for label, value in task.labels.items()} == tables["labels"][name]
        assert name not in tables["licensed"]
        for mode, run in task.runs.items():
            wanted = config.get("sub_modes", {"default": config})[mode]
            numbers = wanted["task_id"] if isinstance(wanted["task_id"], list) else [wanted["task_id"]]
            assert [each.dataset for each in run.models] == [tables["folders"][str(number)] for number in numbers]
            folder = f"{wanted['trainer']}__nnUNetPlans__{wanted.get('model', '3d_fullres')}"
            assert {each.folder for each in run.models} == {folder}
            for number, model in zip(numbers, run.models, strict=True):
                labels = tables["parts"].get(str(number)) if len(numbers) > 1 else tables["labels"][name]
                assert {str(place + 1): label for place, label in enumerate(model.labels)} == labels
            spacing = wanted.get("resample")
            assert run.spacing_mm == (tuple(spacing) if isinstance(spacing, list) else spacing and (spacing,) * 3)
            assert (run.folds is None) == ("folds" in wanted and wanted["folds"] is None)
            assert (run.crop is None) == (wanted.get("crop") is None)
            if run.crop is not None:
                assert list(run.crop.labels) == wanted["crop"]
                assert (run.crop.task == wanted["crop_model"]) if "crop_model" in wanted else True

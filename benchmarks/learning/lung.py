"""resvox, nnU-Net and MONAI on the lung tumours of four patients, each held out once, at equal time.

    pip download --no-deps pycerr==2.5.1
    python benchmarks/learning/lung.py WORK --packed pycerr*.whl --budget 900
    python benchmarks/learning/lung.py WORK --packed pycerr*.whl --budget 900 --report learned.md

Four CT series (DICOM) with the gross tumour volume as RTSTRUCT, 3 x 0.98 x 0.98 mm; the tumours have 6 to 360 mL.
The scans are cropped around the tumour, so that its place is known beforehand, and scores are no estimate for whole
scans. Settings against overfitting were compared on these patients and on `lits.py`, and not on `brats.py`, so that
its scores do not depend on such a choice; lung.md has the figures. The images carry the terms of their package (CC
BY-NC 3.0) and are not part of this project.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path

from brats_data import write_nifti
from comparison import Study, compare

PATIENTS = (1, 2, 3, 4)
FOLDER = "cerr/datasets/radiomics_phantom_dicom"
NAME = "Dataset001_Lung"


def write_folds(wheel: Path, out: Path) -> list[Path]:
    """A folder per fold, in nnU-Net's layout: three patients to train on, one to predict."""
    folders = [out / f"fold_{fold}" for fold in range(len(PATIENTS))]
    done = out / "written.json"
    if done.is_file():
        return folders
    with tempfile.TemporaryDirectory() as unpacked, zipfile.ZipFile(wheel) as held:
        held.extractall(unpacked, [name for name in held.namelist() if name.startswith(FOLDER)])
        for patient in PATIENTS:
            _write_patient(Path(unpacked) / FOLDER / f"pat_{patient}", patient, folders)
    for folder in folders:
        description = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "tumour": [1]},
            "regions_class_order": [1],
            "numTraining": len(PATIENTS) - 1,
            "file_ending": ".nii",
            "overwrite_image_reader_writer": "NibabelIO",
        }
        (folder / NAME / "dataset.json").write_text(json.dumps(description, indent=1))
    done.write_text(json.dumps({"patients": PATIENTS}))
    return folders


def _write_patient(series: Path, patient: int, folders: list[Path]) -> None:
    """The scan and its tumour, held out in the patient's own fold."""
    from resvox import workflow
    from resvox.volumes import read_volume

    scan = read_volume(series)
    with tempfile.TemporaryDirectory() as beside:
        drawn = Path(beside) / "tumour.nii.gz"
        workflow.convert_labels(next(series.glob("DCM_RS*")), drawn, scan=series)
        tumour = read_volume(drawn)
    if not tumour.grid.matches(scan.grid):
        raise ValueError(f"{series}: the tumour is on {tumour.grid}, the scan on {scan.grid}")
    for place, folder in enumerate(folders):
        is_held_out = PATIENTS[place] == patient
        images = folder / NAME / ("imagesTs" if is_held_out else "imagesTr")
        labels = folder / "truth" if is_held_out else folder / NAME / "labelsTr"
        write_nifti(images / f"pat{patient}_0000.nii", scan.array.astype("int16"), scan.spacing_mm)
        write_nifti(labels / f"pat{patient}.nii", tumour.array.astype("uint8"), scan.spacing_mm)


STUDY = Study(
    title="Lung tumours: four patients",
    data="Four CTs, cropped around the tumour, each held out once: the gross tumour volume.",
    write_folds=write_folds,
    folds=len(PATIENTS),
    text=__doc__ or "",
    spacing_mm=2.0,
)

if __name__ == "__main__":
    compare(STUDY)

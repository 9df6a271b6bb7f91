"""resvox, nnU-Net and MONAI on one CT of LiTS with liver and metastases, by slabs, at equal time.

    pip download --no-deps liver-ct-segmentation-package==1.6.0
    python benchmarks/learning/lits.py WORK --packed liver_ct*.whl --budget 900
    python benchmarks/learning/lits.py WORK --packed liver_ct*.whl --budget 900 --report lits.md

The volume (128 cubed, Hounsfield units, no spacing: 1 mm is assumed) is cut into four slabs of 32 slices; each is held
out once, and the four slices of a neighbouring slab that lie beside it are left out of training. Slabs of one patient
are alike, so that the scores are no estimate for other patients. The images carry the terms of LiTS and are not part of
this project.
"""

from __future__ import annotations

import itertools
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from brats_data import write_nifti
from comparison import Study, compare

SLABS, GAP = 4, 4
HEADER = 1024  # bytes of an MRC file
FILES = {"image": ("img_117.mrc", np.float32), "label": ("lab_117.mrc", np.uint16)}
NAME = "Dataset001_Lits"


def read_case(wheel: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Image and labels (z, y, x) of the package."""
    arrays = []
    with zipfile.ZipFile(wheel) as held:
        for name, kind in FILES.values():
            content = held.read(f"liver_ct_segmentation_package/data/{name}")
            shape = np.frombuffer(content[:12], np.int32)[::-1]
            arrays.append(np.frombuffer(content[HEADER:], kind, count=int(np.prod(shape))).reshape(shape))
    return arrays[0], arrays[1].astype(np.uint8)


def write_folds(wheel: Path, out: Path) -> list[Path]:
    """A folder per fold, in nnU-Net's layout: three slabs to train on, one to predict."""
    image, label = read_case(wheel)
    bounds = np.linspace(0, len(image), SLABS + 1).astype(int)
    folders = [out / f"fold_{fold}" for fold in range(SLABS)]
    for held_out, folder in enumerate(folders):
        if (folder / NAME / "dataset.json").is_file():
            continue
        for slab, (first, last) in enumerate(itertools.pairwise(bounds)):
            first += GAP * (slab == held_out + 1)
            last -= GAP * (slab == held_out - 1)
            part = "Ts" if slab == held_out else "Tr"
            write_nifti(folder / NAME / f"images{part}" / f"slab{slab}_0000.nii", image[first:last])
            labels = folder / "truth" if slab == held_out else folder / NAME / "labelsTr"
            write_nifti(labels / f"slab{slab}.nii", label[first:last])
        description = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "liver": [1, 2], "tumour": [2]},
            "regions_class_order": [1, 2],
            "numTraining": SLABS - 1,
            "file_ending": ".nii",
            "overwrite_image_reader_writer": "NibabelIO",
        }
        (folder / NAME / "dataset.json").write_text(json.dumps(description, indent=1))
    return folders


STUDY = Study(
    title="LiTS: slabs of one CT",
    data="One CT of LiTS in four slabs of 32 slices, each held out once: liver (with tumours) and tumour.",
    write_folds=write_folds,
    folds=SLABS,
    text=__doc__ or "",
)

if __name__ == "__main__":
    compare(STUDY)

"""Crops of two real CTs, one to train on and another patient's to test on, from arrays to scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from resvox import workflow
from resvox.preprocessing import respaced
from resvox.training import read_classification
from resvox.volumes import Volume, read_volume, resample
from resvox.workflow.demo.data import make_spine_dataset

SPACING = (4.0, 4.0, 4.0)
SIZE = 8  # voxels of a crop, 32 mm
FAR_MM = 20.0  # from the spine, for a crop that shows something else
LOW, HIGH = -200, 600  # Hounsfield units that become 0 to 255
FAT = 25  # of 255: about -120 Hounsfield units


def isotropic(image: Volume, label: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Scan as uint8 and spine as bool, both at 4 mm in one orientation."""
    from resvox.preprocessing import Preprocessing

    prepared = Preprocessing(orientation="SPL", spacing_mm=SPACING).apply(image)
    assert prepared.grid == respaced(prepared.grid, SPACING)
    scaled = (prepared.array[0].clip(LOW, HIGH) - LOW) / (HIGH - LOW) * 255
    return scaled.astype(np.uint8), prepared.labels(label) > 0


def crops(scan: np.ndarray, spine: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``count`` crops around voxels of the spine and as many far from it; their classes; their part of the scan."""
    rng = np.random.default_rng(seed)
    # in the body, or air would be all there is to learn
    far = (distance_transform_edt(~spine, sampling=SPACING) > FAR_MM) & (scan > FAT)
    inside = tuple(slice(SIZE // 2, n - SIZE // 2) for n in scan.shape)
    images, labels, parts = [], [], []
    for label, mask in enumerate((far, spine)):
        allowed = np.zeros(scan.shape, bool)
        allowed[inside] = mask[inside]
        places = np.argwhere(allowed)
        for centre in places[rng.choice(len(places), size=count, replace=False)]:
            images.append(scan[tuple(slice(c - SIZE // 2, c + SIZE // 2) for c in centre)])
            labels.append(label)
            parts.append(int(centre[0] * 5 // scan.shape[0]))
    return np.stack(images), np.array(labels)[:, None], np.array(parts)


@pytest.fixture(scope="module")
def spine_npz(tmp_path_factory):
    """MedMNIST's layout: the chest CT trains, its five slabs never divided; the lumbar CT tests."""
    folder = tmp_path_factory.mktemp("spine")
    made = make_spine_dataset(folder / "scans")
    pairs = {"train": ("Tr", "chest"), "test": ("Ts", "lumbar")}
    arrays = {}
    for seed, (split, (part, name)) in enumerate(pairs.items()):
        image = read_volume(made.dataset / f"images{part}" / f"{name}_0000.nii.gz")
        label = read_volume(made.dataset / f"labels{part}" / f"{name}.nii.gz")
        scan, spine = isotropic(image, resample(label, image.grid, interpolation="label"))
        arrays[f"{split}_images"], arrays[f"{split}_labels"], groups = crops(scan, spine, 60 if seed == 0 else 30, seed)
        if split == "train":
            arrays["train_groups"] = groups
    np.savez(folder / "spine.npz", **arrays)
    (folder / "spine.json").write_text('{"labels": {"0": "elsewhere", "1": "spine"}}')
    return folder / "spine.npz"


def test_the_volumes_are_told_apart(spine_npz):
    dataset = read_classification(spine_npz)
    assert (dataset.spatial_dims, dataset.classes) == (3, ("elsewhere", "spine"))
    split = dataset.split()
    assert not {case.group for case in split.train} & {case.group for case in split.validation}
    assert {case.id.split("_")[0] for case in dataset.cases_of("test")} == {"test"}


@pytest.mark.slow
def test_a_model_of_one_patient_knows_the_spine_of_another(spine_npz, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    workflow.train(
        spine_npz, run, task="classification", model="resnet10", steps=40, batch_size=8, device="cpu", progress=False
    )
    result = workflow.predict(run, spine_npz, out)
    assert len(result.with_status("written")) == 60
    scores = workflow.evaluate(out, spine_npz).scores
    # another patient, scanner and slice thickness: the ranking carries over better than the threshold does
    assert scores.mean_auc > 0.85
    assert scores.accuracy > 0.6

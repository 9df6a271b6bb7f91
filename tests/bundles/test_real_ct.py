"""Bundles like those of MONAI's model zoo on a real chest CT: our label map beside that of MONAI's own path."""

from __future__ import annotations

import numpy as np
import pytest
from bundles.making import configuration, write_bundle
from bundles.monai_path import label_map

from resvox.inference import sliding_window_inference
from resvox.prediction.segmenter import Segmenter
from resvox.preprocessing import Crop
from resvox.volumes import Volume, read_volume, write_volume
from resvox.workflow.demo.data import make_chest_dataset

pytestmark = pytest.mark.slow
LARGER = {"init_filters": 16, "blocks_down": [1, 2, 2, 4], "blocks_up": [1, 1, 1]}
# the kind of bundle, its network, and what else its configuration has
BUNDLES = {
    "spleen": ("spleen", {"channels": [16, 32, 64, 128, 256], "strides": [2, 2, 2, 2]}, {}),
    "whole_body": ("whole_body", {**LARGER, "out_channels": 24}, {}),
    # as the bundle's low resolution: at 1.5 mm MONAI's path would hold 3.6 GB of outputs several times
    "whole_body_105": ("whole_body", {**LARGER, "out_channels": 105}, {"pixdim": [3.0, 3.0, 3.0]}),
}


@pytest.fixture(scope="module")
def chest(tmp_path_factory):
    """The CT that slicerio ships, less its sides: MONAI holds all outputs of a scan three times."""
    folder = tmp_path_factory.mktemp("chest")
    scan = read_volume(make_chest_dataset(folder / "dataset").image)
    grid = Crop(source=scan.grid, start=(0, 16, 16), stop=(34, 112, 112)).target
    return write_volume(Volume.on_grid(scan.array[:, 16:112, 16:112], grid), folder / "chest.nii.gz")


@pytest.mark.parametrize("name", list(BUNDLES))
def test_the_label_map_of_a_real_ct_is_the_one_that_monai_makes(tmp_path, chest, name):
    kind, network, others = BUNDLES[name]
    config = configuration(kind)
    config["network_def"].update(network)
    config.update(others)
    config["inferer"]["roi_size"] = [96, 96, 96]
    bundle = write_bundle(tmp_path / "bundle", kind, config, seed=7, network=config)
    theirs, outputs = label_map(bundle, [chest])
    segmenter, scan = Segmenter(bundle, engine="torch", precision="float32"), read_volume(chest)
    ours = segmenter.segment(scan).label_map.array
    values, counts = np.unique(theirs, return_counts=True)
    wrong = ours != theirs
    print(f"{name}: {len(values)} labels, {wrong.sum()} of {wrong.size} voxels differ ({100 * wrong.mean():.5f} %)")
    assert len(values) > 1
    assert counts.max() < 0.98 * counts.sum()
    assert wrong.mean() < 1e-3
    if wrong.any():
        assert_ties(segmenter, scan, outputs, wrong)


def assert_ties(segmenter, scan, outputs, wrong):
    """Where labels differ, the two largest outputs are closer than our outputs are to MONAI's somewhere in the scan."""
    prepared, windows = segmenter.prepare(scan), segmenter.card.inference
    own = sliding_window_inference(
        prepared.array, segmenter.engine, roi_size=windows.roi_size, overlap=windows.overlap, mode=windows.blend,
        padding_mode=windows.padding,
    )  # fmt: skip
    bound = float(np.abs(own - outputs).max())
    largest = np.partition(outputs, -2, axis=0)[-2:]
    margin = largest[1] - largest[0]
    nearest = prepared.restore_labels(np.arange(margin.size, dtype=np.int64).reshape(margin.shape)).array
    margins = margin.ravel()[nearest[wrong]]
    print(f"outputs differ by at most {bound:.2g}; margins where labels differ: up to {margins.max():.2g}")
    assert margins.max() <= 2 * bound
    assert bound < 1e-3 * np.abs(outputs).max()

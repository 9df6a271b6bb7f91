"""Toy weights of TotalSegmentator's tasks: folders as its own, with tiny random networks; and toy scans."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import torch
from nnunet.total_cases import RUNS, SCANS
from scipy.ndimage import gaussian_filter
from weights.nnunet_toys import architecture, checkpoint, configuration, plans

import resvox
from resvox.prediction.totalsegmentator.table import task_of
from resvox.weights.nnunet import NnunetFolder, nnunet_blueprint

INTENSITY = {"max": 900.0, "mean": 0.0, "median": 0.0, "min": -500.0, "std": 200.0}
SEED = 1000  # of the networks: with these the labels occur around which tasks look
BACKGROUND = 5.0  # more of the logit of label 0, so that each model leaves voxels to the others
INTENSITY |= {"percentile_00_5": -600.0, "percentile_99_5": 600.0}


def write_weights(results, task, *, run="default", only=None):
    """The models of a task, and of the tasks that find its region.

    Args:
        results: the folder in which the datasets are made.
        only: the numbers of the models that are made; None for all.
    """
    found = task_of(task).run(run)
    for number, model in enumerate(found.models):
        if only is None or number in only:
            write_model(Path(results), model, found.spacing_mm or (1.5, 1.5, 1.5), folds=found.folds or ("0", "1"))
    if found.crop is not None:
        write_weights(results, found.crop.task, run=found.crop.run)
    return Path(results)


def write_model(results, model, spacing_mm, folds=("0",)):
    """One model folder with random weights, with which several labels occur."""
    folder = results / model.dataset / model.folder
    if folder.exists():
        return
    name, labels = model.folder.split("__")[-1], {"background": 0}
    labels |= {f"own {place + 1}": place + 1 for place in range(len(model.labels))}
    spacing = [float(mm) for mm in reversed(spacing_mm)]
    network = architecture(kind="PlainConvUNet", features_per_stage=[8, 8, 8])
    described = plans(**{name: configuration(spacing=spacing, patch_size=[8, 12, 16], architecture=network)})
    described["foreground_intensity_properties_per_channel"] = {"0": INTENSITY}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 3, "file_ending": ".nii.gz"}
    for fold in folds:
        (folder / f"fold_{fold}").mkdir(parents=True)
        torch.save({}, folder / f"fold_{fold}" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(described))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for fold in folds:
        state = random_weights(folder, seed=int(model.dataset[7:10]) + int(fold))
        content = checkpoint(state, name=name, trainer=model.folder.split("__")[0])
        content["init_args"] |= {"plans": described, "dataset_json": dataset, "fold": int(fold)}
        content["inference_allowed_mirroring_axes"] = None if "NoMirroring" in model.folder else (0, 1, 2)
        torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")


def random_weights(folder, seed):
    """A random network of a folder's plans, under nnU-Net's names."""
    blueprint = nnunet_blueprint(NnunetFolder.read(folder), deep_supervision=True)
    made = torch.Generator().manual_seed(seed + SEED)
    model = resvox.torch.build(blueprint).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            is_scale = value.ndim == 1 and name.endswith("weight")  # of a normalization
            value.copy_(torch.randn(value.shape, generator=made) * (1.0 if name == "head.weight" else 0.3) + is_scale)
            if name == "head.bias":
                value[0] += BACKGROUND
    path = resvox.export_weights(model, folder / "random.pth", peer="nnunet")
    state = torch.load(path, weights_only=True)
    path.unlink()
    return state


def write_scan(path, *, shape=(22, 26, 18), spacing_mm=(1.9, 1.3, 2.2), codes="LPS", turn=0.0, dtype=np.int16, seed=0):
    """A toy scan in NIfTI: blobs with noise.

    Args:
        shape: x, y, z of the file.
        codes: where the axes of the file point, as nibabel names them.
        turn: radians about the long axis: an oblique scan.
    """
    rng = np.random.default_rng(seed)
    array = gaussian_filter(rng.standard_normal(shape), 2) * 2500 + rng.standard_normal(shape) * 20
    ornt = nibabel.orientations.axcodes2ornt(codes)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(ornt):
        affine[int(world), axis] = sign * spacing_mm[axis]
    c, s = np.cos(turn), np.sin(turn)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ affine[:3, :3]
    affine[:3, 3] = (12.5, -40.25, 7.0)
    array = np.round(array).astype(dtype) if np.dtype(dtype).kind == "i" else array.astype(dtype)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def write_all(out):
    """The weights and scans of all runs of `total_cases`."""
    (out / "scans").mkdir(parents=True, exist_ok=True)
    for name, values in SCANS.items():
        write_scan(out / "scans" / f"{name}.nii.gz", **values)
    for run in RUNS:
        write_weights(out / "results", run.task, run=run.run)
        if run.subset is not None:
            rule = task_of(run.task).subset_crop
            write_weights(out / "results", rule.task, run=rule.run)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))

"""Plans of nnU-Net's own planners for made-up fingerprints: the references of `tests/training/test_nnunet_recipe.py`.

Runs where ``nnunetv2`` is installed (`make .venv-nnunet/installed`): ``python tests/nnunet/peer_plans.py OUT.json``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch

LABELS = {"background": 0, "organ": 1, "tumour": 2}
VALUES = {"mean": 40.5, "std": 55.25, "percentile_00_5": -60.0, "percentile_99_5": 200.0, "median": 42.0, "min": -900.0,
          "max": 1500.0}  # fmt: skip
# Each: channels, spacings, shapes after the crop, share of the size that the crop leaves, labels.
CASES = {
    "ct": (
        ["CT"], [(2.5, 0.78, 0.78), (1.25, 0.7, 0.7), (5, 0.9, 0.9)],
        [(120, 512, 512), (300, 512, 512), (80, 512, 512)],
    ),
    "isotropic_mr": (
        ["T1", "T2", "FLAIR"], [(1, 1, 1)] * 4,
        [(140, 171, 136), (139, 169, 138), (141, 172, 137), (138, 170, 135)], 0.5,
    ),
    "thick_mr": (
        ["MRI"], [(10, 1.56, 1.56), (5, 1.4, 1.4), (10, 1.3, 1.3)], [(9, 256, 216), (18, 240, 232), (10, 256, 256)],
    ),
    "thick_many_slices": (["MRI"], [(4, 0.5, 0.5), (5, 0.6, 0.6)], [(60, 300, 300), (50, 320, 280)]),
    "sagittal": (["MRI"], [(0.6, 0.6, 3.6), (0.7, 0.7, 3.0)], [(400, 400, 15), (420, 380, 18)]),
    "tiny": (["CT"], [(2.0, 1.0, 1.0), (2.0, 1.0, 1.0)], [(24, 24, 24), (22, 25, 23)]),
    "half_voxels": (["MRI"], [(1.1, 0.9, 1.0), (1.0, 1.0, 0.97)], [(45, 61, 52), (48, 60, 57)]),
    "large_ct": (["CT"], [(0.8, 0.75, 0.75)] * 200, [(600, 512, 512)] * 200),
    "many_labels": (["CT"], [(1.5, 1.5, 1.5)] * 20, [(230, 280, 280)] * 20, 1.0, {f"l{i}": i for i in range(118)}),
    "photographs": (["R", "G", "B"], [(999, 1, 1)] * 30, [(1, 1024, 768)] * 30),
    "small_images": (["gray"], [(999, 1, 1)] * 3, [(1, 96, 130), (1, 90, 120), (1, 97, 131)]),
    "slices_of_mm": (["MRI"], [(6.75, 0.3, 0.45), (5.4, 0.24, 0.36)], [(1, 1200, 500), (1, 900, 640)]),
}  # fmt: skip


def plans_of(name):
    """What every planner makes of a case: {planner: {configuration: what matters}}."""
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners as res

    channels, spacings, shapes, *more = CASES[name]
    share, labels = (more[0] if more else 1.0), (more[1] if len(more) > 1 else LABELS)
    raw, prepared = (Path(os.environ[each]) / "Dataset001_Toy" for each in ("nnUNet_raw", "nnUNet_preprocessed"))
    for folder in (raw / "imagesTr", raw / "labelsTr", prepared):
        folder.mkdir(parents=True, exist_ok=True)
    dataset = {"channel_names": {str(i): c for i, c in enumerate(channels)}, "labels": labels,
               "numTraining": len(shapes), "file_ending": ".nii.gz"}  # fmt: skip
    (raw / "imagesTr/a_0000.nii.gz").touch()
    (raw / "dataset.json").write_text(json.dumps({**dataset, "overwrite_image_reader_writer": "SimpleITKIO"}))
    fingerprint = {
        "spacings": spacings, "shapes_after_crop": shapes, "median_relative_size_after_cropping": share,
        "foreground_intensity_properties_per_channel": {str(i): VALUES for i in range(len(channels))},
    }  # fmt: skip
    (prepared / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    planners = {
        "plain": lambda: ExperimentPlanner(1), "plain_4": lambda: ExperimentPlanner(1, gpu_memory_target_in_gb=4),
        "M": lambda: res.nnUNetPlannerResEncM(1), "L": lambda: res.nnUNetPlannerResEncL(1),
        "XL": lambda: res.nnUNetPlannerResEncXL(1),
        "L_12": lambda: res.nnUNetPlannerResEncL(1, gpu_memory_target_in_gb=12),
        "M_2": lambda: res.nnUNetPlannerResEncM(1, gpu_memory_target_in_gb=2),
    }  # fmt: skip
    found = {}
    for planner, make in planners.items():
        with torch.device("meta"):  # networks whose sizes alone are asked for
            plans = make().plan_experiment()
        found[planner] = {
            key: essentials(value, plans)
            for key, value in plans["configurations"].items()
            if key in ("2d", "3d_fullres")
        }
    return {"channels": channels, "labels": list(labels), "spacings": spacings, "shapes": shapes, "share": share,
            "plans": found}  # fmt: skip


def essentials(configuration, plans):
    network = configuration["architecture"]["arch_kwargs"]
    blocks = "n_blocks_per_stage" if "n_blocks_per_stage" in network else "n_conv_per_stage"
    return {
        **{key: configuration[key] for key in ("spacing", "patch_size", "batch_size", "batch_dice")},
        "normalization": configuration["normalization_schemes"], "masked": configuration["use_mask_for_norm"],
        "order": plans["transpose_forward"], "strides": network["strides"], "kernels": network["kernel_sizes"],
        "features": network["features_per_stage"], "depths": network[blocks],
        "decoder_depths": network["n_conv_per_stage_decoder"],
    }  # fmt: skip


def main(out):
    with tempfile.TemporaryDirectory() as folder:
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            os.environ[name] = str(Path(folder) / name)
        with redirect_stdout(sys.stderr):
            found = {name: plans_of(name) for name in CASES}

    def plain(value):
        return value.item() if isinstance(value, np.generic) else list(value)

    lines = [f" {json.dumps(name)}: {json.dumps(case, default=plain)}" for name, case in found.items()]
    Path(out).write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1])

"""Small model folders of nnU-Net v2, written as nnU-Net writes them, without nnU-Net."""

from __future__ import annotations

import json

import numpy as np
import torch

_RESAMPLING = {
    f"resampling_fn_{what}{ending}": value
    for what, seg, order in (("data", False, 3), ("seg", True, 1), ("probabilities", False, 1))
    for ending, value in (
        ("", "resample_data_or_seg_to_shape"),
        ("_kwargs", {"is_seg": seg, "order": order, "order_z": 0, "force_separate_z": None}),
    )
}
DATASET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "left": 1, "right": 2},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}


def architecture(dims=3, kind="ResidualEncoderUNet", **changed):
    """The architecture of a network of three stages, as new plans state it."""
    blocks = "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"
    arguments = {
        "n_stages": 3,
        "features_per_stage": [4, 6, 8],
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": [[1] + [3] * (dims - 1), [3] * dims, [3] * dims],
        "strides": [[1] * dims, [1] + [2] * (dims - 1), [2] * dims],
        blocks: [1, 2, 2],
        "n_conv_per_stage_decoder": [1, 2],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
        **changed,
    }
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def configuration(dims=3, **changed):
    """A configuration with that network."""
    return {
        "data_identifier": "nnUNetPlans_3d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [8] * dims,
        "median_image_size_in_voxels": [10.0] * dims,
        "spacing": [2.5, 1.0, 1.0][-dims:],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        **_RESAMPLING,
        "architecture": architecture(dims),
        "batch_dice": False,
        **changed,
    }


def old_configuration(**changed):
    """The same network as plans before nnU-Net 2.4 state it."""
    found = configuration(
        UNet_class_name="ResidualEncoderUNet",
        UNet_base_num_features=4,
        unet_max_num_features=16,
        n_conv_per_stage_encoder=[1, 2, 2],
        n_conv_per_stage_decoder=[1, 2],
        num_pool_per_axis=[1, 2, 2],
        pool_op_kernel_sizes=[[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        conv_kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        **changed,
    )
    del found["architecture"]
    return found


def plans(**configurations):
    """Plans with these configurations; by default one, ``3d_fullres``."""
    return {
        "dataset_name": "Dataset001_Toy",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [2.5, 1.0, 1.0],
        "original_median_shape_after_transp": [10, 10, 10],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": configurations or {"3d_fullres": configuration()},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {"max": 9.0, "mean": 3.0, "median": 3.0, "min": 0.0, "percentile_00_5": 1.0, "percentile_99_5": 8.0,
                  "std": 2.0}
        },
    }  # fmt: skip


def checkpoint(weights, *, name="3d_fullres", trainer="nnUNetTrainer", **changed):
    """What nnU-Net's trainer saves, with the kinds of objects that it holds."""
    return {
        "network_weights": weights,
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)], "epoch_start_timestamps": [1.5]},
        "_best_ema": np.float32(0.5),
        "current_epoch": 7,
        "init_args": {
            "plans": plans(),
            "configuration": name,
            "fold": 0,
            "dataset_json": DATASET,
            "device": torch.device("cpu"),
        },
        "trainer_name": trainer,
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **changed,
    }


def write_folder(root, *, weights=None, folds=(0,), found=None, dataset=DATASET, name="3d_fullres", **changed):
    """A model folder; returns its path."""
    folder = root / "Dataset001_Toy" / f"nnUNetTrainer__nnUNetPlans__{name}"
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(found or plans()))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for fold in folds:
        (folder / f"fold_{fold}").mkdir()
        content = checkpoint(weights or {"a.weight": torch.ones(2)}, name=name, **changed)
        torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder

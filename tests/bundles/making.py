"""Bundles as MONAI's model zoo has them: literal configurations, and random weights of MONAI's own networks."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
import yaml

IMAGE, PRED = "@image_key", "pred"
SPLEEN = {
    "network_def": {
        "_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8, 16],
        "strides": [2, 2], "num_res_units": 2, "norm": "batch",
    },
    "preprocessing": {"_target_": "Compose", "transforms": [
        {"_target_": "LoadImaged", "keys": IMAGE},
        {"_target_": "EnsureChannelFirstd", "keys": IMAGE},
        {"_target_": "Orientationd", "keys": IMAGE, "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": IMAGE, "pixdim": [1.5, 1.5, 2.0], "mode": "bilinear"},
        {"_target_": "ScaleIntensityRanged", "keys": IMAGE, "a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1,
         "clip": True},
        {"_target_": "EnsureTyped", "keys": IMAGE, "device": "@device"},
    ]},
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 4, "overlap": 0.5},
    "postprocessing": {"_target_": "Compose", "transforms": [
        {"_target_": "Activationsd", "keys": PRED, "softmax": True},
        {"_target_": "Invertd", "keys": PRED, "transform": "@preprocessing", "orig_keys": IMAGE,
         "nearest_interp": False, "to_tensor": True},
        {"_target_": "AsDiscreted", "keys": PRED, "argmax": True},
        {"_target_": "SaveImaged", "keys": PRED, "output_dir": "@output_dir", "output_dtype": "@output_dtype"},
    ]},
}  # fmt: skip
WHOLE_BODY = {
    "displayable_configs": {"highres": True, "sw_overlap": 0.25, "sw_batch_size": 1},
    "pixdim": "$[1.5, 1.5, 1.5] if @displayable_configs#highres else [3.0, 3.0, 3.0]",
    "modelname": "$'model.pt' if @displayable_configs#highres else 'model_lowres.pt'",
    "network_def": {
        "_target_": "SegResNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 12, "init_filters": 8,
        "blocks_down": [1, 2, 2], "blocks_up": [1, 1], "dropout_prob": 0.2,
    },
    "preprocessing": {"_target_": "Compose", "transforms": [
        {"_target_": "LoadImaged", "keys": IMAGE},
        {"_target_": "EnsureTyped", "keys": IMAGE},
        {"_target_": "EnsureChannelFirstd", "keys": IMAGE},
        {"_target_": "Orientationd", "keys": IMAGE, "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": IMAGE, "pixdim": "@pixdim", "mode": "bilinear"},
        {"_target_": "NormalizeIntensityd", "keys": IMAGE, "nonzero": True},
        {"_target_": "ScaleIntensityd", "keys": IMAGE, "minv": -1.0, "maxv": 1.0},
    ]},
    "inferer": {
        "_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16],
        "sw_batch_size": "@displayable_configs#sw_batch_size", "overlap": "@displayable_configs#sw_overlap",
        "padding_mode": "replicate", "mode": "gaussian", "device": "@device",
    },
    "postprocessing": {"_target_": "Compose", "transforms": [
        {"_target_": "Activationsd", "keys": PRED, "softmax": True},
        {"_target_": "AsDiscreted", "keys": PRED, "argmax": True},
        {"_target_": "Invertd", "keys": PRED, "transform": "@preprocessing", "orig_keys": IMAGE,
         "nearest_interp": True, "to_tensor": True},
        {"_target_": "SaveImaged", "keys": PRED, "output_dir": "@output_dir"},
    ]},
}  # fmt: skip
TUMOUR = {
    "network_def": {
        "_target_": "SegResNet", "blocks_down": [1, 2], "blocks_up": [1], "init_filters": 8, "in_channels": 2,
        "out_channels": 3, "dropout_prob": 0.2,
    },
    "preprocessing": {"_target_": "Compose", "transforms": [
        {"_target_": "LoadImaged", "keys": IMAGE, "image_only": False},
        {"_target_": "NormalizeIntensityd", "keys": IMAGE, "nonzero": True, "channel_wise": True},
    ]},
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 8], "sw_batch_size": 1, "overlap": 0.5},
    "postprocessing": {"_target_": "Compose", "transforms": [
        {"_target_": "Activationsd", "keys": PRED, "sigmoid": True},
        {"_target_": "Invertd", "keys": PRED, "transform": "@preprocessing", "orig_keys": IMAGE,
         "meta_keys": "pred_meta_dict", "nearest_interp": False, "to_tensor": True},
        {"_target_": "AsDiscreted", "keys": PRED, "threshold": 0.5},
        {"_target_": "Lambdad", "keys": PRED, "func": "$lambda x: torch.where(x[[2]] > 0, 4, "
         "torch.where(x[[0]] > 0, 1, torch.where(x[[1]] > 0, 2, 0)))"},
        {"_target_": "SaveImaged", "keys": PRED, "meta_keys": "pred_meta_dict", "resample": False},
    ]},
}  # fmt: skip
PROSTATE = {
    "network_def": {
        "_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8, 16],
        "strides": [2, 2], "num_res_units": 4, "norm": "batch", "act": "prelu", "dropout": 0.15,
    },
    "preprocessing": {"_target_": "Compose", "transforms": [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "image", "pixdim": [0.5, 0.5, 0.5], "mode": "bilinear"},
        {"_target_": "CropForegroundd", "keys": "image", "source_key": "image", "margin": 2, "k_divisible": 4},
        {"_target_": "ScaleIntensityd", "keys": "image", "minv": 0, "maxv": 1},
        {"_target_": "NormalizeIntensityd", "keys": "image"},
        {"_target_": "EnsureTyped", "keys": "image"},
    ]},
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "sw_batch_size": 4, "overlap": 0.5},
    "postprocessing": {"_target_": "Compose", "transforms": [
        {"_target_": "Activationsd", "keys": PRED, "softmax": True},
        {"_target_": "Invertd", "keys": PRED, "transform": "@preprocessing", "orig_keys": "image",
         "meta_key_postfix": "meta_dict", "nearest_interp": False, "to_tensor": True},
        {"_target_": "AsDiscreted", "keys": PRED, "argmax": True},
    ]},
}  # fmt: skip
HEART = {
    "network_def": {"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 4,
                    "channels": [4, 8, 16], "strides": [2, 2], "num_res_units": 2},
    "preprocessing": {"_target_": "Compose", "transforms": [
        {"_target_": "LoadImaged", "keys": "image", "image_only": False},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "ScaleIntensityd", "keys": "image"},
    ]},
    "inferer": {"_target_": "SliceInferer", "roi_size": [24, 24], "spatial_dim": 2},
    "postprocessing": {"_target_": "Compose", "transforms": [
        {"_target_": "Activationsd", "keys": PRED, "softmax": True},
        {"_target_": "Invertd", "keys": PRED, "transform": "@preprocessing", "orig_keys": "image",
         "meta_key_postfix": "meta_dict", "nearest_interp": False, "to_tensor": True},
        {"_target_": "AsDiscreted", "keys": PRED, "argmax": True},
    ]},
}  # fmt: skip
KINDS = {"spleen": SPLEEN, "whole_body": WHOLE_BODY, "tumour": TUMOUR, "prostate": PROSTATE, "heart": HEART}
# as every bundle has them around the parts that are read
SURROUNDINGS = {
    "imports": ["$import glob", "$import numpy", "$import os"],
    "bundle_root": ".",
    "image_key": "image",
    "output_dir": "$@bundle_root + '/eval'",
    "output_dtype": "$numpy.float32",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "network": "$@network_def.to(@device)",
    "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
    "run": ["$@evaluator.run()"],
}
REGIONS = ("Tumor core", "Whole tumor", "Enhancing tumor")


def configuration(kind: str) -> dict:
    """A configuration that may be changed."""
    return copy.deepcopy({**SURROUNDINGS, **KINDS[kind]})


def metadata(kind: str, config: dict | None = None) -> dict:
    """Metadata with names of all channels."""
    network = (config or KINDS[kind])["network_def"]
    outputs = network["out_channels"]
    names = REGIONS[:outputs] if kind == "tumour" else ("background", *(f"organ {n}" for n in range(1, outputs)))
    channels = network["in_channels"]
    inputs = {"0": "image"} if channels == 1 else {str(place): f"modality {place}" for place in range(channels)}
    return {
        "version": "0.1.0", "monai_version": "1.4.0", "name": f"toy {kind}", "license": "Apache-2.0",
        "eval_metrics": {"mean_dice": 0.5},
        "network_data_format": {
            "inputs": {"image": {"type": "image", "num_channels": channels, "channel_def": inputs}},
            "outputs": {"pred": {"type": "image", "channel_def": {str(at): name for at, name in enumerate(names)}}},
        },
    }  # fmt: skip


def network_of(config: dict, seed: int = 0) -> torch.nn.Module:
    """MONAI's own network of a configuration, with random weights and statistics."""
    from monai.networks import nets

    arguments = dict(config["network_def"])
    torch.manual_seed(seed)
    module = getattr(nets, arguments.pop("_target_"))(**{"spatial_dims": 3, **arguments}).eval()
    for name, tensor in module.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.3)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.add_(torch.randn_like(tensor) * 0.2)
    return balanced(module, config["network_def"]["in_channels"], arguments.get("spatial_dims", 3))


def balanced(module: torch.nn.Module, channels: int, dims: int) -> torch.nn.Module:
    """The same with another bias of its last layer, so that every output is the largest somewhere."""
    last = [each for each in module.state_dict().items() if each[0].endswith("bias") and each[1].ndim == 1][-1][1]
    image = torch.nn.functional.interpolate(torch.rand(1, channels, *(8,) * dims), scale_factor=4.0)
    with torch.no_grad():
        last -= module(image)[0].flatten(1).mean(dim=1)
    return module


def write_bundle(
    folder: Path, kind: str, config: dict | None = None, *, ending: str = ".json", described: dict | None = None,
    seed: int = 0, network: dict | None = None,
) -> Path:  # fmt: skip
    """A bundle of a kind; a given configuration is written as it is, ``network`` is the one whose weights it has."""
    config = configuration(kind) if config is None else config
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True)
    text = json.dumps(config, indent=1) if ending == ".json" else yaml.safe_dump(config)
    (folder / "configs" / f"inference{ending}").write_text(text)
    described = metadata(kind, network) if described is None else described
    (folder / "configs" / "metadata.json").write_text(json.dumps(described))
    torch.save(network_of(network or KINDS[kind], seed).state_dict(), folder / "models" / "model.pt")
    return folder

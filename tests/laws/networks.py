"""The catalog as laws meet it: every row in 2D and 3D, thin for tests that compute, and the samples with options."""

import torch

from resvox.catalog import VARIANTS, get_blueprint, list_models
from resvox.catalog.segmenters import SEGMENTERS
from resvox.torch import build

DIMS = (2, 3)
ROWS = [(name, dims) for name in list_models() for dims in DIMS]
RESIDUAL = {variant.name: variant for variant in VARIANTS}
RESIDUAL_ROWS = [(name, dims) for name in RESIDUAL for dims in DIMS]
UNETS = [
    ("unet", {"encoder_name": "resnet50v2", "decoder_block_type": "transpose"}),
    ("unet", {"encoder_name": "resnet18v2", "encoder_depth": 3, "decoder_transpose_kernel": 2,
              "decoder_block_type": "transpose"}),
    ("unet", {"encoder_name": "resnet18vd", "decoder_interpolation": "linear", "decoder_normalization": None}),
    ("unet", {"encoder_name": "seresnet50", "encoder_depth": 4, "output_stride": 8, "head_kernel": 3}),
    ("unet", {"encoder_name": "resnet18", "strides": (1, 2, 2, 1, 2), "encoder_depth": 5}),
    ("unet", {"encoder_name": "resnet10", "encoder_depth": 1}),
    ("unet", {"encoder_name": "resnet10", "encoder_depth": 4, "deep_supervision": True}),
    ("unet_plus_plus", {"encoder_name": "resnet18v2", "encoder_depth": 4, "deep_supervision": True}),
    ("unet_plus_plus", {"encoder_name": "resnet26", "decoder_filter_order": "deepest_first", "encoder_depth": 3,
                        "decoder_block_type": "transpose", "decoder_normalization": "instance"}),
    ("attention_unet", {"encoder_name": "resnet18vd", "encoder_depth": 4, "deep_supervision": True}),
    ("attention_unet", {"encoder_name": "resnet18", "strides": (1, 2, 2, 1, 2), "decoder_interpolation": "linear"}),
]  # fmt: skip
TRANS_UNETS = [
    ("trans_unet", {"encoder_name": "resnet18v2", "encoder_depth": 3, "deep_supervision": True, "num_classes": 1}),
    ("trans_unet", {"encoder_name": "seresnet50", "strides": (1, 2, 2, 1, 2), "decoder_normalization": "group",
                    "decoder_interpolation": "nearest", "dropout_rate": 0.0}),
    ("trans_unet", {"encoder_name": "resnet10", "encoder_depth": 1, "patch_size": 4}),
]  # fmt: skip
# encoders of their own
WHOLE_NNUNET = [
    ("resenc_unet", {"block": "bottleneck", "stem_channels": 6, "norm": "batch", "deep_supervision": True}),
    ("plain_unet", {"conv_bias": False, "norm": "group", "activation": "relu", "features": (8, 8), "depths": (1, 1),
                    "decoder_depths": (1,)}),
    ("residual_unet", {"features": (8, 8, 16, 16), "depths": (1, 1, 2, 1), "decoder_depths": (1, 2, 1),
                       "deep_supervision": True}),
]  # fmt: skip
WHOLE_MONAI = [
    ("segresnet", {"upsample_mode": "deconv", "norm": "instance", "dropout": 0.2}),
    ("segresnet_ds", {"dsdepth": 2}),
    ("segresnet_ds", {"deep_supervision": True, "norm": "group", "blocks_down": (1, 2, 1), "blocks_up": (2, 1)}),
    ("monai_unet", {"num_res_units": 0, "dropout": 0.1, "channels": (8, 12, 16), "strides": (2, 3)}),
    ("monai_unet", {"num_res_units": 3, "norm": "batch", "activation": "leaky_relu", "conv_bias": False}),
]
SEGMENTATION = [*UNETS, *TRANS_UNETS, *WHOLE_NNUNET, *WHOLE_MONAI]


THIN_TRANSFORMER = {"num_vit_layers": 2, "num_heads": 4, "num_queries": 5, "embed_dim": 24, "mlp_dim": 32}


def ids(value):
    """Readable names of parametrized cases."""
    return ",".join(f"{k}={v}" for k, v in value.items()) or "plain" if isinstance(value, dict) else f"{value}"


THIN_SEGRESNET = {"init_filters": 8, "blocks_down": (1, 2, 1)}
THIN_STAGES = {"features": (8, 12, 16), "depths": (1, 2, 1), "decoder_depths": (2, 1)}
# of the networks whose encoder is their own
THIN_WHOLE = {
    "resenc_unet": THIN_STAGES,
    "plain_unet": THIN_STAGES,
    "residual_unet": THIN_STAGES,
    "segresnet": THIN_SEGRESNET,
    "segresnet_ds": THIN_SEGRESNET,
    "monai_unet": {"channels": (8, 12, 16), "strides": (2, 2)},
}


def thin_options(name, encoder=None):
    """Few channels and few blocks, every kind of layer still there."""
    if name in THIN_WHOLE:
        return {**THIN_WHOLE[name], "num_classes": 3}
    if name in RESIDUAL or name in SEGMENTERS:
        options = {"widths": (8, 16, 24, 32), "stem_width": 8, "depths": (1, 2, 1, 1)}
        row = RESIDUAL.get(encoder or name)
        if row is not None and row.groups > 1:
            options |= {"groups": 4, "width_per_group": 32}
        if name in SEGMENTERS:
            options |= {"decoder_filters": (24, 16, 12, 8, 8), "num_classes": 3}
            options |= THIN_TRANSFORMER if name == "trans_unet" else {}
        else:
            options |= {"num_classes": 5}
        return options
    return {"widths": (6, 8, 8), "depths": (1, 2, 1), "num_classes": 5}


def thin_blueprint(name, dims, **options):
    settled = thin_options(name, options.get("encoder_name")) | options
    return get_blueprint(name, spatial_dims=dims, **settled)


def thin(name, dims, **options):
    """A thin model in evaluation, with random running statistics so that a norm that is skipped shows."""
    torch.manual_seed(0)
    model = build(thin_blueprint(name, dims, **options))
    randomize_statistics(model)
    return model.eval()


def randomize_statistics(model):
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)


def outputs(result):
    """The outputs of a classifier, a segmenter or a backbone, always as a list."""
    return list(result) if isinstance(result, (list, tuple)) else [result]

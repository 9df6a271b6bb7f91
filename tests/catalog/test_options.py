import pytest

from resvox.catalog import get_blueprint
from resvox.catalog.encoders import RESNET_OPTIONS
from resvox.catalog.registry import segmenter_options
from resvox.catalog.segmenters import SEGMENTERS
from resvox.errors import BlueprintError, ResvoxError

NAN = float("nan")
EVERYTHING = ("banana", None, 1.5, -1, 0, (), (1,), (1, 2, 3), [1, "2"], {}, {"a": 1}, True, NAN, object)
# what of EVERYTHING an option does take
TAKES = {
    "output_activation": [None],
    "zero_init_residual": [True],
    "features_only": [True],
    "drop_path": [0],
    "conv_bias": [True, ()],
    "dilate_first_block": [True],
    "se_ratio": [None],
    "decoder_normalization": [None],
    "deep_supervision": [True],
    "dropout_rate": [0],
    "image_size": [None],
    "patch_size": [None],
    "preset": [None],
    "spacing_mm": [None],
    "features": [None, (1, 2, 3)],
    "kernels": [None],
    "decoder_depths": [None],
    "bottleneck_channels": [None],
    "stem_channels": [None],
    "blocks_down": [(1, 2, 3)],
    "blocks_up": [None, (1, 2, 3)],
    "resolution": [None],
    "dropout": [0],
    "channels": [(1, 2, 3)],
    "num_res_units": [0],
}
DECODER_OPTIONS = {option for name in SEGMENTERS for option in segmenter_options(name)}
OPTIONS = sorted({*RESNET_OPTIONS, *DECODER_OPTIONS, "features_only", "encoder_depth"})


def model_for(option):
    if option in (*RESNET_OPTIONS, "features_only"):
        return "resnet26"
    return next(name for name in SEGMENTERS if option in segmenter_options(name))


@pytest.mark.parametrize("option", OPTIONS)
def test_a_bad_value_dies_with_a_text_that_names_the_option(option):
    for value in EVERYTHING:
        if any(value is good or (type(value) is type(good) and value == good) for good in TAKES.get(option, ())):
            get_blueprint(model_for(option), **{option: value})
            continue
        with pytest.raises(ResvoxError) as caught:
            get_blueprint(model_for(option), **{option: value})
        words = str(caught.value)
        assert option in words or option == "encoder_name", f"{option}={value!r}: {words}"
        assert "expected" in words, f"{option}={value!r}: {words}"


BAD = [
    ("resnet18", {"norm": "layer"}, "norm='layer'; expected one of batch, instance, group, or a pair such as"),
    ("resnet18", {"norm": "bacth"}, "fix: did you mean batch?"),
    ("resnet18", {"norm": ("group", {"groups": 4})}, "norm 'group' with groups=; expected affine, eps, num_groups"),
    ("resnet18", {"norm": ("group", {"num_groups": 7})}, "group norm with num_groups=7 over 64 channels"),
    ("resnet18", {"norm": ("group", {"num_groups": "8"})}, "norm num_groups='8'; expected a whole number"),
    ("resnet18", {"norm": ("batch", {"eps": "x"})}, "norm eps='x'; expected a positive number"),
    ("resnet18", {"norm": ("batch", {"momentum": None})}, "norm momentum=None; expected a number above 0"),
    ("resnet18", {"norm": ("instance", {"affine": "yes"})}, "norm affine='yes'; expected True or False"),
    ("resnet18", {"norm": ("instance", {"momentum": 0.1})}, "norm 'instance' with momentum=; expected affine, eps"),
    ("resnet18", {"norm": ("instance", {"affine": False}), "zero_init_residual": True}, "a norm that has no weight"),
    ("resnet18", {"activation": "swish"}, "activation='swish'; expected one of relu"),
    ("resnet18", {"activation": ("relu", {"negative_slope": 0.1})}, "activation 'relu' with negative_slope="),
    ("resnet18", {"activation": ("elu", {"alpha": "1"})}, "activation 'elu' with alpha='1'; expected a number"),
    ("resnet18", {"activation": ("elu", {"alpha": NAN})}, "activation 'elu' with alpha=nan; expected a number"),
    ("resnet18", {"groups": 2}, "groups=2, width_per_group=64 with basic blocks; expected groups=1"),
    ("resnet34", {"width_per_group": 128}, "fix: choose a bottleneck variant (resnet26, resnet50 and up)"),
    ("resnet26", {"widths": (64, 128, 256)}, "widths=(64, 128, 256); expected four whole numbers of at least 1"),
    ("resnet26", {"depths": (2, 2, 0, 2)}, "depths=(2, 2, 0, 2); expected four whole numbers of at least 1"),
    ("resnet26", {"depths": "2222"}, "depths='2222'; expected four whole numbers of at least 1"),
    ("resnet26", {"strides": (2, 2, 2, 2)}, "strides=(2, 2, 2, 2); expected five entries (stem, pooling, stages 2"),
    ("resnet26", {"strides": (2, 2, 2, 2, (1, 2, 2))}, "strides=(1, 2, 2); expected a whole number of at least 1"),
    ("resnet26", {"strides": (2, 2, 2, 2, 0)}, "strides=0; expected a whole number of at least 1"),
    ("resnet26", {"output_stride": 4}, "output_stride=4; expected 8, 16 or 32"),
    ("resnet26", {"output_stride": 16.0}, "output_stride=16.0; expected 8, 16 or 32"),
    ("resnet26", {"drop_path": 1}, "drop_path=1; expected a number from 0 to below 1"),
    ("resnet26", {"stem": "5x5"}, "stem='5x5'; expected one of '7x7', 'deep', '3x3'"),
    ("resnet26", {"stem_kernel": 4}, "stem_kernel=(4, 4); expected odd numbers, so that padding is symmetric"),
    ("resnet26", {"stem_kernel": (3, 7, 7)}, "stem_kernel=(3, 7, 7); expected a whole number of at least 1, or 2"),
    ("resnet26", {"se_ratio": 0.0625}, "se_ratio=0.0625; expected a whole number of at least 1"),
    ("resnet26", {"shortcut": "zero"}, "shortcut='zero'; expected one of 'projection', 'zero_pad'"),
    ("resnet26", {"stride_on": "conv3"}, "stride_on='conv3'; expected 'conv2' or 'conv1'"),
    ("resnet18", {"stride_on": "conv1"}, "stride_on='conv1' with basic blocks; expected post-activation bottleneck"),
    ("resnet50v2", {"stride_on": "conv1"}, "stride_on='conv1' with pre-activation bottleneck blocks"),
    ("resnet50", {"stride_block": "last"}, "stride_block='last' with bottleneck blocks and output_stride=32; expected"),
    ("resnet50v2", {"stride_block": "last", "output_stride": 16}, "output_stride=16; expected pre-activation blocks"),
    ("resnet26", {"conv_bias": ("conv4",)}, "conv_bias=('conv4',); expected True, False or some of 'stem', 'conv1'"),
    ("resnet26", {"pool_padding": "same"}, "pool_padding='same'; expected 'minus_infinity' or 'zeros'"),
    ("resnet10", {"shortcut": "zero_pad", "widths": (64, 32, 64, 64)}, "fix: use shortcut='projection'"),
    ("unet", {"encoder_name": "unet"}, "encoder_name='unet'; expected a residual network of the catalog"),
    ("unet", {"encoder_name": "resnet17"}, "unknown model 'resnet17'"),
    ("unet", {"encoder_depth": 6}, "encoder_depth=6; expected a whole number from 1 to 5"),
    ("unet", {"decoder_filters": (64, 32)}, "decoder_filters=(64, 32) with encoder_depth=5; expected at least 5"),
    ("unet", {"decoder_block_type": "pixelshuffle"}, "decoder_block_type='pixelshuffle'; expected 'upsampling' or"),
    ("unet", {"decoder_interpolation": "cubic", "decoder_block_type": "transpose"}, "decoder_interpolation='cubic'"),
    ("unet", {"decoder_normalization": "layer"}, "decoder_normalization='layer'; expected one of batch"),
    ("unet", {"decoder_activation": "swish"}, "decoder_activation='swish'; expected one of relu"),
    ("unet", {"decoder_transpose_kernel": 3}, "decoder_transpose_kernel=3; expected 2 or 4"),
    ("unet", {"head_kernel": True}, "head_kernel=True; expected 1 or 3"),
    ("unet", {"num_classes": 0}, "num_classes=0; expected at least 1 for a segmenter"),
    ("segresnet", {"num_classes": 0}, "num_classes=0; expected at least 1 for a segmenter"),
    ("segresnet", {"init_filters": 12}, "group norm with num_groups=8 over 12 channels"),
    ("segresnet", {"blocks_down": (2,)}, "blocks_down=(2,); expected at least two whole numbers"),
    ("segresnet", {"blocks_up": (1, 1)}, "blocks_up=(1, 1) with blocks_down=(1, 2, 2, 4); expected 3 whole numbers"),
    ("segresnet", {"upsample_mode": "pixelshuffle"}, "upsample_mode='pixelshuffle'; expected 'nontrainable' or 'deco"),
    ("segresnet", {"encoder_name": "resnet18"}, "unknown option encoder_name= for segresnet"),
    ("segresnet", {"dropout": 1}, "dropout=1; expected a number from 0 to below 1"),
    ("segresnet_ds", {"dsdepth": 4}, "dsdepth=4; expected 1 to 3, levels of the decoder"),
    ("segresnet_ds", {"resolution": (1, 0)}, "resolution=(1.0, 0.0); expected 2 numbers above 0, one per axis"),
    ("monai_unet", {"channels": (8,)}, "channels=(8,); expected at least two whole numbers of at least 1"),
    ("monai_unet", {"strides": (2, 2)}, "expected 4, one per level but the bottom"),
    ("monai_unet", {"strides": 2}, "strides=2; expected one per level but the bottom"),
    ("monai_unet", {"kernel_size": 4}, "kernel_size=(4, 4); expected odd numbers, so that padding is symmetric"),
    ("monai_unet", {"activation": "banana"}, "activation='banana'; expected one of relu"),
    ("monai_unet", {"conv_bias": "yes"}, "bias='yes'; expected True or False"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "text"), BAD, ids=[f"{b[0]}-{b[1]}" for b in BAD])
def test_the_text_says_what_was_got_and_what_was_expected(name, options, text):
    with pytest.raises(ResvoxError) as caught:
        get_blueprint(name, **options)
    assert text in str(caught.value)


def test_errors_of_options_are_value_errors_too():
    with pytest.raises(ValueError) as caught:
        get_blueprint("resnet18", stem="5x5")
    assert isinstance(caught.value, BlueprintError)


def test_lists_do_as_tuples():
    as_lists = get_blueprint("resnet26", widths=[8, 8, 8, 8], depths=[1, 1, 1, 1], strides=[1, 2, [1, 2], 2, 2])
    as_tuples = get_blueprint("resnet26", widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), strides=(1, 2, (1, 2), 2, 2))
    assert as_lists == as_tuples

import pytest

from resvox.catalog import get_blueprint

# the figures that torchvision prints for its own classes with 1000 classes
TORCHVISION = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50": 25_028_904,
    "resnext101": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "wide_resnet50": 68_883_240,
    "wide_resnet101": 126_886_696,
}
# parameters and statistics together, as Keras's count_params() has them
SEGMENTERS = [
    ("unet", {}, 42_688_179),
    ("unet", {"encoder_depth": 4}, 14_822_755),
    ("unet", {"encoder_depth": 3}, 7_070_915),
    ("unet", {"decoder_block_type": "transpose"}, 49_148_579),
    ("unet_plus_plus", {}, 61_975_043),
    ("attention_unet", {}, 42_951_767),
]


@pytest.mark.parametrize("name", TORCHVISION)
def test_classifiers_have_torchvisions_number_of_parameters(name):
    assert get_blueprint(name).parameters == TORCHVISION[name]


@pytest.mark.parametrize(("name", "options", "total"), SEGMENTERS)
def test_segmenters_have_the_documented_number_of_weights(name, options, total):
    blueprint = get_blueprint(name, encoder_name="resnet18", input_shape=(96, 96, 96, 4), num_classes=3, **options)
    assert blueprint.parameters + blueprint.statistics == total


def test_a_batch_norm_keeps_two_statistics_for_two_parameters():
    blueprint = get_blueprint("resnet18")
    norms = sum(spec.size for name, spec in blueprint.tensors().items() if ".bn" in name or name.startswith("bn"))
    shortcuts = sum(s.size for name, s in blueprint.tensors().items() if "downsample.1." in name)
    assert blueprint.statistics == (norms + shortcuts) // 2


# the figures of MONAI 1.6.1 for its own classes with the same options, over 3 axes, 1 channel and 3 classes
MONAI = [
    ("segresnet", {}, 1_176_195),
    ("segresnet_ds", {}, 19_914_179),
    ("monai_unet", {}, 4_807_482),
]


@pytest.mark.parametrize(("name", "options", "total"), MONAI)
def test_monai_networks_have_monais_number_of_parameters(name, options, total):
    assert get_blueprint(name, spatial_dims=3, in_channels=1, num_classes=3, **options).parameters == total

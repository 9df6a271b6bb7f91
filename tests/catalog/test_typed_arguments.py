"""What users of other libraries type: numbers of NumPy and PyTorch, and requests for no pretrained weights."""

import inspect

import numpy as np
import pytest
import torch

import resvox
from resvox.blueprint.choices import plain
from resvox.catalog import get_blueprint, list_models
from resvox.catalog.registry import options_of
from resvox.errors import BlueprintError

PRETRAINED = ("pretrained", "weights", "encoder_weights")


@pytest.mark.parametrize("name", list_models())
def test_no_pretrained_weights_are_no_option(name):
    plain_one = get_blueprint(name)
    for option in PRETRAINED:
        for value in (None, False, np.False_):
            assert get_blueprint(name, **{option: value}) == plain_one
        for value in (True, "imagenet", "IMAGENET1K_V2", "file.pth"):
            with pytest.raises(BlueprintError, match=rf"{option}=.*no weights come with resvox.*resvox\.load_weights"):
                get_blueprint(name, **{option: value})


@pytest.mark.parametrize("builder", ["create_model", "ResNet", "UNet", "ResNetBackbone", "ResNet18_3D"])
def test_every_way_to_build_takes_them(builder):
    build = {"create_model": lambda **options: resvox.create_model("resnet10", **options)}.get(builder)
    names = {"ResNet": ("resnet10",), "ResNetBackbone": ("resnet10",), "UNet": (), "ResNet18_3D": ()}
    build = build or (lambda **options: getattr(resvox.torch, builder)(*names[builder], **options))
    with torch.device("meta"):
        build(weights=None, pretrained=False)
        with pytest.raises(BlueprintError, match="pretrained=True"):
            build(pretrained=True)


NUMBERS = [np.int64, np.int32, np.uint8, np.array, torch.tensor]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda each: each.__name__)
def test_numbers_of_numpy_and_pytorch(number):
    given = get_blueprint("unet", spatial_dims=number(3), in_channels=number(2), num_classes=number(4),
                          encoder_depth=number(3), widths=[number(8), number(8), number(8), number(8)],
                          decoder_filters=number([8, 8, 8]) if number in NUMBERS[3:] else [number(8)] * 3,
                          norm=("group", {"num_groups": number(4)}), strides=(number(2), 2, (1, number(2), 2), 2, 2),
                          )  # fmt: skip
    wanted = get_blueprint("unet", spatial_dims=3, in_channels=2, num_classes=4, encoder_depth=3, widths=(8,) * 4,
                           decoder_filters=(8,) * 3, norm=("group", {"num_groups": 4}), strides=(2, 2, (1, 2, 2), 2, 2),
                           )  # fmt: skip
    assert given == wanted
    assert given.to_json() == wanted.to_json()
    assert given.stages(np.array([32, 33, 34])) == wanted.stages((32, 33, 34))
    assert get_blueprint("resnet18", input_shape=np.array([32, 32, 2])) == get_blueprint("resnet18", in_channels=2)


def test_floats_and_truths():
    wanted = get_blueprint("resnet18v2", drop_path=0.5, norm=("batch", {"eps": 0.25}), zero_init_residual=True)
    found = get_blueprint(
        "resnet18v2", drop_path=np.float32(0.5), norm=("batch", {"eps": np.float64(0.25)}), zero_init_residual=np.True_
    )
    assert found == wanted
    assert resvox.create_model("resnet10", features_only=np.True_, out_indices=np.array([1, 2])).chosen == [1, 2]


def test_methods_take_them_too():
    model = resvox.create_model("resnet10", widths=(4, 4, 4, 4), stem_width=4)
    model.reset_classifier(np.int64(5))
    assert model.blueprint.num_classes == 5
    assert type(model.blueprint.num_classes) is int
    with pytest.raises(BlueprintError, match=r"num_classes=2\.5"):
        model.reset_classifier(np.float64(2.5))
    assert resvox.torch.BasicBlock(np.int64(2), np.int64(3), np.int64(2)).conv1.out_channels == 3


def test_walks_and_weights_take_them_too():
    shape = np.array([1, 3, 64, 64])
    assert resvox.walkthrough("resnet10", input_shape=shape).input_shape == (1, 3, 64, 64)
    assert get_blueprint("resnet10").flops(shape[2:]) == get_blueprint("resnet10").flops((64, 64))
    small = {"widths": (4, 4, 4, 4), "stem_width": 4, "depths": (1, 1, 1, 1)}
    flat, deep = resvox.create_model("resnet10", **small), resvox.create_model("resnet10", spatial_dims=3, **small)
    resvox.load_weights(deep, flat.state_dict(), peer="torchvision", inflate="centre", inflate_axis=np.int64(1))
    assert torch.equal(deep.conv1.weight[:, :, :, 3], flat.conv1.weight)


@pytest.mark.parametrize("value", [True, 1.5, "a", None, [1, (2, 3)], {"a": 1}])
def test_pythons_own_stay_as_they_are(value):
    assert plain(value) == value
    assert type(plain(value)) is type(value)


def test_wrong_numbers_are_still_refused():
    for value in (np.int64(4), np.float64(2.0), np.array([2, 2])):
        with pytest.raises(BlueprintError, match="spatial_dims="):
            get_blueprint("resnet18", spatial_dims=value)


# --- which maps a backbone returns ------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["resnet10", "resnet18v2", "resnet50vd"])
@pytest.mark.parametrize("wanted", [(1, 2, 3), [4], (-2, -1), (0, 4), (2,), (-5, -3)])
def test_out_indices(name, dims, wanted):
    options = {"spatial_dims": dims, "widths": (4, 8, 12, 16), "stem_width": 4, "depths": (1, 1, 1, 1)}
    model = resvox.create_model(name, features_only=True, out_indices=wanted, **options).eval()
    counted = [index % 5 for index in wanted]
    image = torch.randn(1, 3, *[33] * dims)
    every = model.forward_pyramid(image)
    assert len(every) == 1 + max(counted)  # deeper stages are not built
    assert all(torch.equal(one, every[index]) for one, index in zip(model(image), counted, strict=True))
    whole = resvox.create_model(name, features_only=True, **options)
    assert model.feature_info.channels() == [whole.feature_info.channels()[index] for index in counted]
    assert model.feature_info.module_name() == [whole.feature_info.module_name()[index] for index in counted]
    kept = resvox.create_model(name, features_only=True, out_indices=wanted, encoder_depth=5, **options)
    assert len(kept.forward_pyramid(image)) == 5


def test_out_indices_are_in_the_file(tmp_path):
    model = resvox.create_model("resnet10", features_only=True, out_indices=(1, 3)).eval()
    image = torch.randn(1, 3, 40, 40)
    loaded = resvox.load_model(resvox.save_model(model, tmp_path / "model.safetensors"))
    assert [each.shape for each in loaded(image)] == [each.shape for each in model(image)]
    assert torch.equal(torch.jit.script(model)(image)[1], loaded(image)[1])
    assert "out_indices" not in get_blueprint("resnet10", features_only=True).to_json()


@pytest.mark.parametrize("wrong", [(5,), (-6,), (), 3, ("a",), (1.5,)])
def test_wrong_indices(wrong):
    with pytest.raises(BlueprintError, match=r"out_indices=.*from 0 \(P1\) to 4 \(P5\)"):
        get_blueprint("resnet18", features_only=True, out_indices=wrong)


def test_a_classifier_has_none():
    with pytest.raises(BlueprintError, match=r"out_indices= for the classifier 'resnet18'.*features_only=True"):
        get_blueprint("resnet18", out_indices=(1, 2))
    with pytest.raises(BlueprintError, match=r"unknown option out_indices="):
        get_blueprint("unet", out_indices=(1, 2))


# --- names ------------------------------------------------------------------------------------------------------


def test_a_name_for_torch_says_where_it_belongs():
    with pytest.raises(BlueprintError, match=r"name='mine' with framework='torch'.*framework='keras'"):
        resvox.create_model("resnet18", name="mine")
    with pytest.raises(BlueprintError, match=r"dtype=.*\.to\(torch\.bfloat16\)"):
        resvox.create_model("resnet18", dtype="float16")
    with pytest.raises(BlueprintError, match=r"create_model without a name"):
        resvox.create_model()
    with torch.device("meta"):
        assert resvox.create_model(name="resnet10").blueprint.name == "resnet10"
    assert "name" in inspect.signature(resvox.create_model).parameters
    assert "pretrained" not in options_of("resnet18")


# --- children, and features without a classifier ----------------------------------------------------------------

CLASSIFIERS = list_models(task="classification")


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_without_its_last_child_a_classifier_gives_features(name):
    from torch import nn

    widths = {"widths": (8, 8, 8, 8), "stem_width": 8, "depths": (1, 1, 1, 1)} if "x" not in name else {}
    model = resvox.create_model(name, num_classes=5, **widths).eval()
    image = torch.randn(1, 3, 33, 33)
    children = list(model.children())
    stripped = nn.Sequential(*children[:-1])(image)
    maps = model.forward_features(image)
    if "v2" in name:  # as in timm the head pools and classifies
        assert torch.equal(stripped, maps)
    else:
        assert torch.equal(stripped, model.forward_head(maps, pre_logits=True))
        assert torch.equal(nn.Sequential(*children[:-2])(image), maps)


@pytest.mark.parametrize("kind", [None, "softmax", "sigmoid"])
@pytest.mark.parametrize("name", ["resnet10", "resnet18v2"])
def test_reset_classifier(name, kind, tmp_path):
    widths = {"widths": (4, 4, 4, 4), "stem_width": 4, "num_classes": 10}
    model = resvox.create_model(name, output_activation=kind, **widths).eval()
    image = torch.randn(2, 3, 64, 64)
    pooled = model.forward_head(model.forward_features(image), pre_logits=True)
    model.reset_classifier(7)
    assert model(image).shape == (2, 7)
    if kind == "softmax":
        torch.testing.assert_close(model(image).sum(1), torch.ones(2))
    model.reset_classifier(0)
    assert torch.equal(model(image), pooled)
    assert model.blueprint.network.activation is None
    loaded = resvox.load_model(resvox.save_model(model, tmp_path / "model.safetensors"))
    assert torch.equal(loaded(image), pooled)
    assert torch.equal(torch.jit.script(model)(image), pooled)

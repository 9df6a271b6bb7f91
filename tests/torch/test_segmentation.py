"""Deep supervision, pruning, existing encoders, and batches that batch norm cannot take."""

import pytest
import torch

import resvox
from resvox.errors import BlueprintError
from resvox.torch.as_it_is import blueprint_as_is

THIN = {"widths": (8, 12, 16, 24), "stem_width": 8, "depths": (1, 1, 1, 1), "in_channels": 2, "num_classes": 3}
DECODER = {"decoder_filters": (16, 12, 8, 6, 4)}
NAMES = ["unet", "attention_unet", "unet_plus_plus"]


def small(name, **options):
    torch.manual_seed(0)
    return resvox.create_model(name, **{**THIN, **DECODER, **options})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dims", [2, 3])
def test_supervised_training_gives_every_level_at_the_images_size(name, dims):
    model = small(name, spatial_dims=dims, encoder_depth=4, deep_supervision=True)
    image = torch.randn(2, 2, *(37, 22, 19)[:dims])
    found = model.train()(image)
    assert len(found) == (3 if name == "unet_plus_plus" else 4)
    assert {tuple(each.shape) for each in found} == {(2, 3, *image.shape[2:])}
    sum(each.square().mean() for each in found).backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.supervision.parameters())
    assert isinstance(model.eval()(image), torch.Tensor)
    assert isinstance(torch.jit.script(model.train())(image), torch.Tensor)


@pytest.mark.parametrize("name", NAMES)
def test_supervision_changes_nothing_but_training(name):
    plain, supervised = small(name).eval(), small(name, deep_supervision=True).eval()
    supervised.load_state_dict(plain.state_dict(), strict=False)
    image = torch.randn(1, 2, 40, 33)
    assert torch.equal(plain(image), supervised(image))
    assert set(supervised.state_dict()) - set(plain.state_dict()) == {
        key for key in supervised.state_dict() if key.startswith("supervision.")
    }


@pytest.mark.parametrize("head_kernel", [1, 3])
@pytest.mark.parametrize("order", ["finest_first", "deepest_first"])
def test_a_pruned_network_gives_what_its_node_was_trained_to_give(head_kernel, order):
    model = small(
        "unet_plus_plus", deep_supervision=True, head_kernel=head_kernel, decoder_filter_order=order, norm="instance"
    )
    image = torch.randn(1, 2, 41, 38)
    found = model.train()(image)
    counts = []
    for level in (1, 2, 3, 4):
        pruned = model.pruned(level)
        assert torch.equal(pruned(image), found[4 - level])
        assert list(pruned.state_dict()) == list(pruned.blueprint.tensors())
        counts.append(pruned.blueprint.parameters)
    assert counts == sorted(set(counts))
    assert model.eval().pruned(1).training is False


def test_what_cannot_be_pruned_says_so():
    model = small("unet_plus_plus", encoder_depth=3)
    assert torch.equal(model.eval().pruned(2)(torch.ones(1, 2, 9, 9)), model(torch.ones(1, 2, 9, 9)))
    with pytest.raises(BlueprintError, match=r"without deep supervision.*deep_supervision=True"):
        model.pruned(1)
    with pytest.raises(BlueprintError, match=r"from 1 to 2"):
        model.pruned(3)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one_value_per_channel_is_refused_in_training(name):
    model = small(name).train()
    with pytest.raises(ValueError, match=r"shape \[1, 2, 32, 7\].*one value per channel.*norm='instance'"):
        model(torch.randn(1, 2, 32, 7))
    model(torch.randn(1, 2, 33, 7))
    model(torch.randn(2, 2, 32, 7))
    model.eval()(torch.randn(1, 2, 1, 1))
    small(name, norm="instance").train()(torch.randn(1, 2, 32, 7))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one_is_taken_where_no_batch_norm_has_one_value(name):
    image = torch.randn(1, 2, 32, 7)
    frozen = small(name)
    wanted = frozen.eval()(image)
    frozen.train()
    for each in frozen.modules():
        if isinstance(each, torch.nn.BatchNorm2d):
            each.eval()
    assert torch.equal(frozen(image), wanted)
    replaced = small(name).train()
    for parent in list(replaced.modules()):
        for key, child in list(parent.named_children()):
            if isinstance(child, torch.nn.BatchNorm2d):
                setattr(parent, key, torch.nn.GroupNorm(1, child.num_features))
    assert bool(replaced(image).isfinite().all())
    half = small(name).train()
    half.encoder.eval()  # the decoder's norms see larger maps
    half(image)
    half.encoder.layer4.train()
    with pytest.raises(ValueError, match=r"the batch norm encoder\.layer4\.0\.bn1 has one value"):
        half(image)


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_that_is_there_brings_its_weights(name):
    encoder = resvox.create_model("resnet18v2", **THIN).eval()
    kind = {"unet": resvox.torch.UNet, "attention_unet": resvox.torch.AttentionUNet}.get(
        name, resvox.torch.UNetPlusPlus
    )
    model = kind(encoder=encoder, encoder_depth=3, num_classes=2, decoder_filters=(8, 6, 4)).eval()
    image = torch.randn(1, 2, 30, 21)
    assert model(image).shape == (1, 2, 30, 21)
    for mine, theirs in zip(model.forward_pyramid(image), encoder.forward_pyramid(image), strict=False):
        assert torch.equal(mine, theirs)
    assert not any("layer4" in key or "head" in key for key in model.encoder.state_dict())
    made = resvox.create_model(name, encoder=encoder, encoder_depth=3, num_classes=2, decoder_filters=(8, 6, 4))
    assert list(made.state_dict()) == list(model.state_dict())
    assert torch.equal(made.encoder.stem.conv.weight, encoder.stem.conv.weight)


def test_encoders_that_are_none_are_refused():
    with pytest.raises(BlueprintError, match=r"an encoder that is a Conv2d.*ResNetBackbone"):
        resvox.torch.UNet(encoder=torch.nn.Conv2d(1, 1, 1))
    encoder = resvox.create_model("resnet10", **THIN)
    with pytest.raises(BlueprintError, match=r"encoder= and encoder_name=.*exactly one"):
        resvox.torch.UNet(encoder=encoder, encoder_name="resnet18")
    with pytest.raises(BlueprintError, match=r"encoder_depth=6"):
        resvox.torch.AttentionUNet(encoder=encoder, encoder_depth=6)
    with pytest.raises(BlueprintError, match=r"unknown option widths="):
        resvox.torch.UNetPlusPlus(encoder=encoder, widths=(1, 1, 1, 1))
    with pytest.raises(BlueprintError, match=r"spatial_dims=3.*2"):
        resvox.create_model("unet", encoder=encoder, spatial_dims=3)


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(BlueprintError, match=r"deep_supervision=True with encoder_depth=1"):
        resvox.get_blueprint("unet", encoder_depth=1, deep_supervision=True)
    with pytest.raises(BlueprintError, match=r"decoder_filter_order='widest'.*'finest_first'"):
        resvox.get_blueprint("unet_plus_plus", decoder_filter_order="widest")
    with pytest.raises(BlueprintError, match=r"unknown option decoder_filter_order="):
        resvox.get_blueprint("unet", decoder_filter_order="finest_first")


def test_auxiliary_logits_may_keep_the_size_of_their_level():
    model = resvox.create_model(
        "resenc_unet", spatial_dims=2, in_channels=1, num_classes=2, features=(4, 6, 8), strides=(1, 2, 2),
        depths=(1, 1, 1), decoder_depths=(1, 1), deep_supervision=True,
    ).train()  # fmt: skip
    x = torch.randn(2, 1, 16, 12)
    whole = model(x)
    assert [each.shape[2:] for each in whole] == [(16, 12), (16, 12)]
    model.keep_level_sizes()
    coarse = model(x)
    assert [each.shape[2:] for each in coarse] == [(16, 12), (8, 6)]
    torch.testing.assert_close(coarse[0], whole[0])
    assert blueprint_as_is(model) == model.blueprint  # it can be saved

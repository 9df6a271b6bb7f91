"""ResNet18_3D and BasicBlock in PyTorch: any size, scripts, files."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import resvox
from resvox.errors import BlueprintError
from resvox.torch import BasicBlock, ResNet18_3D

THIN = {"depths": (1, 1), "widths": (4, 8)}
SIZES = st.one_of(st.tuples(*[st.integers(1, 12)] * 2), st.tuples(*[st.integers(1, 7)] * 3))


@settings(deadline=None, max_examples=25)
@given(size=SIZES, batch=st.integers(1, 2))
def test_the_output_has_the_inputs_size_and_the_script_gives_the_same(size, batch):
    torch.manual_seed(0)
    model = ResNet18_3D(2, 3, spatial_dims=len(size), **THIN).eval()
    x = torch.randn(batch, 2, *size)
    out = model(x)
    assert out.shape == (batch, 3, *size)
    assert torch.equal(torch.jit.script(model)(x), out)


def test_hooks_see_the_blueprints_shapes():
    model = ResNet18_3D(2, 3, **THIN).eval()
    seen = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda m, i, o, name=name: seen.update({name: tuple(o.shape)}))
    model(torch.randn(1, 2, 5, 6, 7))
    rows = {row.name: row for stage in model.blueprint.stages((5, 6, 7)) for row in stage.walk() if not row.children}
    del rows["head.3"]
    for name, row in rows.items():
        # what leaves the transposed convolution is cut afterwards
        assert seen[name] == row.output_shape, name
    assert seen["head"] == (1, 3, 5, 6, 7)
    assert seen["up"] == (1, 4, 6, 6, 8)


def test_a_scripted_model_is_saved_and_loaded(tmp_path):
    model = ResNet18_3D(in_channels=1, out_channels=2, **THIN)
    torch.jit.script(model).save(tmp_path / "model.pt")
    loaded = torch.jit.load(tmp_path / "model.pt").eval()
    x = torch.randn(2, 1, 5, 4, 3)
    assert torch.equal(loaded(x), model.eval()(x))


def test_a_model_file_brings_it_back(tmp_path):
    model = ResNet18_3D(1, 2, **THIN).eval()
    loaded = resvox.load_model(resvox.save_model(model, tmp_path / "model.safetensors"))
    x = torch.randn(1, 1, 5, 4, 3)
    assert isinstance(loaded, ResNet18_3D)
    assert torch.equal(loaded(x), model(x))


def test_names_and_counts_are_the_blueprints():
    model = ResNet18_3D()
    assert sum(p.numel() for p in model.parameters()) == model.blueprint.parameters
    names = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    assert names == list(model.blueprint.tensors())
    assert "layers.1.0.downsample.0.weight" in names


def test_gradient_reaches_every_parameter():
    model = ResNet18_3D(2, 3, shortcut="zero_pad", **THIN)
    model(torch.randn(2, 2, 5, 5, 5)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_one_voxel_in_training_is_pytorchs_own_error():
    model = ResNet18_3D(1, 1, **THIN)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        model(torch.randn(1, 1, 1, 1, 1))
    assert model.eval()(torch.randn(1, 1, 1, 1, 1)).shape == (1, 1, 1, 1, 1)


@pytest.mark.parametrize(("stride", "size"), [(1, (5, 6, 7)), (2, (3, 3, 4)), ((1, 2, 2), (5, 3, 4))])
def test_a_basic_block_of_its_own(stride, size):
    block = BasicBlock(3, 5, stride).eval()
    x = torch.randn(2, 3, 5, 6, 7)
    assert block(x).shape == (2, 5, *size)
    assert torch.equal(torch.jit.script(block)(x), block(x))


def test_a_block_that_changes_nothing_has_no_projection_and_starts_positive():
    block = BasicBlock(4, 4).eval()
    assert isinstance(block.downsample, torch.nn.Identity)
    block.bn2.weight.data.zero_()
    x = torch.randn(1, 4, 3, 3, 3)
    assert torch.equal(block(x), x.clamp(min=0))


def test_a_flat_block_takes_another_norm():
    block = BasicBlock(3, 4, 2, spatial_dims=2, norm="instance", activation="silu")
    assert block(torch.randn(2, 3, 7, 6)).shape == (2, 4, 4, 3)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in block.modules())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 4), "in_channels=0"),
        ((4, 2.0), "out_channels=2.0"),
        ((4, 4, (2, 2)), "stride=(2, 2)"),
        ((4, 4, 0), "stride=0"),
    ],
)
def test_a_block_refuses_numbers_that_are_none(arguments, text):
    with pytest.raises(BlueprintError) as caught:
        BasicBlock(*arguments)
    assert str(caught.value).startswith(text)


def test_a_layer_has_as_many_blocks_as_asked():
    layer = ResNet18_3D()._make_layer(3, 5, 3, stride=2)
    assert [type(block) for block in layer] == [BasicBlock] * 3
    assert layer(torch.randn(1, 3, 5, 5, 5)).shape == (1, 5, 3, 3, 3)


def test_create_model_gives_the_class_and_arguments_beside_a_blueprint_are_refused():
    model = resvox.create_model("resnet18_3d", spatial_dims=2, in_channels=1, out_channels=2, **THIN)
    assert isinstance(model, ResNet18_3D)
    assert ResNet18_3D(blueprint=model.blueprint).blueprint == model.blueprint
    with pytest.raises(BlueprintError, match="a blueprint and channels or dims of its own"):
        ResNet18_3D(1, 2, blueprint=model.blueprint)
    with pytest.raises(BlueprintError, match=r"a blueprint and arguments \['norm'\]"):
        ResNet18_3D(blueprint=model.blueprint, norm="batch")
    with pytest.raises(BlueprintError, match="unknown option dropout="):
        ResNet18_3D(1, 2, dropout=0.5)

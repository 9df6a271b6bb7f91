"""Every option is honoured in every layer: read from the blueprint, seen in the module."""

import pytest
import torch
from laws.checks import check_no_batch_norm
from laws.networks import RESIDUAL, RESIDUAL_ROWS, UNETS, ids, thin, thin_blueprint
from torch import nn

from resvox.blueprint.blocks import (
    BasicBlock,
    BottleneckBlock,
    PreActBasicBlock,
    PreActBottleneckBlock,
    SqueezeExcitation,
    ZeroPadShortcut,
)
from resvox.blueprint.leaves import Activation, Conv, DropPath, MaxPool, Norm
from resvox.errors import BlueprintError
from resvox.torch.unet import UNetDecoderBlock

BLOCKS = (BasicBlock, BottleneckBlock, PreActBasicBlock, PreActBottleneckBlock)
EVERY = pytest.mark.parametrize(("name", "dims"), RESIDUAL_ROWS)
BOTTLENECKS = [name for name, row in RESIDUAL.items() if row.block == "bottleneck"]
BASICS = [name for name, row in RESIDUAL.items() if row.block == "basic"]


def walk(node):
    yield node
    for _, child in node.children():
        yield from walk(child)


def nodes(blueprint, kind):
    return [node for node in walk(blueprint.network) if isinstance(node, kind)]


def last_conv(block):
    return block.conv3 if isinstance(block, (BottleneckBlock, PreActBottleneckBlock)) else block.conv2


@EVERY
@pytest.mark.parametrize("kind", ["instance", "group"])
def test_norm_leaves_no_batch_norm(kind, name, dims):
    model = thin(name, dims, norm=(kind, {"eps": 1e-3}))
    check_no_batch_norm(model, kind)
    assert {(norm.kind, norm.eps) for norm in nodes(model.blueprint, Norm)} == {(kind, 1e-3)}
    assert {m.eps for m in model.modules() if isinstance(m, (nn.GroupNorm, nn.modules.batchnorm._NormBase))} == {1e-3}
    assert not any("running" in key for key in model.state_dict())


@pytest.mark.parametrize(("name", "options"), UNETS, ids=ids)
def test_norm_reaches_both_halves_of_a_unet(name, options):
    model = thin(name, 3, norm="instance", **options)
    check_no_batch_norm(model, "instance")
    plain = thin(name, 3, **{**options, "decoder_normalization": None})
    assert not any(isinstance(m, nn.modules.batchnorm._NormBase) for m in plain.decoder.modules())
    assert any(isinstance(m, nn.BatchNorm3d) for m in plain.encoder.modules())
    blocks = [module for module in plain.decoder.modules() if isinstance(module, UNetDecoderBlock)]
    assert blocks
    assert all(block.conv1.bias is not None for block in blocks)


def test_a_left_over_batch_norm_is_seen():
    model = thin("resnet18", 2, norm="group")
    model.layer3[0].downsample[1] = nn.BatchNorm2d(24)
    with pytest.raises(AssertionError, match="BatchNorm2d"):
        check_no_batch_norm(model, "group")


@EVERY
def test_activation_reaches_every_layer(name, dims):
    model = thin(name, dims, activation=("leaky_relu", {"negative_slope": 0.3}))
    found = {(a.kind, a.slope) for a in nodes(model.blueprint, Activation)}
    gates = {("sigmoid", 0.0)} if RESIDUAL[name].se_ratio else set()
    assert found == {("leaky_relu", 0.3)} | gates
    kinds = {type(m).__name__ for m in model.modules()}
    assert "LeakyReLU" in kinds
    assert "ReLU" not in kinds
    assert {m.negative_slope for m in model.modules() if isinstance(m, nn.LeakyReLU)} == {0.3}


@EVERY
def test_stem_is_the_one_asked_for(name, dims):
    for stem, kernels, stride in (("7x7", [7], 2), ("deep", [3, 3, 3], 2), ("3x3", [3], 1)):
        blueprint = thin_blueprint(name, dims, stem=stem, stem_width=12)
        network = blueprint.network
        root = network.stem if RESIDUAL[name].preactivation else network.conv1
        convs = [node for node in walk(root) if isinstance(node, Conv)]
        assert [conv.kernel for conv in convs] == [(k,) * dims for k in kernels]
        assert [conv.stride for conv in convs] == [(stride,) * dims] + [(1,) * dims] * (len(convs) - 1)
        assert convs[-1].out_channels == 12
        assert (network.maxpool is None) == (stem == "3x3")
        size = (64,) * dims
        assert {max(row.stride) for row in blueprint.stages(size)} >= {8 if stem == "3x3" else 32}
    wide = thin_blueprint(name, dims, stem="7x7", stem_kernel=(3, 5, 7)[-dims:])
    assert next(c for c in nodes(wide, Conv)).kernel == (3, 5, 7)[-dims:]


@EVERY
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_output_stride_dilates_what_no_longer_strides(output_stride, name, dims):
    blueprint = thin_blueprint(name, dims, output_stride=output_stride, depths=(2, 2, 2, 2))
    size = (67,) * dims
    last = [row for row in blueprint.stages(size) if row.operation.startswith("residual stage")]
    assert [row.stride[0] for row in last] == [min(s, output_stride) for s in (4, 8, 16, 32)]
    assert last[-1].output_shape[2:] == (-(-67 // output_stride),) * dims
    for row, wanted in zip(last, (1, 1, *{32: (1, 1), 16: (1, 2), 8: (2, 4)}[output_stride]), strict=True):
        second = [each for each in row.children[1].walk() if each.operation.startswith("x".join("3" * dims))]
        assert second
        for each in second:
            assert (f"dilation {wanted}" in each.operation) == (wanted > 1), each
    assert all(conv.dilation == (1,) * dims for conv in nodes(blueprint, Conv) if max(conv.kernel) == 1)


@EVERY
def test_strides_are_kept_per_axis(name, dims):
    strides = ((1, 2, 2)[-dims:], 2, (2, 1, 2)[-dims:], 1, (1, 1, 2)[-dims:])
    blueprint = thin_blueprint(name, dims, strides=strides)
    stages = [row for row in blueprint.stages((64,) * dims) if row.operation.startswith("residual stage")]
    whole = [(2, 4, 4), (4, 4, 8), (4, 4, 8), (4, 4, 16)]
    assert [row.stride for row in stages] == [each[-dims:] for each in whole]
    assert thin_blueprint(name, dims, strides=(1, 1, 1, 1, 1)).network.maxpool is None
    half = thin_blueprint(name, dims, strides=(1, (1, 2, 2)[-dims:], 1, 1, 1)).network.maxpool
    assert isinstance(half, MaxPool)
    assert half.kernel == tuple(3 if s == 2 else 1 for s in half.stride)


@EVERY
def test_se_ratio_gates_every_block(name, dims):
    widths, ratio = (32, 64, 64, 128), 4
    blueprint = thin_blueprint(name, dims, se_ratio=ratio, widths=widths)
    blocks = nodes(blueprint, BLOCKS)
    for block in blocks:
        assert block.se is not None
        out = last_conv(block).out_channels
        assert (block.se.fc1.in_channels, block.se.fc1.out_channels, block.se.fc2.out_channels) == (
            out, max(8, out // ratio), out,
        )  # fmt: skip
    model = thin(name, dims, se_ratio=ratio)
    assert sum(type(m).__name__ == "SqueezeExcitation" for m in model.modules()) == len(blocks)
    assert nodes(thin_blueprint(name, dims, se_ratio=None), SqueezeExcitation) == []


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_groups_and_width_reach_every_bottleneck(name):
    blueprint = thin_blueprint(name, 3, groups=2, width_per_group=96, widths=(16, 32, 48, 64))
    for block, width in zip(nodes(blueprint, BLOCKS), (16, 32, 32, 48, 64), strict=True):
        inner = int(width * 96 / 64) * 2
        assert (block.conv2.groups, block.conv2.in_channels, block.conv2.out_channels) == (2, inner, inner)
        assert (block.conv1.out_channels, block.conv3.in_channels) == (inner, inner)
        assert block.conv3.out_channels == 4 * width


@pytest.mark.parametrize("name", BASICS)
def test_basic_blocks_refuse_groups(name):
    with pytest.raises(BlueprintError, match="groups=2, width_per_group=64 with basic blocks"):
        thin_blueprint(name, 2, groups=2)


@EVERY
def test_drop_path_rises_linearly_from_nothing(name, dims):
    blueprint = thin_blueprint(name, dims, drop_path=0.3, depths=(2, 1, 2, 1))
    rates = [block.droppath.rate if block.droppath else 0.0 for block in nodes(blueprint, BLOCKS)]
    assert rates == pytest.approx([0.3 * i / 5 for i in range(6)])
    model = thin(name, dims, drop_path=0.3, depths=(2, 1, 2, 1))
    seen = [m.rate for m in model.modules() if type(m).__name__ == "DropPath"]
    assert seen == pytest.approx([0.3 * i / 5 for i in range(1, 6)])
    assert nodes(thin_blueprint(name, dims), DropPath) == []


@EVERY
def test_zero_init_residual_starts_every_block_as_its_shortcut(name, dims):
    model = thin(name, dims, zero_init_residual=True, widths=(8, 8, 8, 8), depths=(2, 1, 1, 1))
    for module in model.modules():  # the statistics of a new network: the zero weight alone is to be seen
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
    for path, module in model.named_modules():
        if type(module).__name__ not in {kind.__name__ for kind in BLOCKS}:
            continue
        channels = (module.norm1 if RESIDUAL[name].preactivation else module.conv1).weight.shape
        channels = channels[0] if RESIDUAL[name].preactivation else channels[1]
        x = torch.rand(1, channels, *(4,) * dims)
        with torch.no_grad():
            if RESIDUAL[name].preactivation:
                wanted = module.downsample(module.act1(module.norm1(x))) if module.projects else x
            else:
                wanted = module.downsample(x).relu()
            assert torch.equal(module(x.clone()), wanted), path
    usual = thin(name, dims, widths=(8, 8, 8, 8))
    branches = [m for m in usual.modules() if type(m).__name__ in {kind.__name__ for kind in BLOCKS}]
    assert all(bool((p != 0).any()) for m in branches for n, p in m.named_parameters() if n.endswith("weight"))


@EVERY
def test_zero_pad_leaves_no_convolution_in_a_shortcut(name, dims):
    blueprint = thin_blueprint(name, dims, shortcut="zero_pad")
    assert not any("downsample" in tensor for tensor in blueprint.tensors())
    shortcuts = [block.downsample for block in nodes(blueprint, BLOCKS) if block.downsample is not None]
    assert shortcuts
    assert all(isinstance(shortcut, ZeroPadShortcut) for shortcut in shortcuts)
    model = thin(name, dims, shortcut="zero_pad")
    pads = [m for m in model.modules() if type(m).__name__ == "ZeroPad"]
    assert len(pads) == len(shortcuts)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_zero_padded_shortcut_is_every_second_voxel_and_zeros(dims):
    model = thin("resnet18", dims, shortcut="zero_pad")
    x = torch.randn(2, 8, *(5, 6, 7)[:dims])
    out = model.layer2[0].downsample(x)
    assert torch.equal(out[:, :8], x[(..., *(slice(None, None, 2),) * dims)])
    assert torch.equal(out[:, 8:], torch.zeros_like(out[:, 8:]))
    assert out.shape[1] == 16

"""The field of the blueprint is where the gradient of the centre voxel is not zero.

The network is the blueprint's own with what hides a path taken away: norms become nothing (theirs is every voxel),
max pooling averages (it passes gradient to one voxel of a window), all weights are positive and so is the input, so
that no rectifier closes and no two paths cancel; no squeeze and excitation. In double precision, with weights that keep
the size of a signal, the smallest gradient at a field's corner is far above zero's neighbourhood.
"""

import pytest
import torch
from laws.networks import thin_blueprint
from torch import nn

from resvox.torch import build

TINY = {"widths": (2, 2, 2, 2), "stem_width": 2, "features_only": True, "in_channels": 1}
SAMPLE = [
    ("resnet10", 2, {}),
    ("resnet18", 2, {"depths": (2, 2, 2, 2)}),
    ("resnet26", 2, {}),
    ("resnet18v2", 2, {}),
    ("resnet50v2", 2, {}),
    ("resnet18vd", 2, {}),
    ("resnet50vd", 2, {}),
    ("resnext50", 2, {"groups": 2, "widths": (4, 4, 4, 4), "width_per_group": 32}),
    ("resnet18", 2, {"output_stride": 8}),
    ("resnet26", 2, {"output_stride": 16}),
    ("resnet18", 2, {"shortcut": "zero_pad"}),
    ("resnet18", 2, {"stem": "3x3"}),
    ("resnet18", 2, {"strides": (1, 2, 2, 1, 2)}),
    ("resnet10", 3, {"strides": (1, (1, 2, 2), (1, 2, 2), 2, 1), "encoder_depth": 3}),
    ("resnet10", 3, {"strides": (1, 1, (1, 2, 2), (2, 1, 1), 1), "encoder_depth": 4, "stem_kernel": (1, 3, 3)}),
    ("resnet18v2", 3, {"encoder_depth": 2}),
    ("resnet18vd", 3, {"encoder_depth": 3, "strides": ((1, 2, 2), 1, 2, 2, 2)}),
]


def bare(module):
    """The same paths without norms, with pooling that averages and weights of one sign."""
    for name, child in module.named_children():
        if isinstance(child, (nn.BatchNorm2d, nn.BatchNorm3d)):
            setattr(module, name, nn.Identity())
        elif isinstance(child, (nn.MaxPool2d, nn.MaxPool3d)):
            kind = nn.AvgPool2d if isinstance(child, nn.MaxPool2d) else nn.AvgPool3d
            setattr(module, name, kind(child.kernel_size, child.stride, child.padding))
        else:
            bare(child)
    for parameter in module.parameters(recurse=False):
        nn.init.constant_(parameter, 1.0 / parameter[0].numel())
    return module


def field_seen(model, dims, size):
    """The extent of the gradient of the centre voxel of the deepest map, per axis."""
    x = torch.ones(1, 1, *size, dtype=torch.float64).requires_grad_()
    deepest = model(x)[-1]
    centre = tuple(n // 2 for n in deepest.shape[2:])
    deepest[(0, 0, *centre)].backward()
    touched = x.grad[0, 0] != 0
    extents = []
    for axis in range(dims):
        line = touched.movedim(axis, 0).flatten(1).any(1).nonzero()
        extents.append(int(line.max() - line.min()) + 1)
    return tuple(extents)


def field_told(blueprint, size):
    return deepest_stage(blueprint, size).receptive_field


def deepest_stage(blueprint, size):
    return [row for row in blueprint.stages(size) if row.operation.startswith("residual stage")][-1]


def roomy(blueprint):
    """A size at whose centre no field meets the border."""
    row = deepest_stage(blueprint, (64,) * blueprint.spatial_dims)
    return tuple(field + 2 * stride for field, stride in zip(row.receptive_field, row.stride, strict=True))


@pytest.mark.parametrize(("name", "dims", "options"), SAMPLE)
def test_the_field_is_where_the_gradient_is(name, dims, options):
    blueprint = thin_blueprint(name, dims, **{**TINY, "num_classes": None, **options})
    size = roomy(blueprint)
    model = bare(build(blueprint)).double()
    assert field_seen(model, dims, size) == field_told(blueprint, size)


def test_another_dilation_is_seen():
    blueprint = thin_blueprint("resnet18", 2, **{**TINY, "num_classes": None})
    model = bare(build(blueprint)).double()
    conv = model.layer1[0].conv2
    conv.dilation, conv.padding = (2, 2), (2, 2)
    size = roomy(blueprint)
    assert field_seen(model, 2, size) != field_told(blueprint, size)


UPS = [{}, {"decoder_interpolation": "linear"}, {"decoder_block_type": "transpose"}]


@pytest.mark.parametrize("options", UPS)
def test_a_unets_field_holds_every_gradient(options):
    """An upsampled voxel's field depends on its place in the cell above: the blueprint tells one that holds all."""
    blueprint = thin_blueprint(
        "unet", 2, encoder_name="resnet10", encoder_depth=2, in_channels=1, widths=(2, 2, 2, 2), stem_width=2,
        decoder_filters=(2, 2), **options,
    )  # fmt: skip
    size = (128, 128)
    rows = {row.name: row for top in blueprint.stages(size) for row in top.walk()}
    model = bare(build(blueprint)).double()
    widest = 0
    for row in range(64, 68):
        x = torch.ones(1, 1, *size, dtype=torch.float64).requires_grad_()
        model(x)[0, 0, row, 64].backward()
        line = x.grad[0, 0].any(1).nonzero()
        widest = max(widest, int(line.max() - line.min()) + 1)
    assert rows["head"].receptive_field[0] - 6 <= widest <= rows["head"].receptive_field[0]

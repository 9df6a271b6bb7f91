"""Programs of torch.export and ONNX files with open spatial sizes answer as the model does, at sizes never shown.

The example is larger than 32 voxels per side, as PyTorch's export holds an axis of one voxel for another program: the
deepest map must have two.
"""

import pytest
import torch
from laws.networks import RESIDUAL_ROWS, ROWS, SEGMENTATION, ids, thin

from resvox.catalog import get_blueprint
from resvox.torch import build

EXAMPLE = {2: (37, 46), 3: (37, 46, 41)}
OTHERS = {2: [(64, 33), (35, 70)], 3: [(64, 33, 48), (35, 40, 33)]}
SHALLOW = {"depths": (1, 1, 1, 1)}
SAMPLE = [
    ("resnet26", 2, {"se_ratio": 4, "shortcut": "zero_pad", **SHALLOW}),
    ("resnet50v2", 3, {"stem": "deep", **SHALLOW}),
    ("resnet18vd", 3, SHALLOW),
    ("unet", 2, {"encoder_name": "resnet10", "decoder_interpolation": "linear", **SHALLOW}),
    ("unet", 3, {"encoder_name": "resnet18v2", "encoder_depth": 4, "decoder_block_type": "transpose", **SHALLOW}),
    ("resnet18_3d", 3, {"depths": (1, 1)  , "widths": (6, 8)}),
]  # fmt: skip
ONNX = [SAMPLE[0], SAMPLE[2], SAMPLE[4]]


def open_sizes(dims):
    return ({axis: torch.export.Dim.DYNAMIC for axis in range(dims + 2) if axis != 1},)


def example(dims):
    return torch.randn(2, 3, *EXAMPLE[dims])


def check_export(model, dims):
    """One program for every size above 32 voxels, odd and even."""
    program = torch.export.export(model, (example(dims),), dynamic_shapes=open_sizes(dims)).module()
    for batch, size in enumerate([EXAMPLE[dims], *OTHERS[dims]], start=1):
        x = torch.randn(batch, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(program(x), model(x), rtol=1e-5, atol=1e-6)


def check_onnx(model, dims):
    """One ONNX file for every size; onnxruntime agrees to 1e-4 of the largest value."""
    import onnxruntime

    program = torch.onnx.export(model, (example(dims),), dynamo=True, dynamic_shapes=open_sizes(dims), verbose=False)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), settings)
    for batch, size in enumerate([EXAMPLE[dims], *OTHERS[dims]], start=1):
        x = torch.randn(batch, 3, *size)
        (theirs,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            ours = model(x)
        assert theirs.shape == tuple(ours.shape)
        assert float((torch.from_numpy(theirs) - ours).abs().max()) <= 1e-4 * float(ours.abs().max())


@pytest.mark.parametrize(("name", "dims", "options"), SAMPLE, ids=ids)
def test_one_program_for_every_size(name, dims, options):
    check_export(thin(name, dims, **options), dims)


@pytest.mark.parametrize(("name", "dims", "options"), ONNX, ids=ids)
def test_onnxruntime_agrees_at_every_size(name, dims, options):
    check_onnx(thin(name, dims, **options), dims)


class SizeOfTheExample(torch.nn.Module):
    """A network that holds on to one size: what an export of a slice or a reshape may do."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(x) * (2.0 if x.shape[2] % 2 else 1.0)


def test_a_program_bound_to_odd_sizes_is_seen():
    with pytest.raises(AssertionError):
        check_export(SizeOfTheExample(), 2)


@pytest.mark.laws
@pytest.mark.parametrize(("name", "dims"), ROWS)
def test_every_row_exports(name, dims):
    model = thin(name, dims)
    check_export(model, dims)
    check_onnx(model, dims)


@pytest.mark.laws
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("name", "options"), SEGMENTATION, ids=ids)
def test_every_way_of_a_unet_exports(name, options, dims):
    model = thin(name, dims, **options)
    check_export(model, dims)
    check_onnx(model, dims)


@pytest.mark.laws
@pytest.mark.parametrize(("name", "dims"), RESIDUAL_ROWS)
def test_every_row_becomes_onnx_at_full_size(name, dims):
    check_onnx(build(get_blueprint(name, spatial_dims=dims)).eval(), dims)

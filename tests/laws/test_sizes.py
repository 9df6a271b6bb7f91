"""Any size from one voxel up: the output has its shape and is finite."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws.networks import ROWS, SEGMENTATION, ids, outputs, thin

FLAT = st.tuples(st.integers(1, 40), st.integers(1, 40))
DEEP = st.tuples(*[st.integers(1, 17)] * 3)
KINDS = [
    ("resnet18", {}),
    ("resnet26", {"output_stride": 8}),
    ("resnet50v2", {}),
    ("resnet18vd", {}),
    ("seresnet18", {"shortcut": "zero_pad"}),
    ("resnext50", {"norm": "instance"}),
    ("resnet18v2", {"norm": "group", "stem": "3x3"}),
    *SEGMENTATION,
    ("resnet18_3d", {}),
]


def check_size(model, dims, size):
    with torch.no_grad():
        result = outputs(model(torch.randn(1, 3, *size)))
    blueprint = model.blueprint
    wanted = (1, blueprint.num_classes, *(size if blueprint.task != "classification" else ()))
    assert [tuple(each.shape) for each in result] == [wanted]
    assert all(bool(each.isfinite().all()) for each in result)


@pytest.mark.parametrize(("name", "options"), KINDS, ids=ids)
@pytest.mark.parametrize("dims", [2, 3])
def test_any_size(name, options, dims):
    model = thin(name, dims, **options)

    @settings(max_examples=15, deadline=None)
    @given(size=FLAT if dims == 2 else DEEP)
    def holds(size):
        check_size(model, dims, size)

    holds()


@pytest.mark.parametrize(("name", "dims"), ROWS)
def test_one_voxel_and_a_line(name, dims):
    model = thin(name, dims)
    for size in ((1,) * dims, (1, 33, 1)[-dims:]):
        check_size(model, dims, size)


@pytest.mark.laws
@pytest.mark.parametrize(("name", "options"), SEGMENTATION, ids=ids)
@pytest.mark.parametrize("dims", [2, 3])
def test_two_hundred_sizes(name, options, dims):
    model = thin(name, dims, **options)

    @settings(max_examples=200, deadline=None)
    @given(size=st.tuples(*[st.integers(1, 40)] * dims))
    def holds(size):
        check_size(model, dims, size)

    holds()


def test_every_small_size_of_a_unet():
    model = thin("unet", 2)
    for height in range(1, 41):
        check_size(model, 2, (height, 41 - height))


def test_a_map_that_is_not_cut_is_seen():
    model = thin("unet", 2)
    model.decoder.blocks[4].register_forward_hook(lambda module, given, out: torch.nn.functional.pad(out, [0, 1]))
    with pytest.raises(AssertionError):
        check_size(model, 2, (33, 33))

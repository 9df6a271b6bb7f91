"""Each transform beside MONAI's running code: spacing and its way back, cropping, intensities."""

from __future__ import annotations

import copy

import monai.transforms as theirs
import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms.utils import convert_applied_interp_mode
from scipy.spatial.transform import Rotation

from resvox.errors import PlanError, VolumeError
from resvox.preprocessing import MonaiPreprocessing, preprocessing_of
from resvox.preprocessing.monai import (
    CropForeground,
    NormalizeIntensity,
    Orientation,
    ScaleIntensity,
    ScaleIntensityRange,
    Spacing,
)
from resvox.volumes import Volume, read_volume

SPACINGS = st.sampled_from([0.5, 0.7, 0.75, 0.9765625, 1.0, 1.5, 2.5, 3.0])
RNG = np.random.default_rng(0)


@st.composite
def scans(draw):
    """An array (x, y, z) with an affine in any of the 48 orientations."""
    shape = draw(st.tuples(*[st.integers(2, 14)] * 3))
    spacing = draw(st.tuples(SPACINGS, SPACINGS, SPACINGS))
    axes, signs = draw(st.permutations(range(3))), draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    matrix = np.zeros((3, 3))
    for place, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        matrix[axis, place] = sign
    affine = np.eye(4)
    affine[:3, :3] = matrix * spacing
    affine[:3, 3] = (10.0, -20.0, 30.0)
    return draw(st.integers(0, 99)), shape, affine


def written(folder, seed, shape, affine):
    path = folder / "scan.nii.gz"
    array = np.random.default_rng(seed).normal(0, 300, shape).astype(np.float32)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def both(path, pixdim, axcodes="RAS"):
    """MONAI's transforms with what they made, and ours."""
    turn = [theirs.Orientation(axcodes=axcodes)] if axcodes else []
    made = theirs.Compose([theirs.LoadImage(), theirs.EnsureChannelFirst(), *turn, theirs.Spacing(pixdim)])
    own = [Orientation(axcodes=axcodes)] if axcodes else []
    prepared = MonaiPreprocessing(transforms=(*own, Spacing(pixdim=pixdim))).apply(read_volume(path))
    return made, made(str(path)), prepared


def inverse(transforms, made, array, *, nearest):
    """An array on the grid of ``made`` brought back by MONAI, in our order of axes."""
    tensor = MetaTensor(torch.tensor(array), meta=copy.deepcopy(made.meta))
    tensor.applied_operations = copy.deepcopy(made.applied_operations)
    if nearest:
        tensor.applied_operations = convert_applied_interp_mode(tensor.applied_operations, mode="nearest")
    return np.transpose(transforms.inverse(tensor).numpy(), (0, 3, 2, 1))


@settings(deadline=None, max_examples=20)
@given(scan=scans(), pixdim=st.tuples(*[st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0])] * 3), turned=st.booleans())
def test_spacing_and_its_way_back_are_those_of_monai(tmp_path_factory, scan, pixdim, turned):
    seed, shape, affine = scan
    path = written(tmp_path_factory.mktemp("scan"), seed, shape, affine)
    transforms, made, prepared = both(path, pixdim, "RAS" if turned else "")
    assert prepared.array.shape == tuple(made.shape)
    np.testing.assert_allclose(prepared.array, made.numpy(), atol=1e-3)  # of 300: the rounding of float32
    scores = np.random.default_rng(seed).normal(size=(2, *prepared.grid.shape)).astype(np.float32)
    found = prepared.restore_scores(scores).array
    np.testing.assert_allclose(found, inverse(transforms, made, scores, nearest=False), atol=1e-5)
    labels = np.random.default_rng(seed).integers(0, 9, prepared.grid.shape)
    back = inverse(transforms, made, labels[None].astype(np.float32), nearest=True)[0]
    wrong = prepared.restore_labels(labels).array != back
    assert not wrong[~half_way(prepared, wrong.shape)].any()


def half_way(prepared, shape):
    """The voxels of a scan that lie half-way between two of the network's along some axis: either one is the nearest.

    Which one PyTorch takes is the rounding of the last bit of a product of matrices, which depends on their sizes.
    """
    step = prepared.steps[-1]
    grids = np.meshgrid(*(np.abs(each % 1 - 0.5) < 1e-9 for each in step.places()), indexing="ij")
    tied = np.any(grids, axis=0)[None]
    for earlier in reversed(prepared.steps[:-1]):
        tied = earlier.inverse(tied, "labels")
    assert tied[0].shape == shape
    return tied[0]


@pytest.mark.parametrize("seed", range(6))
def test_a_rotated_scan_is_put_where_monai_puts_it(tmp_path, seed):
    # in float32 its axes are not quite at right angles, so that MONAI puts middle upon middle, not corner upon corner
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-0.3, 0.3, 3)).as_matrix() * (0.7, 0.8, 3.0)
    path = written(tmp_path, seed, (12, 15, 9), affine)
    transforms, made, prepared = both(path, (1.3, 1.5, 2.0))
    assert prepared.array.shape == tuple(made.shape)
    np.testing.assert_allclose(prepared.array, made.numpy(), atol=0.02)  # the shear of 1e-7 that MONAI keeps
    scores = rng.normal(size=(2, *prepared.grid.shape)).astype(np.float32)
    found = prepared.restore_scores(scores).array
    np.testing.assert_allclose(found, inverse(transforms, made, scores, nearest=False), atol=1e-4)


def test_a_spacing_of_almost_the_same_number_changes_nothing(tmp_path):
    path = written(tmp_path, 0, (5, 6, 7), np.diag([1.0005, 1.0, 2.0, 1.0]))
    _, made, prepared = both(path, (1.0, 1.0, 2.0))
    np.testing.assert_array_equal(prepared.array, made.numpy())
    assert prepared.grid.shape == (5, 6, 7)


def of_ours(transform, array):
    """(channels, x, y, z) through one of our transforms, in the same order of axes."""
    ours = np.transpose(array, (0, 3, 2, 1))
    return MonaiPreprocessing(transforms=(transform,)).apply(Volume(ours, spacing_mm=(1.0, 1.0, 1.0))).array


FLAGS, NUMBERS = st.booleans(), st.floats(-5, 5, width=32)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 99), nonzero=FLAGS, channel_wise=FLAGS, given_numbers=FLAGS, channels=st.integers(1, 3))
def test_normalizing_is_that_of_monai(seed, nonzero, channel_wise, given_numbers, channels):
    array = np.random.default_rng(seed).normal(40, 300, (channels, 5, 6, 4)).astype(np.float32)
    array[:, :2] = 0
    count = channels if channel_wise else 1
    numbers = {"subtrahend": (3.0, 5.0, 7.0)[:count], "divisor": (2.0, 0.0, 9.0)[:count]} if given_numbers else {}
    if given_numbers and not channel_wise:
        of_theirs = {name: values[0] for name, values in numbers.items()}
    else:
        of_theirs = dict(numbers)
    made = theirs.NormalizeIntensity(nonzero=nonzero, channel_wise=channel_wise, **of_theirs)(torch.tensor(array))
    ours = of_ours(NormalizeIntensity(nonzero=nonzero, channel_wise=channel_wise, **numbers), array)
    np.testing.assert_allclose(ours, made.numpy(), rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(minv=st.none() | NUMBERS, maxv=st.none() | NUMBERS, factor=st.none() | NUMBERS, channel_wise=FLAGS)
def test_scaling_is_that_of_monai(minv, maxv, factor, channel_wise):
    array = np.random.default_rng(1).normal(40, 300, (2, 5, 6, 4)).astype(np.float32)
    array[1] = 3.0  # a uniform channel
    made = theirs.ScaleIntensity(minv, maxv, factor, channel_wise=channel_wise)(torch.tensor(array)).numpy()
    ours = of_ours(ScaleIntensity(minv=minv, maxv=maxv, factor=factor, channel_wise=channel_wise), array)
    np.testing.assert_allclose(ours, made, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(a=st.tuples(NUMBERS, NUMBERS), b=st.tuples(st.none() | NUMBERS, st.none() | NUMBERS), clip=FLAGS)
def test_a_range_is_scaled_as_by_monai(a, b, clip):
    if clip and None not in b and b[0] > b[1]:
        b = (b[1], b[0])
    clip = clip and b != (None, None)  # which MONAI cannot do
    array = np.random.default_rng(1).normal(0, 3, (1, 5, 6, 4)).astype(np.float32)
    made = theirs.ScaleIntensityRange(*a, *b, clip=clip)(torch.tensor(array)).numpy()
    ours = of_ours(ScaleIntensityRange(a_min=a[0], a_max=a[1], b_min=b[0], b_max=b[1], clip=clip), array)
    np.testing.assert_allclose(ours, made, rtol=2e-6, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 99), margin=st.integers(0, 4), divisor=st.integers(1, 5), smaller=FLAGS, one=FLAGS)
def test_cropping_is_that_of_monai(seed, margin, divisor, smaller, one):
    array = np.random.default_rng(seed).normal(-2.2, 1, (2, 9, 8, 7)).astype(np.float32)
    array[0, 3, 4, 2] = 5.0
    options = {"margin": margin, "k_divisible": divisor, "allow_smaller": smaller}
    made = theirs.CropForeground(channel_indices=[0] if one else None, **options)(torch.tensor(array)).numpy()
    ours = CropForeground(
        margin=(margin,), k_divisible=(divisor,), allow_smaller=smaller, channel_indices=(0,) if one else None
    )
    np.testing.assert_array_equal(of_ours(ours, array), made)


def test_the_way_back_from_a_crop_beyond_the_image_is_exact():
    array = np.zeros((6, 5, 4), np.float32)
    array[2:4, 1:3, 1:4] = 1
    prepared = MonaiPreprocessing(transforms=(CropForeground(margin=(3,)),)).apply(
        Volume(array, spacing_mm=(1.0, 1.0, 1.0))
    )
    back = prepared.restore_labels((prepared.array[0] > 0).astype(np.uint8))
    np.testing.assert_array_equal(back.array, array.astype(np.uint8))


def test_nothing_to_crop_to_is_refused():
    with pytest.raises(VolumeError, match="no voxel above 0; expected a foreground to crop to"):
        of_ours(CropForeground(), np.zeros((1, 3, 3, 3), np.float32))


def test_a_description_comes_back_and_its_faults_are_named():
    steps = (
        Orientation(axcodes="RAS"),
        Spacing(pixdim=(1.5, 2.0), mode="nearest"),
        CropForeground(margin=(1, 2, 3), channel_indices=(0,)),
        ScaleIntensityRange(a_min=0, a_max=1),
        ScaleIntensity(),
        NormalizeIntensity(subtrahend=(1.0,), divisor=(2.0,), nonzero=True),
    )
    own = MonaiPreprocessing(transforms=steps, slice_axis=2)
    assert preprocessing_of(own.to_dict()) == own
    faults = [
        ({"transform": "Rotate90"}, "the transform 'Rotate90'; expected one of Orientation"),
        ({"transform": "Spacing", "pixdim": [1], "speed": 3}, "speed of Spacing; expected of pixdim, mode"),
        ({"transform": "Spacing"}, "Spacing with no arguments"),
        ({"transform": "Spacing", "pixdim": [float("nan")]}, "pixdim"),
        ({"transform": "Spacing", "pixdim": [1], "mode": "cubic"}, "mode='cubic' of Spacing"),
        ({"transform": "NormalizeIntensity", "divisor": [1, 2]}, "one number, or channel_wise"),
        ({"transform": "Orientation", "axcodes": "RAX"}, "orientation='RAX'"),
        ({"transform": "CropForeground", "margin": [-1]}, "whole numbers from 0"),
    ]
    for fault, text in faults:
        with pytest.raises(PlanError, match=text.replace("(", r"\(")):
            preprocessing_of({"kind": "monai", "transforms": [fault]})
    with pytest.raises(PlanError, match="a preprocessing of MONAI with 'steps'"):
        preprocessing_of({"kind": "monai", "transforms": [], "steps": []})

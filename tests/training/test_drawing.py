"""The rules that draw a plan: spacing, patch, strides, normalization, and the guard of left and right."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resvox.errors import PlanError
from resvox.training import Fingerprint, draw_plan
from resvox.training.plans.fingerprint import CaseFacts, Intensities
from resvox.training.plans.recipe import Recipe
from resvox.training.plans.rules import draw_strides, largest_patch
from resvox.training.plans.sides import safe_mirror_axes
from resvox.training.segmentation import nnunet_planning


def fingerprint_of(
    *cases: tuple[tuple[int, ...], tuple[float, ...]],
    channels: tuple[str, ...] = ("CT",),
    labels: tuple[str, ...] = ("liver",),
    codes: str = "SPL",
) -> Fingerprint:
    dims = len(cases[0][0])
    names = ("background", *labels)
    return Fingerprint(
        name="d",
        spatial_dims=dims,
        channel_names=channels,
        labels={name: value for value, name in enumerate(names)},
        orientation="SPL" if dims == 3 else None,
        cases=tuple(
            CaseFacts(id=str(i), shape=shape, spacing_mm=mm, axis_codes=codes, voxels=dict.fromkeys(names, 9))
            for i, (shape, mm) in enumerate(cases)
        ),
        intensities=tuple(
            Intensities(
                channel=name,
                percentile_00_5=-100.0,
                percentile_99_5=200.0,
                mean=50.0,
                std=30.0,
                minimum=-500.0,
                maximum=900.0,
            )
            for name in channels
        ),
    )


CHEST = ((34, 128, 128), (10.0, 3.05, 3.05))


def test_a_ct_without_contrast_under_the_labels_is_not_windowed():
    scans = fingerprint_of(CHEST)
    clipped = replace(scans.intensities[0], percentile_00_5=60.0, percentile_99_5=60.0, mean=60.0, std=0.0)
    plan = draw_plan(replace(scans, intensities=(clipped,)), device="cpu")
    assert plan.normalization == ({"kind": "zscore"},)
    assert "the values under the labels are all 60" in plan.to_yaml()


def test_isotropic_data_take_the_median_spacing_and_plain_strides():
    cases = [((100, 200, 200), (1.0, 0.8, 0.8)), ((100, 200, 200), (1.2, 0.8, 0.9)), ((90, 90, 90), (2, 2, 2))]
    plan = draw_plan(fingerprint_of(*cases), device="cpu")
    assert plan.spacing_mm == (1.2, 0.8, 0.9)
    assert set(plan.strides[:3]) == {2}
    assert all(size % total == 0 for size, total in zip(plan.patch_size, plan.total_stride, strict=True))
    assert math.prod(plan.patch_size) <= 64**3


def test_thick_slices_stay_thick_and_stride_in_the_plane_first():
    plan = draw_plan(fingerprint_of(CHEST), device="cpu")
    assert plan.spacing_mm == (10.0, 3.05, 3.05)
    assert plan.strides[0] == (1, 2, 2)
    assert plan.strides[1] == 2
    assert plan.patch_size[0] <= 34
    text = plan.to_yaml()
    assert "# " in text
    assert "3 times coarser" in text


def test_thick_axis_takes_its_tenth_percentile():
    cases = [((30, 100, 100), (mm, 1.0, 1.0)) for mm in (2.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0)]
    # sorted: 2, 5, 5, ...; rank 0.1 * 10 = 1 is 5
    assert draw_plan(fingerprint_of(*cases), device="cpu").spacing_mm == (5.0, 1.0, 1.0)
    cases[1] = ((30, 100, 100), (2.0, 1.0, 1.0))
    assert draw_plan(fingerprint_of(*cases), device="cpu").spacing_mm == (2.0, 1.0, 1.0)


def test_ct_gets_a_window_and_others_a_z_score():
    plan = draw_plan(fingerprint_of(CHEST, channels=("ct", "T1")), device="cpu")
    window, zscore = plan.normalization
    assert window == {"kind": "window", "low": -100.0, "high": 200.0, "mean": 50.0, "std": 30.0}
    assert zscore == {"kind": "zscore"}
    assert "Hounsfield" in plan.notes["normalization"]


@given(
    size=st.tuples(*[st.integers(1, 300)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 8)] * 3),
)
@settings(deadline=None, max_examples=80)
def test_any_size_and_spacing_give_a_plan_that_fits(size, spacing):
    plan = draw_plan(fingerprint_of((size, spacing)), device="cpu")
    assert math.prod(plan.patch_size) <= 64**3
    assert all(p <= max(n, 1) for p, n in zip(plan.patch_size, size, strict=True))
    for patch, total in zip(plan.patch_size, plan.total_stride, strict=True):
        assert total == 1 or patch // total >= 4


@given(size=st.tuples(*[st.integers(1, 400)] * 2), spacing=st.tuples(*[st.floats(0.2, 8)] * 2))
@settings(deadline=None, max_examples=40)
def test_any_image_gives_a_plan_that_fits(size, spacing):
    plan = draw_plan(fingerprint_of((size, spacing), codes=""), device="cpu")
    assert plan.orientation is None
    assert math.prod(plan.patch_size) <= 256**2


def test_largest_patch_is_a_cube_in_millimetres():
    assert largest_patch((100, 100, 100), (1.0, 1.0, 1.0), 30**3) == (30, 30, 30)
    depth, height, width = largest_patch((100, 400, 400), (4.0, 1.0, 1.0), 16 * 64 * 64)
    assert height == width
    assert height == pytest.approx(4 * depth, abs=4)
    assert largest_patch((5, 7, 9), (1.0, 1.0, 1.0), 10_000) == (5, 7, 9)


def test_strides_stop_where_maps_get_small():
    assert draw_strides((64, 64, 64), (1.0, 1.0, 1.0)) == (2, 2, 2, 2, 1)
    assert draw_strides((16, 64, 64), (4.0, 1.0, 1.0)) == ((1, 2, 2), (1, 2, 2), 2, 2, 1)
    assert draw_strides((30, 32, 32), (1.0, 1.0, 1.0), exact=True)[0] == 2
    assert draw_strides((30, 32, 32), (1.0, 1.0, 1.0), exact=True)[1] == (1, 2, 2)


def test_given_fields_are_kept_and_the_rest_fits_them():
    plan = draw_plan(fingerprint_of(CHEST), device="cpu", patch_size=(16, 64, 64), steps=60, encoder_depth=4)
    assert (plan.patch_size, plan.steps, plan.warmup_steps) == ((16, 64, 64), 60, 3)
    assert len(plan.decoder_filters) == 4
    assert plan.notes["patch_size"] == "given"
    with pytest.raises(PlanError, match="did you mean 'patch_size'"):
        draw_plan(fingerprint_of(CHEST), device="cpu", patchsize=(16, 64, 64))
    with pytest.raises(PlanError, match="device='tpu'"):
        draw_plan(fingerprint_of(CHEST), device="tpu")


def test_spacing_follows_a_given_orientation():
    plan = draw_plan(fingerprint_of(CHEST), device="cpu", orientation="RAS")
    assert plan.spacing_mm == (3.05, 3.05, 10.0)
    assert plan.patch_size[2] < plan.patch_size[0]


def test_no_orientation_needs_cases_that_agree():
    plan = draw_plan(fingerprint_of(CHEST, codes="LPS"), device="cpu", orientation=None)
    assert plan.spacing_mm == (3.05, 3.05, 10.0)
    mixed = fingerprint_of(CHEST, CHEST)
    cases = (mixed.cases[0], CaseFacts(**{**vars(mixed.cases[1]), "axis_codes": "LPS"}))
    with pytest.raises(PlanError, match="orientation=None with cases that point LPS, SPL"):
        draw_plan(Fingerprint(**{**vars(mixed), "cases": cases}), device="cpu", orientation=None)


@pytest.mark.parametrize(
    ("labels", "orientation", "dims", "axes"),
    [
        (["liver"], "SPL", 3, (0, 1, 2)),
        (["left lung", "right lung"], "SPL", 3, (0, 1)),
        (["kidney_L", "kidney_R"], "RAS", 3, (1, 2)),
        (["LeftLung"], "LPS", 3, (1, 2)),
        (["upper lobe", "left lung"], "SPL", 3, (1,)),
        (["anterior horn"], "SPL", 3, (0, 2)),
        (["left lung"], None, 3, ()),
        (["liver"], None, 3, (0, 1, 2)),
        (["left eye"], None, 2, ()),
        (["nucleus"], None, 2, (0, 1)),
    ],
)
def test_mirroring_never_swaps_sides(labels, orientation, dims, axes):
    assert safe_mirror_axes(labels, orientation, dims) == axes


def test_the_plan_of_two_lungs_is_not_mirrored_from_left_to_right():
    plan = draw_plan(fingerprint_of(CHEST, labels=("right lung", "left lung")), device="cpu")
    assert plan.mirror_axes == (0, 1)
    assert "would swap them" in plan.notes["mirror_axes"]


def stripped(share: float, channels: tuple[str, ...] = ("T1", "FLAIR")) -> Fingerprint:
    """Heads in a border of 0, of which a share is left without it."""
    scans = fingerprint_of(*[((100, 200, 200), (1.0, 1.0, 1.0))] * 6, channels=channels)
    inner = (round(100 * share), 200, 200)
    return replace(scans, cases=tuple(replace(case, cropped_shape=inner) for case in scans.cases))


def test_a_large_border_of_zeros_is_cut_away_and_not_counted():
    plan = draw_plan(stripped(0.5), device="cuda")
    assert plan.crop == "nonzero"
    assert plan.normalization == ({"kind": "zscore", "nonzero_only": True},) * 2
    assert "50% of a scan is left" in plan.notes["crop"]
    assert plan.patch_size[0] <= 50
    assert draw_plan(stripped(0.5, ("CT", "FLAIR")), device="cpu").normalization[0]["kind"] == "window"


def test_nothing_is_labelled_in_the_border_if_no_training_case_does():
    scans = stripped(0.5)
    counted = [replace(case, labelled_outside=0) for case in scans.cases]
    plan = draw_plan(replace(scans, cases=tuple(counted)), device="cuda")
    assert plan.crop == "nonzero_mask"
    assert "the labels of all training cases lie where a channel is not 0" in plan.notes["crop"]


@pytest.mark.parametrize(("outside", "crop"), [(5, "nonzero_mask"), (6, "nonzero"), (None, "nonzero")])
def test_a_label_may_reach_over_the_edge_of_the_scan_by_a_few_voxels(outside, crop):
    scans = stripped(0.5)
    voxels = {"background": 100_000, "liver": 1000}
    counted = [replace(case, labelled_outside=0, voxels=voxels) for case in scans.cases]
    one = replace(counted[0], labelled_outside=outside)
    assert draw_plan(replace(scans, cases=(one, *counted[1:])), device="cuda").crop == crop


def test_batch_norm_is_the_default_and_the_recipe_of_nnunet_keeps_its_own():
    scans = fingerprint_of(((50, 100, 100), (1.0, 1.0, 1.0)))
    assert draw_plan(scans, device="cpu").norm == "batch"
    assert draw_plan(scans, device="cpu", norm="instance").norm == "instance"
    assert nnunet_planning.make_plan(scans, recipe=Recipe(name="nnunet")).norm == "instance"


def test_a_small_border_of_zeros_stays():
    plan = draw_plan(stripped(0.8), device="cuda")
    assert plan.crop == "none"
    assert plan.normalization == ({"kind": "zscore"},) * 2


def test_a_given_crop_decides_the_patch():
    assert draw_plan(stripped(0.5), device="cuda", crop="none").patch_size[0] > 50


def test_few_cases_all_train():
    few = fingerprint_of(*[((50, 100, 100), (1.0, 1.0, 1.0))] * 4)
    more = fingerprint_of(*[((50, 100, 100), (1.0, 1.0, 1.0))] * 5)
    assert draw_plan(few, device="cpu").validation_fraction == 0
    assert draw_plan(more, device="cpu").validation_fraction == 0.2
    assert draw_plan(few, device="cpu", validation_fraction=0.3).validation_fraction == 0.3

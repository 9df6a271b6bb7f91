"""What the interactive page is made of: one grid, label names, volumes, positions."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from viewer.scenes import ball, image_of, page_data

from resvox.errors import VolumeError
from resvox.viewer.interactive import View, view
from resvox.viewer.scene import build_scene, stored_values
from resvox.volumes import Volume, read_volume, write_label_map, write_volume

ROTATIONS = st.sampled_from([(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (1, 0, 2), (2, 1, 0)])


@settings(max_examples=30, deadline=None)
@given(ROTATIONS, st.tuples(*[st.sampled_from([-1, 1])] * 3), st.floats(-0.3, 0.3), st.floats(0.4, 5.0))
def test_every_axis_order_flip_and_tilt_is_placed_as_nibabel_reads_the_file(tmp_path_factory, order, signs, tilt, mm):
    turned = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    direction = turned @ np.eye(3)[:, list(order)] * np.asarray(signs)
    scan, label = ball(spacing_mm=(mm, 2 * mm, 1.0), origin_mm=(10.0, -20.0, 30.0), direction=direction)
    folder = tmp_path_factory.mktemp("scene")
    expected = nibabel.load(write_volume(scan, folder / "scan.nii.gz"))
    data = page_data(View(build_scene(scan, label)).to_html())
    shown, overlay = image_of(data["scan"]), image_of(data["layers"][0]["data"])
    np.testing.assert_allclose(shown.affine, expected.affine, atol=1e-4)
    np.testing.assert_array_equal(shown.get_fdata(), expected.get_fdata())
    np.testing.assert_allclose(overlay.affine, expected.affine, atol=1e-4)
    # The position that the list jumps to lies inside the label.
    (row,) = data["layers"][0]["labels"]
    index = np.rint(np.linalg.inv(overlay.affine) @ [*row["centre"], 1])[:3].astype(int)
    assert overlay.get_fdata()[tuple(index)] == row["index"]


def test_labels_get_dense_indices_names_volumes_and_the_intent_of_a_label_map():
    scan, label = ball(value=200)
    data = page_data(View(build_scene(scan, label, labels={"background": 0, "absent": 7, "box": 200})).to_html())
    absent, box = data["layers"][0]["labels"]
    assert (absent["name"], absent["millilitres"], absent["centre"]) == ("absent", 0.0, None)
    voxels = int((label.array == 200).sum())
    assert (box["name"], box["index"], box["value"]) == ("box", 2, 200)
    assert box["millilitres"] == pytest.approx(voxels * 3 * 2 * 1 / 1000)
    overlay = image_of(data["layers"][0]["data"])
    assert overlay.header.get_intent()[0] == "label"
    assert set(np.unique(overlay.get_fdata())) == {0, 2}


def test_values_without_a_name_are_shown_under_their_number():
    scan, label = ball(value=9)
    (layer,) = build_scene(scan, label, labels={"other": 3}).layers
    assert [each.name for each in layer.labels] == ["other", "label 9"]


def test_large_scans_are_reduced_and_volumes_stay_those_of_the_full_resolution():
    scan, label = ball((60, 64, 68), spacing_mm=(1.0, 1.0, 1.0))
    scene = build_scene(scan, label, max_voxels=20_000)
    assert np.prod(scene.scan.grid.shape) <= 20_000
    assert "Reduced from 60 x 64 x 68" in scene.notes[0]
    assert scene.layers[0].array.shape == scene.scan.grid.shape
    assert scene.layers[0].labels[0].millilitres == pytest.approx((label.array > 0).sum() / 1000)
    # The structure stays where it is.
    places = np.argwhere(scene.layers[0].array).mean(axis=0)
    whole = np.argwhere(label.array).mean(axis=0)
    np.testing.assert_allclose(scene.scan.grid.world_mm(places), label.grid.world_mm(whole), atol=1.0)


def test_reference_and_prediction_give_a_map_of_disagreement():
    scan, label = ball(value=1)
    other = label.with_array(np.roll(label.array, 1, axis=2))
    other.array[0, 0, 0] = 2
    scene = build_scene(scan, label, other)
    assert [layer.role for layer in scene.layers] == ["prediction", "reference", "disagreement"]
    found = scene.layers[2].array
    np.testing.assert_array_equal(found > 0, label.array != other.array)
    assert found[0, 0, 0] == 2


def test_another_grid_is_resampled_and_mentioned():
    scan, label = ball()
    shifted = Volume(label.array, spacing_mm=label.spacing_mm, origin_mm=(1.0, 0.0, 0.0))
    scene = build_scene(scan, shifted)
    assert "another grid" in scene.notes[0]
    np.testing.assert_array_equal(scene.layers[0].array[:, :, 1:] > 0, label.array[:, :, :-1] > 0)


def test_ct_gets_radiology_windows_and_other_scans_percentiles():
    scan, _ = ball()
    assert [window.name for window in build_scene(scan).windows] == ["soft tissue", "lung", "bone", "brain", "full"]
    mr = Volume(np.random.default_rng(0).uniform(0, 1, (8, 9, 10)).astype(np.float32), spacing_mm=(1, 1, 1))
    assert [window.name for window in build_scene(mr).windows] == ["auto", "full"]
    assert build_scene(mr).unit == ""


@settings(max_examples=40, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.booleans())
def test_stored_values_come_back_within_the_step(least, reach, whole):
    array = least + reach * np.random.default_rng(0).random((4, 5, 6))
    array = (np.rint(array) if whole else array).astype(np.float32)
    stored, slope, intercept = stored_values(Volume(array, spacing_mm=(1, 1, 1)))
    step = slope
    np.testing.assert_allclose(stored * slope + intercept, array, atol=step * 0.51 + 1e-6 * abs(least))


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", "{{script}}", "a & b <i>"])
def test_names_cannot_leave_their_place(name):
    scan, label = ball(value=1)
    page = View(build_scene(scan, label, title=name, labels={name: 1})).to_html()
    assert page_data(page)["layers"][0]["labels"][0]["name"] == name
    plain = View(build_scene(scan, label, title="plain", labels={"plain": 1})).to_html()
    assert page.count("<script") == plain.count("<script")
    assert page.count("</script") == plain.count("</script")


def test_a_2d_picture_and_a_colour_picture_are_shown(tmp_path):
    grey = Volume(np.arange(48, dtype=np.uint8).reshape(6, 8), spacing_mm=(1, 1))
    assert (
        page_data(View(build_scene(grey, grey.with_array((grey.array > 20).astype(np.uint8)))).to_html())[
            "spatial_dims"
        ]
        == 2
    )
    colour = Volume(np.zeros((3, 6, 8), np.uint8), spacing_mm=(1, 1))
    assert "grey" in build_scene(colour).notes[0]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda label: Volume(label.array[0], spacing_mm=(1, 1)), "2D prediction with a 3D scan"),
        (lambda label: label.with_array(label.array + 0.5), "fractional values"),
        (lambda label: label.with_array(np.stack([label.array] * 2)), "2 channels"),
    ],
)
def test_label_maps_that_do_not_fit_are_refused(change, text):
    scan, label = ball()
    with pytest.raises(VolumeError, match=text):
        build_scene(scan, change(label))
    with pytest.raises(VolumeError, match="channel 3 of a scan with 1"):
        build_scene(scan, channel=3)


def test_the_page_is_one_file_and_notebooks_show_it(tmp_path):
    scan, label = ball()
    write_volume(scan, tmp_path / "scan.nii.gz")
    write_label_map(label, tmp_path / "label.nii.gz")
    page = view(tmp_path / "scan.nii.gz", tmp_path / "label.nii.gz", names={"box": 5})
    text = page.save(tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    assert "<title>scan.nii.gz</title>" in text
    before = text[: text.index('<script type="application/json"')]
    assert "src=" not in before
    assert "href=" not in before
    assert page._repr_html_().startswith("<iframe srcdoc=")
    assert read_volume(tmp_path / "scan.nii.gz")._repr_html_().startswith("<iframe srcdoc=")

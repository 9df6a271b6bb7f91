"""Pictures: the right colours in the right places, in true proportion."""

from __future__ import annotations

import numpy as np
import pytest

from resvox.viewer import curve_png, label_colours, overlay_png
from resvox.viewer.colours import rgb
from resvox.volumes import Volume

LABELS = {"background": 0, "one": 1, "two": 2}
COLOURS = label_colours(LABELS)


def centre_of(pixels, colour, columns, rows=slice(0, None)):
    """Mean row and column of the pixels whose hue is a label's, in part of a picture."""
    part = pixels[rows, columns, :3]
    target = np.array(rgb(colour))
    near = np.abs(part - target).sum(axis=2) < 0.15  # the outline is drawn in the pure colour
    assert near.any()
    return np.argwhere(near).mean(axis=0)


def test_labels_are_where_a_radiologist_expects_them(body, read_png):
    scan, label_map = body
    pixels = read_png(overlay_png(scan, {"prediction": label_map}, LABELS, COLOURS))
    body_rows = slice(0, int(pixels.shape[0] * 0.85))  # the legend below shows both colours
    thirds = [slice(round(pixels.shape[1] * i / 3), round(pixels.shape[1] * (i + 1) / 3)) for i in range(3)]
    coronal = thirds[1]
    one, two = (centre_of(pixels, COLOURS[name], coronal, body_rows) for name in ("one", "two"))
    assert one[0] < two[0]  # label 1 is higher up in the patient
    assert one[1] < two[1]  # and on the right, which is the left of the picture


def test_millimetres_are_equally_long_in_both_directions(read_png):
    # 10 slices of 3 mm and 30 columns of 2 mm: half as high as wide in the world, and in the picture.
    label_map = np.ones((10, 30, 30), np.uint8)
    volume = Volume(label_map, spacing_mm=(3.0, 2.0, 2.0))
    scan = Volume(label_map.astype(np.float32), spacing_mm=(3.0, 2.0, 2.0))
    pixels = read_png(overlay_png(scan, {"x": volume}, {"one": 1}, {"one": "#FF0000"}))[..., :3]
    third = pixels[: int(pixels.shape[0] * 0.88), pixels.shape[1] // 3 : 2 * pixels.shape[1] // 3]
    red = np.argwhere((third[..., 0] > 0.3) & (third[..., 1] < 0.75 * third[..., 0]))
    height, width = red.max(axis=0) - red.min(axis=0) + 1
    assert height / width == pytest.approx(0.5, abs=0.03)


def test_a_second_map_adds_a_row_and_chooses_the_slices(body, read_png):
    scan, label_map = body
    empty = label_map.with_array(np.zeros_like(label_map.array))
    one = read_png(overlay_png(scan, {"reference": label_map}, LABELS, COLOURS))
    two = read_png(overlay_png(scan, {"prediction": empty, "reference": label_map}, LABELS, COLOURS))
    assert two.shape[0] > 1.7 * one.shape[0]
    lower = two[two.shape[0] // 2 :]
    assert centre_of(lower, COLOURS["one"], slice(0, None), slice(0, int(lower.shape[0] * 0.85))).any()


@pytest.mark.parametrize("shape", [(12, 20), (1, 20), (3, 1, 5), (1, 1, 1)])
def test_images_and_thin_volumes_are_drawn(shape, read_png):
    spacing_mm = (1.0,) * len(shape)
    scan, label_map = (
        Volume(np.zeros(shape), spacing_mm=spacing_mm),
        Volume(np.ones(shape, np.uint8), spacing_mm=spacing_mm),
    )
    assert read_png(overlay_png(scan, {"x": label_map}, LABELS, COLOURS)).shape[0] > 30


def test_an_empty_label_map_and_a_scan_of_nothing_are_drawn(body, read_png):
    scan, label_map = body
    nothing = scan.with_array(np.full(scan.array.shape, np.nan, np.float32))
    empty = label_map.with_array(np.zeros_like(label_map.array))
    assert read_png(overlay_png(nothing, {"x": empty}, LABELS, COLOURS)).size


@pytest.mark.parametrize(("theme", "is_light"), [("light", True), ("dark", False)])
def test_a_curve_has_the_paper_of_its_theme(theme, is_light, read_png):
    pixels = read_png(curve_png({"loss": ([1, 2, 3], [3.0, 2.0, 1.0])}, x_label="step", y_label="loss", theme=theme))
    assert (pixels[2, 2, :3].mean() > 0.5) == is_light
    assert pixels[..., :3].std() > 0.01  # something is drawn on it

"""Generated series and multi-frame files with values and places of their own in every frame: as meant, or refused."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.pixels import apply_modality_lut
from volumes.generated_dicom import FAULTS, Generated, generate

from resvox.errors import VolumeError
from resvox.volumes import Volume, read_volume


def check(folder: Path, seed: int) -> None:
    """One generated input is read as meant, or refused with the slice at fault in the line."""
    made = generate(folder, seed)
    if made.fault is not None:
        with pytest.raises(VolumeError) as caught:
            read_volume(made.path)
        text = str(caught.value)
        assert text.startswith(f"{made.path}: "), (text, made.story)
        assert FAULTS[made.fault] in text, (text, made.story)
        assert "\n" not in text
        assert made.fault == "tilt" or made.fault == "uneven" or made.name in text, (text, made.name, made.story)
        return
    volume = read_volume(made.path)
    assert volume.array.shape == made.values.shape, made.story
    expected = made.values if volume.array.dtype.kind in "iu" else made.values.astype(np.float32)
    np.testing.assert_array_equal(volume.array, expected, err_msg=str(made.story))
    np.testing.assert_allclose(volume.spacing_mm, made.spacing_mm, atol=2e-5, err_msg=str(made.story))
    np.testing.assert_allclose(volume.origin_mm, made.origin_mm, atol=2e-5, err_msg=str(made.story))
    np.testing.assert_allclose(volume.direction, made.direction, atol=2e-6, err_msg=str(made.story))
    agree_with_pydicom(made)
    agree_with_highdicom(made, volume)


def agree_with_pydicom(made: Generated) -> None:
    """The generator's own formula is pydicom's, where pydicom knows one: single frames with the bits at the bottom."""
    if made.story["multi_frame"] or made.story["shift"]:
        return
    slices = [pydicom.dcmread(path) for path in made.files]
    slices.sort(key=lambda ds: float(made.direction[:, 0] @ np.array(ds.ImagePositionPatient, float)))
    found = np.stack([apply_modality_lut(ds.pixel_array, ds) for ds in slices])
    if made.story["colour"]:
        found = np.moveaxis(found, -1, 0)
    np.testing.assert_array_equal(found, made.values, err_msg=str(made.story))


def agree_with_highdicom(made: Generated, volume: Volume) -> None:
    """The same voxels at the same places, whatever order each has them in."""
    if made.story["values"] == "table" or made.story["syntax"] == uid.ExplicitVRBigEndian:
        return  # tables in functional groups and big endian files are refused there
    if made.story["multi_frame"]:
        image = highdicom.imread(made.path)
        other = image.get_volume(apply_real_world_transform=False, apply_modality_transform=None)
    else:
        other = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in made.files])
    index = np.array([[0, 0, 0], [1, 2, 3], [2, 0, 1]])
    there = other.map_reference_to_indices(volume.grid.world_mm(index))
    np.testing.assert_allclose(there, there.round(), atol=1e-3, err_msg=str(made.story))
    if made.story["multi_frame"] and made.story["bits"] == 16:  # it does not drop unused bits
        found = other.array[tuple(there.round().astype(int).T)]
        np.testing.assert_allclose(found, made.values[tuple(index.T)], rtol=1e-6, err_msg=str(made.story))


@pytest.mark.parametrize("seed", range(30))
def test_a_generated_input_is_read_as_meant_or_refused_by_name(seed: int, tmp_path: Path) -> None:
    check(tmp_path, seed)


@pytest.mark.laws
@pytest.mark.parametrize("seed", range(30, 230))
def test_two_hundred_generated_inputs_are_read_as_meant_or_refused_by_name(seed: int, tmp_path: Path) -> None:
    check(tmp_path, seed)

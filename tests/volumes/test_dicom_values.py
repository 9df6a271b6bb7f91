"""The values of DICOM images: modality tables, rescale, bits, colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from volumes.dicom_kinds import RANDOM, as_colour, at, plane, refusal, save

from resvox.volumes import read_volume


def test_monochrome1_keeps_its_values_with_a_warning(tmp_path: Path) -> None:
    pixels = plane()
    ds = at(0.0, pixels, slope=0.5, intercept=-3)
    ds.PhotometricInterpretation = "MONOCHROME1"
    with pytest.warns(UserWarning, match=r"x\.dcm: MONOCHROME1 is read with its stored values"):
        np.testing.assert_array_equal(read_volume(save(ds, tmp_path / "x.dcm")).array[0], pixels * 0.5 - 3)


@pytest.mark.parametrize(
    ("depth", "packed"), [(8, "bytes"), *((depth, words) for depth in (8, 10, 12, 16) for words in ("US", "OW"))]
)
@pytest.mark.parametrize("first", [-40, 0, 300])
def test_a_modality_table_is_looked_up(depth: int, first: int, packed: str, tmp_path: Path) -> None:
    table = RANDOM.integers(0, 1 << depth, 100)
    pixels = RANDOM.integers(-100, 500, (5, 7)).astype(np.int16)
    ds = at(0.0, pixels)
    del ds.RescaleSlope, ds.RescaleIntercept
    item = Dataset()
    item.add_new("LUTDescriptor", "SS", [100, first, depth])
    item.ModalityLUTType = "HU"
    words = [int(v) for v in table] if packed == "US" else table.astype("<u2" if packed == "OW" else "u1").tobytes()
    item.add_new("LUTData", "US" if packed == "US" else "OW", words)
    ds.ModalityLUTSequence = [item]
    found = read_volume(save(ds, tmp_path / "x.dcm")).array[0]
    np.testing.assert_array_equal(found, table[np.clip(pixels.astype(int) - first, 0, 99)])


@pytest.mark.parametrize(("slope", "intercept"), [(None, -1024), (2, None), (None, None)])
def test_half_a_rescale_is_completed(slope: float | None, intercept: float | None, tmp_path: Path) -> None:
    pixels = plane()
    ds = at(0.0, pixels)
    for name, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    found = read_volume(save(ds, tmp_path / "x.dcm")).array[0]
    np.testing.assert_array_equal(found, pixels.astype(int) * (slope or 1) + (intercept or 0))


@pytest.mark.parametrize(
    ("slope", "intercept"), [(1, -1024), (-1, 0), (3, 7), (-5, 70_000), (1_000_000, 0), (2, 1 << 40)]
)
@pytest.mark.parametrize("bits", [8, 12, 16, 32])
@pytest.mark.parametrize("signed", [0, 1])
def test_integers_with_an_integer_rescale_are_exact_integers(
    slope: int, intercept: int, bits: int, signed: int, tmp_path: Path
) -> None:
    allocated = 8 if bits == 8 else 16 if bits <= 16 else 32
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    pixels = RANDOM.integers(low, high, (4, 6), endpoint=True)
    pixels[0, :2] = low, high
    ds = at(0.0, np.zeros((4, 6)), slope=slope, intercept=intercept)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = allocated, bits, bits - 1, signed
    ds.PixelData = pixels.astype(f"{'i' if signed else 'u'}{allocated // 8}").tobytes()
    found = read_volume(save(ds, tmp_path / "x.dcm")).array[0]
    assert found.dtype.kind in "iu"
    np.testing.assert_array_equal(found.astype(object), pixels.astype(object) * slope + intercept)


def test_a_slope_of_0_is_refused(tmp_path: Path) -> None:
    assert "RescaleSlope is 0" in refusal(save(at(0.0, slope=0), tmp_path / "x.dcm"))


@pytest.mark.parametrize("photometric", ["HSV", "YBR_PARTIAL_422", "CMYK"])
def test_colours_that_are_not_converted_are_refused(photometric: str, tmp_path: Path) -> None:
    ds = as_colour(at(0.0))
    ds.PhotometricInterpretation = photometric
    assert f"PhotometricInterpretation {photometric}" in refusal(save(ds, tmp_path / "x.dcm"))


@pytest.mark.parametrize("high_bit", [6, 16])
def test_an_impossible_high_bit_is_refused(high_bit: int, tmp_path: Path) -> None:
    ds = at(0.0)
    ds.BitsStored, ds.HighBit = 12, high_bit
    assert "HighBit" in refusal(save(ds, tmp_path / "x.dcm"))

"""Damaged DICOM files: read as pydicom reads them, or refused in a line; never another error, a hang or much memory."""

from __future__ import annotations

import random
import resource
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_modality_lut
from volumes.generated_dicom import Generated, generate

from resvox.errors import VolumeError
from resvox.volumes import Volume, read_volume
from resvox.volumes.dicom.marks import is_dicom

HEADER_BYTES = 1600  # most mutations hit the header: pixels are any numbers
MEMORY_MB = 500  # more than the tests before have used; the inputs are some kilobytes


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, cleared, inserted or cut off."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        at = (
            chance.randrange(len(changed))
            if chance.random() < 0.3
            else chance.randrange(min(len(changed), HEADER_BYTES))
        )
        kind = chance.choice(["bit", "bit", "byte", "zeros", "insert", "cut"])
        if kind == "bit":
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == "byte":
            changed[at] = chance.randrange(256)
        elif kind == "zeros":
            changed[at : at + 4] = bytes(len(changed[at : at + 4]))
        elif kind == "insert":
            changed[at:at] = chance.randbytes(chance.randrange(1, 9))
        elif at > 0:
            del changed[at:]
    return bytes(changed)


def check_against_pydicom(made: Generated, volume: Volume) -> None:
    """The values of a series that was read all the same."""
    if made.story["multi_frame"] or made.story["shift"] or made.story["values"] == "table":
        return
    known = [path for path in made.files if is_dicom(path)]  # with its first 136 bytes damaged a file is like any other
    slices = [pydicom.dcmread(path, force=True) for path in known]
    normal = np.asarray(volume.direction)[:, 0]
    slices.sort(key=lambda ds: float(normal @ np.array(ds.ImagePositionPatient, float)))
    if not all("RescaleSlope" in ds and "RescaleIntercept" in ds for ds in slices):
        return  # of a pair cut in half pydicom uses neither
    if any(ds.get("HighBit") != ds.BitsStored - 1 or "TransferSyntaxUID" not in ds.file_meta for ds in slices):
        return  # pydicom takes the low bits, and guesses no transfer syntax
    expected = np.stack([apply_modality_lut(ds.pixel_array, ds) for ds in slices])
    np.testing.assert_allclose(volume.array, expected.astype(np.float32), rtol=1e-6)


def check(seed: int) -> bool:
    """True where the damaged input was read."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = generate(Path(folder), seed % 97)
        victim = chance.choice(made.files)
        victim.write_bytes(mutated(victim.read_bytes(), chance))
        try:
            volume = read_volume(made.path)
        except VolumeError as error:
            text = str(error)
            assert text.startswith(str(folder)), text
            assert "\n" not in text
            assert len(text) < 1200, text
            return False
        check_against_pydicom(made, volume)
        return True


def check_all(seeds: range) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # the peak of what this process did until here
    read = sum(check(seed) for seed in seeds)
    assert 0.1 < read / len(seeds) < 0.9, f"{read} of {len(seeds)} read: the mutations are too weak or too strong"
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEMORY_MB


def test_two_hundred_mutations_are_read_as_pydicom_or_refused_in_a_line() -> None:
    check_all(range(200))


@pytest.mark.laws
def test_two_thousand_mutations_are_read_as_pydicom_or_refused_in_a_line() -> None:
    check_all(range(200, 2200))

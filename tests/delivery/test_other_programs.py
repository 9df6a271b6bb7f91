"""DICOM output read by programs that share no code with resvox: dcmqi, dciodvfy, plastimatch (``make test-dicom``)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from delivery.series import NAMES, ORIENTATIONS, labels_on, oblique, write_series

from resvox.delivery.naming import label_set
from resvox.delivery.rtstruct import write_rtstruct
from resvox.delivery.seg import write_seg
from resvox.delivery.source import read_source
from resvox.volumes import list_series, read_volume, resample

pytestmark = pytest.mark.dicom_tools
PLACES = [(o, r) for o in [*ORIENTATIONS[::3], oblique()] for r in (False, True)]
CT_SERIES = ("pat_1", "pat_2", "pat_3", "pat_4")


def run(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    return done.stdout + done.stderr


def real_series(name: str) -> Path:
    """A real CT series that the package pycerr ships."""
    found = importlib.util.find_spec("cerr")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "datasets" / "radiomics_phantom_dicom" / name


def real_case(name: str):
    """A real CT, and a label map of its bright parts and a ball with a hole."""
    folder = real_series(name)
    series = next(each.uid for each in list_series(folder) if each.modality == "CT")
    source = read_source(folder, series=series)
    scan = read_volume(folder, series=series)
    places = np.indices(scan.grid.shape) - np.reshape([n // 2 for n in scan.grid.shape], (3, 1, 1, 1))
    far = np.sqrt(((places * np.reshape(scan.grid.spacing_mm, (3, 1, 1, 1))) ** 2).sum(axis=0))
    array = np.zeros(scan.grid.shape, np.uint8)
    array[scan.array > 250] = 5
    array[(far < 40) & (far > 15)] = 2
    return source, scan.with_array(array)


def check_dcmqi(path, label_map, folder) -> None:
    run(Path(sys.executable).parent / "segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder,
        "--outputType", "nii")  # fmt: skip
    files = sorted(folder.glob("*.nii.gz"))
    found = np.zeros(label_map.grid.shape, np.uint8)
    for file in files:
        volume = read_volume(file)
        placed = resample(volume, label_map.grid, interpolation="nearest").array
        for number, value in ((1, 2), (2, 5), (3, 9)):
            if len(files) > 1 and not file.name.startswith(f"{number}."):
                continue
            found[placed == (number if placed.max() > 1 or len(files) == 1 else 1)] = value
    np.testing.assert_array_equal(found, label_map.array)


@pytest.mark.parametrize(("orientation", "reverse"), PLACES)
@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_dcmqi_reads_the_same_array(tmp_path, orientation, reverse, kind):
    source = read_source(write_series(tmp_path / "series", orientation, reverse=reverse))
    label_map = labels_on(source.grid)
    path = write_seg(label_map, source, label_set(NAMES), tmp_path / "seg.dcm", kind=kind).path
    (tmp_path / "read").mkdir()
    check_dcmqi(path, label_map, tmp_path / "read")


@pytest.mark.parametrize("name", CT_SERIES)
def test_real_series_in_dcmqi_dciodvfy_and_plastimatch(tmp_path, name):
    source, label_map = real_case(name)
    labels = label_set(NAMES)
    for kind in ("binary", "labelmap"):
        path = write_seg(label_map, source, labels, tmp_path / f"{kind}.dcm", kind=kind).path
        (tmp_path / kind).mkdir()
        check_dcmqi(path, label_map, tmp_path / kind)
    structures = write_rtstruct(label_map, source, labels, tmp_path / "rt.dcm").path
    for path in (tmp_path / "binary.dcm", structures):
        assert "Error" not in run("dciodvfy", "-new", path)
    check_plastimatch(structures, label_map, real_series(name), tmp_path)


@pytest.mark.parametrize(("orientation", "reverse"), [(ORIENTATIONS[0], False), (ORIENTATIONS[0], True)])
def test_plastimatch_fills_the_same_voxels(tmp_path, orientation, reverse):
    folder = write_series(tmp_path / "series", orientation, reverse=reverse)
    source = read_source(folder)
    label_map = labels_on(source.grid)
    structures = write_rtstruct(label_map, source, label_set(NAMES), tmp_path / "rt.dcm").path
    check_plastimatch(structures, label_map, folder, tmp_path)


def check_plastimatch(structures, label_map, series, folder) -> None:
    run("plastimatch", "convert", "--input", structures, "--output-prefix", folder / "rt", "--prefix-format", "nii.gz",
        "--referenced-ct", series)  # fmt: skip
    for name, value in (("liver", 2), ("left_kidney", 5)):
        (file,) = [path for path in (folder / "rt").iterdir() if path.name.replace(" ", "_") == f"{name}.nii.gz"]
        found = resample(read_volume(file), label_map.grid, interpolation="nearest").array > 0
        wanted = label_map.array == value
        dice = 2 * np.count_nonzero(found & wanted) / (np.count_nonzero(found) + np.count_nonzero(wanted))
        assert dice >= 0.99, (name, dice)

"""NIfTI headers against nibabel, over everything that a header can say; the rule is in docs/axes-and-units.md."""

from __future__ import annotations

import gzip
import logging
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from volumes.geometry_strategies import directions

from resvox.errors import VolumeError
from resvox.volumes import Volume, read_volume, write_volume

nibabel.imageglobals.logger.setLevel(logging.CRITICAL)  # it logs each repair of a header

TYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
CLASSES = {
    (1, True): nibabel.nifti1.Nifti1Header,
    (1, False): nibabel.nifti1.Nifti1PairHeader,
    (2, True): nibabel.nifti2.Nifti2Header,
    (2, False): nibabel.nifti2.Nifti2PairHeader,
}
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def affine_ras(volume: Volume) -> np.ndarray:
    """Index x, y, z to RAS, as nibabel's `affine`."""
    dims = volume.spatial_dims
    affine = np.eye(4)
    affine[:dims, :dims] = RAS_TO_LPS[:dims, :dims] @ (volume.direction * volume.spacing_mm)[:, ::-1]
    affine[:dims, 3] = RAS_TO_LPS[:dims, :dims] @ np.array(volume.origin_mm)
    return affine


def read_with_remarks(path: Path) -> tuple[Volume | None, str, list[str]]:
    """The volume, or the line of its refusal; and the remarks."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return read_volume(path), "", [str(each.message) for each in caught]
        except VolumeError as error:
            return None, str(error), []


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    """A right-angled affine with any axis order, flips and obliqueness."""
    affine = np.eye(4)
    spacing = [draw(st.sampled_from([0.5, 0.8, 1.0, 2.5, 5.0])) for _ in range(3)]
    affine[:3, :3] = draw(directions()) * spacing
    affine[:3, 3] = [draw(st.sampled_from([-120.5, 0.0, 33.25])) for _ in range(3)]
    return affine


@st.composite
def headers(draw: st.DrawFn) -> dict[str, Any]:
    """What one file is made of: forms, codes, pixdim, scaling, unit, type, byte order, version, and wrapping."""
    qform = draw(matrices())
    return {
        "sizes": draw(st.sampled_from([(3, 4, 5), (4, 3, 1), (1, 1, 2), (5, 4), (3, 4, 2, 1)])),
        "qform": qform,
        "sform": qform if draw(st.booleans()) else draw(matrices()),
        "codes": (draw(st.integers(0, 5)), draw(st.integers(0, 5))),
        "shear": draw(st.sampled_from([0.0, 0.0, 0.0, 3e-4, 0.05, 0.7])),
        "pixdim": draw(st.sampled_from(["kept", "kept", "negative", "ones", "zeros"])),
        "qfac": draw(st.sampled_from([None, None, 0.0])),
        "slope": draw(st.sampled_from([np.nan, 0.0, 1.0, 2.5, -0.01])),
        "intercept": draw(st.sampled_from([0.0, -1024.0, 0.125])),
        "units": draw(st.sampled_from([0, 2, 2, 1, 3])),
        "type": draw(st.sampled_from(TYPES)),
        "order": draw(st.sampled_from("<>")),
        "version": draw(st.sampled_from([1, 2])),
        "wrapping": draw(st.sampled_from(["nii", "gz", "members", "padded", "pair", "packed pair", "beside"])),
    }


def header_bytes(made: dict[str, Any], single: bool) -> bytes:
    """The header alone, with every field as `made` says and nothing repaired."""
    header = CLASSES[made["version"], single](endianness=made["order"])
    header.set_data_dtype(np.dtype(made["type"]))
    header.set_data_shape(made["sizes"])
    header.set_qform(made["qform"], code=1)
    sheared = made["sform"].copy()
    sheared[:3, 1] += made["shear"] * sheared[:3, 0] / np.linalg.norm(sheared[:3, 0]) * np.linalg.norm(sheared[:3, 1])
    header.set_sform(sheared, code=1)
    header["qform_code"], header["sform_code"] = made["codes"]
    header["scl_slope"], header["scl_inter"] = made["slope"], made["intercept"]
    header["xyzt_units"] = made["units"]
    header["vox_offset"] = (352 if made["version"] == 1 else 544) if single else 0
    pixdim = header["pixdim"].copy()
    pixdim[1:4] = {"kept": pixdim[1:4], "negative": -pixdim[1:4], "ones": 1, "zeros": 0}[made["pixdim"]]
    if made["qfac"] is not None:
        pixdim[0] = made["qfac"]
    header["pixdim"] = pixdim
    return bytes(header.binaryblock)


def write_file(made: dict[str, Any], folder: Path) -> Path:
    """The file of one example; voxels count upwards."""
    voxels = (np.arange(np.prod(made["sizes"])) % 100).astype(np.dtype(made["type"]).newbyteorder(made["order"]))
    if "pair" in made["wrapping"]:
        ending = ".gz" if made["wrapping"] == "packed pair" else ""
        pack = gzip.compress if ending else bytes
        (folder / f"x.hdr{ending}").write_bytes(pack(header_bytes(made, single=False)))
        (folder / f"x.img{ending}").write_bytes(pack(voxels.tobytes()))
        return folder / f"x.hdr{ending}"
    flat = header_bytes(made, single=True) + bytes(4) + voxels.tobytes()
    if made["wrapping"] == "beside":
        (folder / "x.nii").write_bytes(b"another file of the same name, which ITK reads instead")
    layouts = {
        "nii": lambda: flat,
        "members": lambda: gzip.compress(flat[:200]) + gzip.compress(b"") + gzip.compress(flat[200:]),
        "padded": lambda: gzip.compress(flat) + bytes(512),
    }
    path = folder / ("x.nii" if made["wrapping"] == "nii" else "x.nii.gz")
    path.write_bytes(layouts.get(made["wrapping"], lambda: gzip.compress(flat))())
    return path


def check_against_nibabel(made: dict[str, Any], folder: Path) -> None:
    """Read as nibabel reads it, or refused for one of the reasons of the rule."""
    path = write_file(made, folder)
    volume, line, remarks = read_with_remarks(path)
    theirs = nibabel.load(path)
    qform_code, sform_code = made["codes"]
    has_spacing = made["pixdim"] != "zeros" or max(made["sizes"][:3]) == 1
    used = "sform" if sform_code else "qform" if qform_code else "none"
    if used == "sform" and made["shear"] > 0.01:
        assert "sheared" in line
        return
    if used != "sform" and not has_spacing:
        assert "spacing" in line or "not in the x, y plane" in line
        return
    affine = theirs.affine.copy()
    affine[:3] *= {1: 1000.0, 3: 0.001}.get(made["units"], 1.0)
    if len(made["sizes"]) == 2 and np.abs(affine[2, :2] / np.linalg.norm(affine[:3, :2], axis=0)).max() > 1e-3:
        assert "not in the x, y plane" in line
        return
    assert volume is not None, line
    check_voxels(volume, theirs)
    dims = volume.spatial_dims
    ours = affine_ras(volume)
    scale = np.abs(affine[:dims, :dims]).max()
    np.testing.assert_allclose(ours[:dims, :dims], affine[:dims, :dims], atol=1e-5 * scale)
    np.testing.assert_allclose(ours[:dims, 3], affine[:dims, 3], rtol=1e-5, atol=1e-4 * scale)
    said = " ".join(remarks)
    assert ("no orientation" in said) == (used == "none")
    assert ("converted to mm" in said) == (made["units"] in (1, 3))
    differs = qform_code and sform_code and made["sform"] is not made["qform"]
    if not differs and made["shear"] == 0 and made["pixdim"] in ("kept", "negative") and made["qfac"] is None:
        assert "sform is used" not in said or used == "sform"
        assert "qform and sform differ" not in said


def check_voxels(volume: Volume, theirs: Any) -> None:
    """Values and type."""
    expected = np.asarray(theirs.dataobj)
    expected = expected.reshape(expected.shape[:3]).transpose()
    stored = theirs.dataobj.dtype
    is_scaled = (theirs.dataobj.slope, theirs.dataobj.inter) != (1, 0)
    assert volume.array.dtype == (np.float32 if stored.kind == "f" or is_scaled else stored.newbyteorder("="))
    np.testing.assert_allclose(
        volume.array, expected.astype(volume.array.dtype), rtol=1e-6, atol=1e-4 if is_scaled else 0
    )


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=headers())
def test_headers_mean_what_nibabel_says(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    check_against_nibabel(made, tmp_path_factory.mktemp("nifti"))


@pytest.mark.laws
@settings(deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=headers())
def test_headers_mean_what_nibabel_says_at_length(
    made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_against_nibabel(made, tmp_path_factory.mktemp("nifti"))


def scan(path: Path, array: np.ndarray, matrix: np.ndarray | None = None, **fields: Any) -> Path:
    """A .nii or .nii.gz whose header fields are overwritten byte by byte, so that nothing is repaired."""
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if matrix is None else matrix), path)
    raw = bytearray(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    header = nibabel.Nifti1Header(bytes(raw[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    raw[:348] = header.binaryblock
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


SMALL = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"srow_x": [0, 0, 0, 0], "sform_code": 1, "qform_code": 0}, "an sform without three directions"),
        ({"srow_x": [np.nan, 0, 0, 0], "sform_code": 1, "qform_code": 0}, "an sform without three directions"),
        ({"srow_x": [1, 1, 0, 0]}, "its axes are sheared (not at right angles): the sform is off by 0.71"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": 2}, "a qform whose quaternion is not a rotation"),
        ({"sform_code": 0, "qform_code": 1, "pixdim": [1, 0, 1, 1, 1, 1, 1, 1]}, "NIfTI header with spacing (0.0, "),
        ({"sform_code": 0, "qform_code": 0, "pixdim": [1, np.inf, 1, 1, 1, 1, 1, 1]}, "NIfTI header with spacing (inf"),
        ({"dim": [3, 2, 3, 0, 1, 1, 1, 1]}, "NIfTI header with sizes (2, 3, 0)"),
        ({"dim": [9, 2, 3, 4, 1, 1, 1, 1]}, "NIfTI header with sizes"),
        ({"dim": [1, 24, 1, 1, 1, 1, 1, 1]}, "NIfTI header with sizes (24,)"),
        ({"dim": [3, 32000, 32000, 32000, 1, 1, 1, 1]}, "truncated: 400 bytes; expected 65536000000352 bytes"),
        ({"datatype": 32, "bitpix": 64}, "numbers of type complex64"),
        ({"datatype": 9999}, "NIfTI data type 9999"),
        ({"vox_offset": 3}, "NIfTI header whose voxels begin at byte 3"),
        ({"scl_slope": 2, "scl_inter": np.nan}, "NIfTI header with slope 2 and intercept nan"),
        ({"magic": b"ni1"}, "a NIfTI header for a pair of files"),
        ({"magic": b"xyz"}, "an Analyze 7.5 header, which does not distinguish left from right"),
    ],
)
def test_what_the_rule_refuses(fields: dict[str, Any], text: str, tmp_path: Path) -> None:
    for name in ("x.nii", "x.nii.gz"):
        volume, line, _ = read_with_remarks(scan(tmp_path / name, SMALL, **fields))
        assert volume is None
        assert line.startswith(f"{tmp_path / name}: {text}")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"srow_x": [0, 0, 0, 0], "qform_code": 1}, "its sform is not an orientation; the qform is used"),
        ({"srow_x": [1, 0, 0, 40], "qform_code": 1}, "its qform and sform differ by up to 40"),
        ({"pixdim": [1, 1, 1, 3, 1, 1, 1, 1]}, "its pixdim (1 x 1 x 3) is not the spacing of its sform (1 x 1 x 1)"),
        ({"sform_code": -7, "qform_code": 1}, "sform_code -7 is not a NIfTI code"),
        ({"bitpix": 8}, "its header gives 8 bits per voxel for type int16; the type counts"),
        ({"xyzt_units": 3}, "its header measures in micrometres; converted to mm"),
        ({"sform_code": 0, "qform_code": 0}, "its header holds no orientation"),
    ],
)
def test_what_the_rule_remarks(fields: dict[str, Any], text: str, tmp_path: Path) -> None:
    volume, line, remarks = read_with_remarks(scan(tmp_path / "x.nii.gz", SMALL, **fields))
    assert volume is not None, line
    np.testing.assert_array_equal(volume.array, SMALL.transpose())
    assert [remark.startswith(f"{tmp_path / 'x.nii.gz'}: {text}") for remark in remarks] == [True]


def test_an_ordinary_file_is_not_remarked_on(tmp_path: Path) -> None:
    assert read_with_remarks(scan(tmp_path / "x.nii.gz", SMALL))[1:] == ("", [])
    path = write_volume(Volume(SMALL, spacing_mm=(3, 2, 1), origin_mm=(5, 6, 7)), tmp_path / "y.nii.gz")
    assert read_with_remarks(path)[1:] == ("", [])


def test_pairs_are_read_by_either_name_and_a_lone_file_is_named(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(SMALL, np.diag([1.0, 2, 3, 1])), tmp_path / "p.img")
    for name in ("p.hdr", "p.img"):
        volume, line, _ = read_with_remarks(tmp_path / name)
        assert volume is not None, line
        np.testing.assert_array_equal(volume.array, SMALL.transpose())
    (tmp_path / "p.img").rename(tmp_path / "P.IMG")
    assert read_with_remarks(tmp_path / "p.hdr")[0] is not None
    (tmp_path / "P.IMG").unlink()
    assert read_with_remarks(tmp_path / "p.hdr")[1].startswith(f"{tmp_path / 'p.hdr'}: no p.img beside it")


def test_colours_and_vectors_become_channels(tmp_path: Path) -> None:
    colours = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["G"], colours["B"] = 7, np.arange(6)
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "rgb.nii.gz")
    volume, line, _ = read_with_remarks(tmp_path / "rgb.nii.gz")
    assert volume is not None, line
    assert volume.array.shape == (3, 6, 5, 4)
    assert volume.array[:, 3, 1, 1].tolist() == [0, 7, 3]


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 1, 4, 5), (3, 2, 4, 5), (1, 4, 5), (2, 2, 2)])
def test_channels_and_dimensions_survive_the_file(shape: tuple[int, ...], tmp_path: Path) -> None:
    dims = len(shape) - (shape[0] == 3)
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    back = read_volume(write_volume(Volume(array, spacing_mm=(2.0,) * dims), tmp_path / "x.nii.gz"))
    np.testing.assert_array_equal(back.array, array)
    assert back.spatial_dims == dims


def test_trailing_rubbish_in_a_gzip_stream_is_refused(tmp_path: Path) -> None:
    path = scan(tmp_path / "x.nii.gz", SMALL)
    path.write_bytes(path.read_bytes() + b"rubbish")
    assert "truncated or damaged gzip data" in read_with_remarks(path)[1]


def test_the_command_line_shows_a_remark_as_one_line() -> None:
    from resvox import cli
    from resvox.volumes import reading

    line = cli._one_line("a.nii: no orientation", UserWarning, reading.__file__, 7)
    assert line == "warning: a.nii: no orientation\n"
    assert cli._one_line("x", RuntimeWarning, "other.py", 7) == "other.py:7: RuntimeWarning: x\n"

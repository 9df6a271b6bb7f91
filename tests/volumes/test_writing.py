"""Files written: whole or not at all, on the very grid, in the smallest type."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes.geometry_strategies import grids

from resvox.errors import VolumeError
from resvox.volumes import Grid, Volume, read_volume, write_label_map, write_volume, writing


def label_map(shape: tuple[int, ...] = (4, 5, 6), top: int = 3) -> Volume:
    array = np.random.default_rng(0).integers(0, top + 1, shape)
    array.flat[0] = top
    return Volume(array, spacing_mm=(2.0, 1.5, 0.7)[: len(shape)])


@settings(deadline=None, max_examples=40)
@given(grid=grids(sizes=st.integers(1, 6)), ending=st.sampled_from([".nii.gz", ".nii", ".nrrd", ".mha"]))
def test_geometry_survives_the_file(grid: Grid, ending: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    array = np.random.default_rng(0).integers(0, 200, grid.shape).astype(np.uint8)
    path = write_volume(Volume.on_grid(array, grid), tmp_path_factory.mktemp("w") / f"x{ending}")
    back = read_volume(path)
    np.testing.assert_array_equal(back.array, array)
    tolerance = 1e-5 if ending.startswith(".nii") else 1e-9  # NIfTI stores float32
    np.testing.assert_allclose(back.spacing_mm, grid.spacing_mm, rtol=tolerance)
    np.testing.assert_allclose(back.origin_mm, grid.origin_mm, rtol=tolerance, atol=tolerance * 100)
    np.testing.assert_allclose(back.direction, grid.direction, atol=tolerance * 2)


@settings(deadline=None, max_examples=30)
@given(grid=grids(sizes=st.integers(2, 6)))
def test_nibabel_sees_the_grid_in_its_own_convention(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> None:
    array = np.random.default_rng(0).integers(0, 9, grid.shape)
    path = write_label_map(Volume.on_grid(array, grid), tmp_path_factory.mktemp("w") / "x.nii.gz")
    image = nibabel.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), array.transpose())
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 1]]) @ np.diag(np.array(grid.shape) - 1)
    ras = nibabel.affines.apply_affine(image.affine, corners[:, ::-1])
    np.testing.assert_allclose(ras * [-1, -1, 1], grid.world_mm(corners), atol=2e-3)
    qform, code = image.get_qform(coded=True)
    assert code > 0
    np.testing.assert_allclose(qform, image.affine, atol=1e-3)


@settings(deadline=None, max_examples=60)
@given(
    grid=grids(sizes=st.integers(1, 5)),
    kind=st.sampled_from(["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]),
    channels=st.integers(0, 3),
)
def test_a_nifti_file_is_that_of_nibabel(
    grid: Grid, kind: str, channels: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shape = (channels, *grid.shape) if channels else grid.shape
    array = np.random.default_rng(0).integers(0, 99, shape).astype(kind)
    ours = write_volume(Volume.on_grid(array, grid), tmp_path_factory.mktemp("w") / "x.nii").read_bytes()
    theirs = written_by_nibabel(array, grid)
    assert ours[348:] == theirs[348:]
    found, expected = nibabel.Nifti1Header(ours[:348]), nibabel.Nifti1Header(theirs[:348])
    np.testing.assert_allclose(found["pixdim"], expected["pixdim"], rtol=3e-7)
    np.testing.assert_allclose(found.get_qform(), expected.get_qform(), rtol=1e-5, atol=2e-3)
    for name in found:
        if name != "pixdim" and not name.startswith("quatern"):
            assert_same_field(found[name], expected[name])


def assert_same_field(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal, or positions that were computed in another order."""
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)
    else:
        assert found.tobytes() == expected.tobytes()


def written_by_nibabel(array: np.ndarray, grid: Grid) -> bytes:
    """The file of an array on a grid, its channels as the fifth axis."""
    dims = len(grid.shape)
    voxels = array.transpose()
    if array.ndim > dims:
        voxels = voxels.reshape(*voxels.shape[:-1], *(1,) * (4 - dims), voxels.shape[-1])
    affine = np.eye(4)
    corners = grid.world_mm(np.concatenate([np.zeros((1, dims)), np.eye(dims)]))
    flip = np.array([-1, -1, 1])[:dims]
    affine[:dims, 3] = corners[0] * flip
    affine[:dims, :dims] = ((corners[1:] - corners[0]) * flip)[::-1].T
    image = nibabel.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    if array.ndim > dims:
        image.header["intent_code"] = 1007
        image.header["descrip"] = b"3-D" if dims == 3 else b""
    return bytes(image.to_bytes())


def test_2d_files_keep_their_geometry(tmp_path: Path) -> None:
    volume = label_map((5, 6))
    for name in ("x.nii.gz", "x.mha", "x.nrrd"):
        back = read_volume(write_label_map(volume, tmp_path / name))
        np.testing.assert_array_equal(back.array, volume.array)
        np.testing.assert_allclose(back.spacing_mm, volume.spacing_mm, rtol=1e-6)
    for name in ("x.png", "x.tif"):
        np.testing.assert_array_equal(read_volume(write_label_map(volume, tmp_path / name)).array, volume.array)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_channels_survive_the_file(ending: str, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)
    back = read_volume(write_volume(Volume(array, spacing_mm=(3, 2, 1)), tmp_path / f"x{ending}"))
    assert (back.channels, back.spatial_dims) == (3, 3)
    np.testing.assert_array_equal(back.array, array)


@pytest.mark.parametrize(
    ("top", "kind"), [(1, np.uint8), (255, np.uint8), (256, np.uint16), (65535, np.uint16), (70000, np.uint32)]
)
def test_label_maps_take_the_smallest_unsigned_type(top: int, kind: type, tmp_path: Path) -> None:
    volume = label_map(top=top)
    back = read_volume(write_label_map(volume, tmp_path / "x.nii.gz"))
    assert back.array.dtype == kind
    np.testing.assert_array_equal(back.array, volume.array)


def test_masks_and_whole_floats_are_label_maps(tmp_path: Path) -> None:
    for array in (np.ones((2, 2, 2), bool), np.full((2, 2, 2), 3.0, np.float32)):
        back = read_volume(write_label_map(Volume(array, spacing_mm=(1, 1, 1)), tmp_path / "x.nii.gz"))
        assert back.array.dtype == np.uint8
        np.testing.assert_array_equal(back.array, array)


@pytest.mark.parametrize(
    "array", [np.full((2, 2, 2), -1), np.full((2, 2, 2), 0.5), np.full((2, 2, 2), np.inf), np.zeros((3, 2, 2, 2), int)]
)
def test_what_is_no_label_map_is_refused(array: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"x\.nii\.gz: array of shape .* expected a label map"):
        write_label_map(Volume(array, spacing_mm=(1, 1, 1)), tmp_path / "x.nii.gz")
    assert not list(tmp_path.iterdir())


def test_parents_are_made_and_an_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.nii.gz"
    write_label_map(label_map(top=1), path)
    write_label_map(label_map(top=200), path)
    assert read_volume(path).array.max() == 200
    assert [file.name for file in path.parent.iterdir()] == ["x.nii.gz"]


@pytest.mark.parametrize("name", ["x.gz", "x", "x.mhd", ".nii.gz", "x.jpg"])
def test_unknown_endings_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"cannot write a file named .* expected a name ending in \.nii\.gz"):
        write_volume(label_map(), tmp_path / name)


def test_png_takes_small_integers_in_2d_only(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"3-D image of type int64; expected a 2-D image of uint8 or uint16"):
        write_volume(label_map(), tmp_path / "x.png")


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_failure_in_the_middle_leaves_the_old_file_and_nothing_else(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_label_map(label_map(top=7), tmp_path / "x.nii.gz")
    before = path.read_bytes()

    def fail(*arguments: object) -> None:
        if failing == "write":
            Path(str(arguments[1])).write_bytes(b"half a fi")
        raise OSError(28, "No space left on device")

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setitem(writing.LABEL_WRITERS, "NIfTI", fail)
    with pytest.raises(VolumeError) as caught:
        write_label_map(label_map(top=9), path)
    assert str(caught.value).startswith(f"{path}: could not be written (No space left on device); expected ")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.nii.gz"]


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_full_disk_is_noticed(ending: str, tmp_path: Path) -> None:
    """The limit on file size makes every write beyond it fail, as a full disk does."""
    program = textwrap.dedent("""
        import resource, signal, sys
        import numpy as np
        from resvox.errors import VolumeError
        from resvox.volumes import Volume, write_volume
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        array = np.random.default_rng(0).integers(0, 30_000, (30, 40, 50)).astype(np.int16)
        try:
            write_volume(Volume(array, spacing_mm=(1, 1, 1)), sys.argv[1])
        except VolumeError as error:
            print(error)
    """)
    path = tmp_path / f"x{ending}"
    done = _python(program, str(path))
    assert done.stdout.startswith(f"{path}: could not be written ("), done
    assert not list(tmp_path.iterdir())


def test_kill_in_the_middle_leaves_no_half_file_under_the_name(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import os, signal, sys
        import numpy as np
        from resvox import files
        from resvox.volumes import Volume, write_volume
        def kill(path):
            os.kill(os.getpid(), signal.SIGKILL)
        files._flush = kill
        write_volume(Volume(np.zeros((9, 9, 9), np.uint8), spacing_mm=(1, 1, 1)), sys.argv[1])
    """)
    path = tmp_path / "x.nii.gz"
    assert _python(program, str(path)).returncode == -9
    left = [file.name for file in tmp_path.iterdir()]
    assert "x.nii.gz" not in left
    assert all(name.startswith(".") for name in left)  # so a folder's cases never see it


def _python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    source = Path(writing.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=environment, check=False
    )


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(VolumeError, match=r"x\.nii\.gz: could not be written \((File exists|Not a directory)\)"):
        write_label_map(label_map(), tmp_path / "file" / "x.nii.gz")


def test_a_label_map_carries_the_intent_code_by_which_viewers_know_it(tmp_path):
    volume = Volume(np.ones((3, 4, 5), np.uint8), spacing_mm=(1, 1, 1))
    codes = {
        name: nibabel.load(write(volume, tmp_path / f"{name}.nii.gz")).header.get_intent()[0]
        for name, write in (("labels", write_label_map), ("scan", write_volume))
    }
    assert codes == {"labels": "label", "scan": "none"}
    assert read_volume(tmp_path / "labels.nii.gz").array.dtype == np.uint8


@pytest.fixture(params=["isal", "zlib"])
def compressor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "zlib":  # as where ISA-L has no package
        monkeypatch.setitem(sys.modules, "isal.igzip", None)
    return str(request.param)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_compressed_files_are_read_by_others_and_do_not_depend_on_time_or_name(
    compressor: str, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import SimpleITK as sitk  # noqa: N813

    array = np.random.default_rng(0).integers(0, 9, (20, 30, 40)).astype(kind)
    volume = Volume(array, spacing_mm=(3, 2, 1))
    path = write_volume(volume, tmp_path / "x.nii.gz")
    monkeypatch.setattr("time.time", lambda: 1e9)
    other = write_volume(volume, tmp_path / "another_name.nii.gz")
    assert path.read_bytes() == other.read_bytes()
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj), array.transpose())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(os.fspath(path))), array)
    np.testing.assert_array_equal(read_volume(path).array, array)


def test_a_label_map_is_compressed_by_isal_where_it_is_installed(tmp_path: Path) -> None:
    import gzip
    import io

    from isal.igzip import IGzipFile

    from resvox.volumes.deflating import deflating

    assert isinstance(deflating(io.BytesIO()), IGzipFile)
    blocks = np.kron(np.random.default_rng(0).integers(0, 3, (4, 8, 8)), np.ones((8, 16, 16))).astype(np.uint8)
    path = write_label_map(Volume(blocks, spacing_mm=(1, 1, 1)), tmp_path / "x.nii.gz")
    assert path.stat().st_size < len(gzip.compress(gzip.decompress(path.read_bytes()), 1))

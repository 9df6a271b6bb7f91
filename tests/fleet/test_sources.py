"""Scans of several files at an address: header and voxel files, TIFF with its spacing."""

from __future__ import annotations

import json

import fsspec
import nibabel
import numpy as np
import pytest
import SimpleITK
from storage.webserver import serving

from resvox.errors import VolumeError
from resvox.fleet.sources import refuse_files_outside, source_of_scan
from resvox.storage import Location
from resvox.volumes import Volume, read_volume, write_volume
from resvox.workflow import predict

MEMORY = fsspec.filesystem("memory")
SPACING = (3.0, 2.0, 1.0)


@pytest.fixture
def model(make_model, threshold_engine):
    return make_model()


def some_voxels(seed=0):
    return np.random.default_rng(seed).integers(-900, 900, (5, 6, 7)).astype(np.int16)


def itk_image(seed=0):
    image = SimpleITK.GetImageFromArray(some_voxels(seed))
    image.SetSpacing(SPACING[::-1])
    return image


def mhd(folder, seed=0):
    SimpleITK.WriteImage(itk_image(seed), str(folder / "c.mhd"))
    return "c.mhd", "c.raw"


def mhd_of_slices(folder, seed=0):
    SimpleITK.WriteImage(itk_image(seed), str(folder / "c.mhd"))
    (folder / "c.raw").unlink()
    (folder / "slices").mkdir(exist_ok=True)
    for number, plane in enumerate(some_voxels(seed)):
        (folder / "slices" / f"s{number}.raw").write_bytes(plane.tobytes())
    text = (folder / "c.mhd").read_text().replace("c.raw", "slices/s%d.raw 0 4 1")
    (folder / "c.mhd").write_text(text)
    return "c.mhd", "slices/s3.raw"


def nhdr(folder, seed=0):
    SimpleITK.WriteImage(itk_image(seed), str(folder / "c.nhdr"))
    return "c.nhdr", "c.raw"


def pair(folder, seed=0):
    image = nibabel.Nifti1Pair(some_voxels(seed).T, np.diag([*SPACING[::-1], 1.0]))
    nibabel.save(image, folder / "c.hdr")
    return "c.hdr", "c.img"


def tiff(folder, seed=0):
    write_volume(Volume(some_voxels(seed), spacing_mm=(1.0, 1.0, 1.0)), folder / "c.tif")
    (folder / "c.json").write_text(json.dumps({"spacing": list(SPACING)}) + " " * seed)
    return "c.tif", "c.json"


SCANS = [mhd, mhd_of_slices, nhdr, pair, tiff]


def upload(folder, bucket):
    for path in folder.rglob("*"):
        if path.is_file():
            MEMORY.pipe_file(f"{bucket}/scans/{path.relative_to(folder).as_posix()}", path.read_bytes())


@pytest.mark.parametrize("write", SCANS, ids=lambda each: each.__name__)
def test_a_scan_of_several_files_is_predicted_as_from_a_folder(write, model, bucket, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    name, other = write(folder)
    upload(folder, bucket)
    plain = predict(model, folder / name, tmp_path / "plain")
    assert plain.ok
    assert str(predict(model, f"{bucket}/scans/{name}", tmp_path / "out")) == "1 written"
    (expected,) = (tmp_path / "plain").glob("c.*")
    made = tmp_path / "out" / expected.name
    assert made.read_bytes() == expected.read_bytes()
    assert read_volume(made).spacing_mm == pytest.approx(SPACING)

    assert str(predict(model, f"{bucket}/scans/{name}", tmp_path / "out")) == "1 already done"
    write(folder, seed=1)
    MEMORY.pipe_file(f"{bucket}/scans/{other}", (folder / other).read_bytes())
    assert str(predict(model, f"{bucket}/scans/{name}", tmp_path / "out")) == "1 written"


@pytest.mark.parametrize("write", [mhd, mhd_of_slices, nhdr, pair], ids=lambda each: each.__name__)
def test_a_missing_voxel_file_is_named(write, model, bucket, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    name, other = write(folder)
    (folder / other).unlink()
    upload(folder, bucket)
    items = []
    assert not predict(model, f"{bucket}/scans/{name}", tmp_path / "out", on_row=items.append).ok
    assert other.rpartition("/")[2] in items[0].reason


def test_from_a_web_server_with_names_that_an_address_quotes(model, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    SimpleITK.WriteImage(itk_image(), str(folder / "a b.mhd"))
    with serving() as web:
        for path in folder.iterdir():
            web.files[f"/{path.name.replace(' ', '%20')}"] = path.read_bytes()
        assert str(predict(model, f"{web.url}/a%20b.mhd", tmp_path / "out")) == "1 written"


@pytest.mark.parametrize("named", ["/etc/passwd", "../other.raw", "..\\other.raw", "a/../../b.raw", "C:/x.raw"])
@pytest.mark.parametrize("header", ["x.mhd", "x.mha", "x.nhdr", "x.nrrd"])
def test_no_file_outside_the_folder_of_a_header_is_read(header, named, bucket, tmp_path):
    text = (
        f"NRRD0004\ntype: short\ndimension: 3\nsizes: 7 6 5\nencoding: raw\ndata file: {named}\n"
        if header.startswith("x.n")
        else f"ObjectType = Image\nNDims = 3\nDimSize = 7 6 5\nElementType = MET_SHORT\nElementDataFile = {named}\n"
    )
    (tmp_path / header).write_text(text)
    with pytest.raises(VolumeError, match="expected a file in the folder of its header"):
        refuse_files_outside(tmp_path / header)
    MEMORY.pipe_file(f"{bucket}/{header}", text.encode())
    if header in ("x.mhd", "x.nhdr"):
        with pytest.raises(VolumeError, match="expected a file in the folder of its header"):
            source_of_scan(Location.parse(f"{bucket}/{header}"))


def test_a_header_that_asks_for_a_billion_files_is_refused(tmp_path):
    (tmp_path / "x.mhd").write_text(
        "NDims = 3\nDimSize = 7 6 5\nElementType = MET_SHORT\nElementDataFile = x%d.raw 1 1000000000 1\n"
    )
    with pytest.raises(VolumeError, match="ElementDataFile"):
        read_volume(tmp_path / "x.mhd")


def test_a_single_file_costs_one_request(bucket, tmp_path, monkeypatch):
    asked = []
    info = type(MEMORY).info
    monkeypatch.setattr(type(MEMORY), "info", lambda self, path, **more: asked.append(path) or info(self, path, **more))
    write_volume(Volume(some_voxels(), spacing_mm=SPACING), tmp_path / "c.nii.gz")
    MEMORY.pipe_file(f"{bucket}/c.nii.gz", (tmp_path / "c.nii.gz").read_bytes())
    assert source_of_scan(Location.parse(f"{bucket}/c.nii.gz")).parts == ()
    assert len(asked) == 1


def read_fetched(path):
    """As a run reads it."""
    refuse_files_outside(path)
    return read_volume(path)


HIDDEN = {
    "lone return.nhdr": "# q\rdata file: {named}\n",
    "form feeds.nhdr": "# x\x0c\x0cy\ndata file: {named}\n",
    "list.nhdr": "data file: LIST3\n{named}\n",
    "pattern.nhdr": "data file: {named}%dcret%.0s 1 1 1 3\n",
    "list.mhd": "ElementDataFile = LIST\nlist.mhd\n" + "\n" * (1 << 20) + "{named}\n",
}


@pytest.mark.parametrize("name", list(HIDDEN))
def test_no_file_outside_is_read_however_it_is_written(name, tmp_path):
    """Refused, or not a file that is read."""
    secret = tmp_path / "secret"
    secret.write_bytes(np.full(210, 77, np.int16).tobytes())
    (tmp_path / "in").mkdir()
    head = (
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 7 6 5\nendian: little\nencoding: raw\n"
        if name.endswith(".nhdr")
        else "NDims = 3\nDimSize = 7 6 5\nElementType = MET_SHORT\n"
    )
    path = tmp_path / "in" / name
    path.write_text(head + HIDDEN[name].format(named=secret), newline="")
    try:
        volume = read_fetched(path)
    except VolumeError:
        return
    assert not (volume.array == 77).any()


def test_a_local_header_may_name_files_of_other_folders(model, bucket, tmp_path):
    """As in a prediction without addresses."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "in").mkdir()
    mhd(tmp_path / "in")
    (tmp_path / "in" / "c.raw").rename(tmp_path / "raw" / "c.raw")
    text = (tmp_path / "in" / "c.mhd").read_text()
    (tmp_path / "in" / "c.mhd").write_text(text.replace("c.raw", "../raw/c.raw"))
    assert str(predict(model, tmp_path / "in" / "c.mhd", f"{bucket}/out")) == "1 written"
    assert str(predict(model, tmp_path / "in" / "c.mhd", f"{bucket}/out")) == "1 already done"
    (tmp_path / "raw" / "c.raw").write_bytes(some_voxels(1).tobytes() + b"1")
    assert str(predict(model, tmp_path / "in" / "c.mhd", f"{bucket}/out")) == "1 written"


def test_names_with_a_dot_and_descending_numbers(bucket, tmp_path):
    text = "NRRD0004\ntype: short\ndimension: 3\nsizes: 7 6 3\nencoding: raw\ndata file: ./s%d.raw 3 1 -1\n"
    MEMORY.pipe_file(f"{bucket}/what?.nhdr", text.encode())
    for number in (1, 2, 3):
        MEMORY.pipe_file(f"{bucket}/s{number}.raw", bytes(84))
    source = source_of_scan(Location.parse(f"{bucket}/what?.nhdr"))
    assert [location.name for location, _ in source.parts] == ["what?.nhdr", "s3.raw", "s2.raw", "s1.raw"]


def test_an_error_of_a_fetched_header_names_its_address(model, bucket, tmp_path):
    MEMORY.pipe_file(f"{bucket}/bad.mha", b"no header")
    items = []
    assert not predict(model, f"{bucket}/bad.mha", tmp_path / "out", on_row=items.append).ok
    assert items[0].reason.startswith(f"{bucket}/bad.mha: ")
    assert str(tmp_path) not in items[0].reason

"""Uploads and archives: nothing of a client's names reaches the disk, and what is too large is refused."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import stat
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resvox.server.intake import names_for, scan_paths, store_upload
from resvox.server.refusals import RefusedError
from resvox.server.unpacking import unpack

NAMES = st.text(min_size=0, max_size=40) | st.sampled_from(
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..\\..\\x.nii.gz",
        "a/../b.dcm",
        "C:\\x.dcm",
        "x\0.nii",
        ".nii.gz",
        "..",
        ".zip",
    ]
)
OWN = re.compile(r"scan(/\d{6}|_\d{4})?(\.[a-z]+){0,2}")


@settings(max_examples=300, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=4))
def test_stored_names_are_this_servers_whatever_clients_send(names):
    try:
        stored = names_for(names)
    except RefusedError:
        return
    assert len(set(stored)) == len(names)
    assert all(OWN.fullmatch(name) and ".." not in name for name in stored)


@pytest.mark.parametrize(
    ("names", "stored"),
    [
        (["CT of J. Doe.NII.GZ"], ["scan.nii.gz"]),
        (["a.nrrd"], ["scan.nrrd"]),
        (["t1.nii", "t2.nii"], ["scan_0000.nii", "scan_0001.nii"]),
        (["x.hdr", "x.img"], ["scan.hdr", "scan.img"]),
        (["IM1", "IM2.dcm"], ["scan/000000", "scan/000001.dcm"]),
        (["series.ZIP"], ["scan.zip"]),
    ],
)
def test_names_by_kind(names, stored):
    assert names_for(names) == stored


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a.zip", "b.nii"], "archive beside"),
        (["a.nii", "b.dcm"], "DICOM or unknown files beside"),
        (["a.nhdr"], "voxels are in another file"),
        (["a.mhd"], "voxels are in another file"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(names, reason):
    with pytest.raises(RefusedError, match=reason):
        names_for(names)


def test_an_upload_is_stored_and_found_again(tmp_path):
    assert store_upload([("t1.nii", io.BytesIO(b"abc")), ("t2.nii", io.BytesIO(b"de"))], tmp_path / "job") == 5
    assert [path.name for path in scan_paths(tmp_path / "job" / "upload")] == ["scan_0000.nii", "scan_0001.nii"]
    with pytest.raises(RefusedError, match="empty file"):
        store_upload([("a.nii", io.BytesIO())], tmp_path / "other")


# ------------------------------------------------------------------------------------------ archives


def archive_of(path, members, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def refused(path, tmp_path, reason, **limits):
    with pytest.raises(RefusedError, match=reason):
        unpack(path, tmp_path / "out", **{"max_mb": 1.0, "max_files": 10, **limits})
    outside = [each for each in tmp_path.rglob("*") if each.is_file() and tmp_path / "out" not in each.parents]
    assert outside == [path]
    shutil.rmtree(tmp_path / "out")


def test_a_series_is_unpacked_under_own_names(tmp_path):
    members = [("study/b.dcm", b"2"), ("study/a.dcm", b"1"), ("__MACOSX/study/a.dcm", b"x"), ("readme.txt", b"x")]
    unpack(archive_of(tmp_path / "a.zip", members), tmp_path / "out", max_mb=1, max_files=10)
    found = {str(each.relative_to(tmp_path / "out")): each.read_bytes() for each in (tmp_path / "out").rglob("*.dcm")}
    assert found == {"scan/000000.dcm": b"1", "scan/000001.dcm": b"2"}


@pytest.mark.parametrize("name", ["../x.dcm", "a/../../x.dcm", "/etc/x.dcm", "..\\x.dcm", "C:/x.dcm"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    refused(archive_of(tmp_path / "a.zip", [("a.dcm", b"1"), (name, b"1")]), tmp_path, "leads out of it")


def test_a_link_is_refused(tmp_path):
    info = zipfile.ZipInfo("a.dcm")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(archive_of(tmp_path / "a.zip", [(info, "/etc/passwd")]), tmp_path, "with a link")


def test_a_bomb_is_refused_by_its_directory_and_by_its_content(tmp_path):
    path = archive_of(tmp_path / "a.zip", [("a.nii", bytes(3_000_000))], compresslevel=9)
    refused(path, tmp_path, "unpacks to more than the limit")
    content = path.read_bytes()
    size = (3_000_000).to_bytes(4, "little")
    assert content.count(size) == 2
    path.write_bytes(content.replace(size, (1000).to_bytes(4, "little")))  # what the directory states is false
    refused(path, tmp_path, "the limit|damaged")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([(f"{number}.dcm", b"1") for number in range(11)], "11 files"),
        ([("a.zip", b"PK")], "holds another archive"),
        ([("readme.txt", b"x")], "empty zip"),
        ([("a.nii", b"x"), ("b.dcm", b"x")], "beside images"),
    ],
)
def test_what_is_no_scan_is_refused(tmp_path, members, reason):
    refused(archive_of(tmp_path / "a.zip", members), tmp_path, reason)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 400), flip=st.integers(0, 400), value=st.integers(0, 255))
def test_damaged_archives_are_refused_or_unpacked_but_never_worse(tmp_path_factory, cut, flip, value):
    tmp_path = tmp_path_factory.mktemp("damaged")
    path = archive_of(tmp_path / "a.zip", [("a.dcm", bytes(range(200))), ("b.dcm", bytes(range(100)))])
    content = bytearray(path.read_bytes())
    content[flip % len(content)] = value
    path.write_bytes(bytes(content[: len(content) - cut % len(content)]))
    with contextlib.suppress(RefusedError):
        unpack(path, tmp_path / "out", max_mb=1.0, max_files=10)
    assert {each.name for each in tmp_path.iterdir()} <= {"a.zip", "out"}

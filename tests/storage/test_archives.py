"""Scans in archives: their files and nothing else, wherever their names point."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from resvox.errors import StorageError
from resvox.storage import Location
from resvox.storage.archives import is_archive, stem_of_archive, unpack
from resvox.storage.fetching import fetch, source_of
from resvox.storage.objects import write_bytes

FILES = {
    "series/1.dcm": b"one",
    "series/2.dcm": b"two",
    "../../escape.dcm": b"out",
    "/etc/root.dcm": b"root",
    "series/other/1.dcm": b"same name",
    "__MACOSX/1.dcm": b"no",
    ".hidden": b"no",
    "DICOMDIR": b"no",
}


def zipped(files=FILES):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def tarred(files=FILES, mode="w:gz"):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("series/link.dcm")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [("s.zip", zipped()), ("s.tar.gz", tarred()), ("s.tar", tarred(mode="w"))],
    ids=["zip", "tar.gz", "tar"],  # the bytes hold the time, and every test process must give a test the same name
)
def test_the_files_of_a_series(tmp_path, name, content):
    write_bytes(Location.parse(f"memory://archives/{name}"), content)
    source = source_of(Location.parse(f"memory://archives/{name}"))
    folder = tmp_path / "scan"
    folder.mkdir()
    path, came = fetch(source, folder)
    assert came == len(content)
    assert sorted(each.read_bytes() for each in path.iterdir()) == sorted(
        [b"one", b"two", b"out", b"root", b"same name"]
    )
    assert not any(each.is_symlink() for each in path.iterdir())
    assert sorted(each.name for each in tmp_path.iterdir()) == ["scan"]
    assert [each.name for each in folder.iterdir()] == [path.name]  # the archive itself is gone


def test_an_archive_of_one_file_is_that_file(tmp_path):
    write_bytes(Location.parse("memory://archives/one.zip"), zipped({"a/scan.nii.gz": b"x"}))
    path, _ = fetch(source_of(Location.parse("memory://archives/one.zip")), tmp_path)
    assert path.name.endswith("scan.nii.gz")
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", zipped()[:200], tarred()[:100], b"\x1f\x8b" + bytes(50), zipped({})],
    ids=["nothing", "start of a zip", "part of a zip", "part of a tar.gz", "zeros in a gzip", "an empty zip"],
)
def test_a_damaged_one_is_one_line(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(StorageError, match=r"^s3://b/a.zip: not an archive that can be read"):
        unpack(tmp_path / "a.zip", tmp_path / "out", source=Location.parse("s3://b/a.zip"))


def test_one_that_unfolds_without_end_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("resvox.storage.archives.LARGEST", 10_000)
    (tmp_path / "a.zip").write_bytes(zipped({"a.dcm": bytes(20_000)}))
    (tmp_path / "out").mkdir()
    with pytest.raises(StorageError, match="inside"):
        unpack(tmp_path / "a.zip", tmp_path / "out", source=Location.parse("s3://b/a.zip"))


def test_names():
    assert is_archive("A.TAR.GZ")
    assert not is_archive("a.nii.gz")
    assert stem_of_archive("a.b.tar.gz") == "a.b"


def test_a_prefix_is_a_series(tmp_path):
    for number in range(12):
        write_bytes(Location.parse(f"memory://archives/series/{number}.dcm"), b"%d" % number)
    source = source_of(Location.parse("memory://archives/series"))
    path, came = fetch(source, tmp_path)
    assert path == tmp_path
    assert len(list(tmp_path.iterdir())) == 12
    assert came == 14
    same = source_of(Location.parse("memory://archives/series/"))
    assert same.to_dict() == source.to_dict()
    write_bytes(Location.parse("memory://archives/series/3.dcm"), b"x")
    assert source_of(Location.parse("memory://archives/series/")).to_dict() != source.to_dict()

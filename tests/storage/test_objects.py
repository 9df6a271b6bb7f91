"""Files in stores: whole or not at all, created once, tried again where that helps."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from resvox.errors import StorageError, StoreBusyError
from resvox.storage import Location
from resvox.storage.objects import (
    create,
    delete,
    download,
    listing,
    read_beginning,
    read_bytes,
    state_of_object,
    upload,
    write_bytes,
)


@pytest.fixture(params=["memory", "file"])
def folder(request, tmp_path):
    if request.param == "file":
        yield Location.parse(f"{tmp_path}/store/")
    else:
        yield Location.parse("memory://objects/store/")
        if fsspec.filesystem("memory").exists("/objects"):
            fsspec.filesystem("memory").rm("/objects", recursive=True)


def test_written_read_and_removed(folder, tmp_path):
    assert read_bytes(folder / "a") is None
    assert state_of_object(folder / "a") is None
    write_bytes(folder / "a", b"one")
    write_bytes(folder / "a", b"two!")
    assert read_bytes(folder / "a") == b"two!"
    assert state_of_object(folder / "a").bytes == 4
    (tmp_path / "up").write_bytes(b"from a file")
    assert upload(tmp_path / "up", folder / "below/b") == 11
    assert download(folder / "below/b", tmp_path / "down", size=11) == 11
    assert (tmp_path / "down").read_bytes() == b"from a file"
    assert [location.uri for location, _ in listing(folder)] == [(folder / "a").uri, (folder / "below/b").uri]
    delete(folder / "a")
    delete(folder / "a")
    assert read_bytes(folder / "a") is None


def test_of_many_one_creates(folder):
    start = threading.Barrier(8)

    def one(number):
        start.wait()
        return create(folder / "claim", b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(one, range(8)))
    assert sum(made) == 1
    assert read_bytes(folder / "claim") == b"%d" % made.index(True)


def test_a_file_of_another_size_than_announced_is_not_taken(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("resvox.storage.failures.TRIES", 2)
    write_bytes(folder / "a", b"half")
    with pytest.raises(StoreBusyError, match=r"after 2 tries .*4 bytes of 8"):
        download(folder / "a", tmp_path / "a", size=8)
    assert list(tmp_path.glob("a")) == []


def test_a_missing_file_is_named(folder, tmp_path):
    with pytest.raises(StorageError, match=r"none.nii.gz: no such file"):
        download(folder / "none.nii.gz", tmp_path / "x")


def test_the_state_changes_with_the_file(folder):
    write_bytes(folder / "a", b"one")
    before = state_of_object(folder / "a").to_dict()
    assert state_of_object(folder / "a").to_dict() == before
    ((_, listed),) = listing(folder)
    assert listed.to_dict() == before
    write_bytes(folder / "a", b"two")
    assert state_of_object(folder / "a").to_dict() != before


@pytest.mark.parametrize("faults", [[503], ["cut"], [500, "cut", 503], [429, 429]])
def test_what_passes_is_tried_again(web, tmp_path, faults):
    web.files["/a.nii.gz"] = bytes(range(256)) * 400
    web.faults["/a.nii.gz"] = list(faults)
    location = Location.parse(f"{web.url}/a.nii.gz?signature=secret")
    state = state_of_object(location)
    assert state.bytes == 102_400
    assert state.etag
    download(location, tmp_path / "a", size=state.bytes)
    assert (tmp_path / "a").read_bytes() == web.files["/a.nii.gz"]


@pytest.mark.parametrize(
    ("status", "words"), [(403, "no permission"), (401, "no permission"), (400, "HTTP status 400")]
)
def test_what_does_not_pass_is_one_line_at_once(web, status, words):
    web.files["/a"] = b"x"
    web.faults["/a"] = [status] * 4
    with pytest.raises(StorageError, match=words) as caught:
        state_of_object(Location.parse(f"{web.url}/a?signature=secret"))
    assert str(caught.value).startswith(f"{web.url}/a: cannot be read")
    assert "secret" not in str(caught.value)
    assert sum(web.requests.values()) <= 2


def test_a_server_that_stays_busy(web, monkeypatch):
    monkeypatch.setattr("resvox.storage.failures.TRIES", 3)
    web.files["/a"] = b"x"
    web.faults["/a"] = [503] * 20
    with pytest.raises(StoreBusyError, match=r"after 3 tries .HTTP status 503.; expected a store that answers"):
        state_of_object(Location.parse(f"{web.url}/a"))


def test_web_servers_have_no_folders_and_take_no_results(web, tmp_path):
    with pytest.raises(StorageError, match="has no listing"):
        list(listing(Location.parse(f"{web.url}/scans/")))
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(StorageError, match="results on a web server; expected a folder: file://, s3://"):
        upload(tmp_path / "a", Location.parse(f"{web.url}/a"))


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)

    def missing(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("resvox.storage.objects.importlib.import_module", missing)
    with pytest.raises(StorageError, match=r"s3fs is not installed; .*pip install 'resvox\[s3\]'"):
        read_bytes(Location.parse("s3://bucket/a"))


def test_the_beginning_of_a_file(folder):
    write_bytes(folder / "a", b"0123456789")
    assert read_beginning(folder / "a", 4) == b"0123"
    assert read_beginning(folder / "a", 40) == b"0123456789"
    with pytest.raises(StorageError, match="no such file"):
        read_beginning(folder / "b", 4)

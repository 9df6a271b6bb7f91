"""Models and datasets by address: copied once, and again when they have changed."""

from __future__ import annotations

import fsspec
import pytest

from resvox.errors import StorageError
from resvox.storage import Location, cached, local_copy
from resvox.storage.objects import write_bytes


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESVOX_CACHE", str(tmp_path / "cache" / "engines"))
    yield
    memory = fsspec.filesystem("memory")
    for path in memory.find("/cached"):
        memory.rm_file(path)


def test_a_file_is_copied_once_and_again_when_it_changes(monkeypatch):
    write_bytes(Location.parse("memory://cached/m.safetensors"), b"one")
    path = cached("memory://cached/m.safetensors")
    assert (path.name, path.read_bytes()) == ("m.safetensors", b"one")
    with monkeypatch.context() as without:
        without.setattr("resvox.storage.cache.download", None)
        assert cached("memory://cached/m.safetensors") == path
    write_bytes(Location.parse("memory://cached/m.safetensors"), b"two")
    assert cached("memory://cached/m.safetensors").read_bytes() == b"two"


def test_a_folder_keeps_its_shape():
    for name in ("dataset.json", "imagesTr/a.nii.gz", "labelsTr/a.nii.gz"):
        write_bytes(Location.parse(f"memory://cached/data/{name}"), name.encode())
    folder = cached("memory://cached/data")
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {name: name.encode() for name in ("dataset.json", "imagesTr/a.nii.gz", "labelsTr/a.nii.gz")}
    assert cached("memory://cached/data/") == folder


def test_local_paths_stay_and_missing_files_are_named(tmp_path):
    assert local_copy(tmp_path) == tmp_path
    assert local_copy(f"file://{tmp_path}") == tmp_path
    with pytest.raises(StorageError, match=r"memory://cached/none: no such file"):
        local_copy("memory://cached/none")

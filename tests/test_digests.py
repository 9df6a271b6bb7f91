"""Digests of model files that are kept on disk: equal to those of the bytes, and never of a file as it was before."""

import json
import os
import time

import pytest

from resvox import digests, files
from resvox.digests import begin_digest, digest_of
from resvox.files import SETTLED, sha256_of


@pytest.fixture
def reads(tmp_path, monkeypatch):
    """The files that are read for a digest; a cache folder of the test; each state of a file counts as settled."""
    monkeypatch.setenv("RESVOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "SETTLED", -1)
    plain, found = files._sha256_of_file, []
    monkeypatch.setattr(files, "_sha256_of_file", lambda path: found.append(path) or plain(path))
    return found


def in_another_process():
    files._KNOWN.clear()
    files._BEGUN.clear()


def test_a_file_is_read_once_and_again_after_any_change(tmp_path, reads):
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    for _ in range(3):
        in_another_process()
        begin_digest(path)
        assert digest_of(path) == sha256_of(b"first")
    assert len(reads) == 1
    times = os.stat(path)
    time.sleep(0.05)  # longer than the resolution of the times of a file
    path.write_bytes(b"other")  # in place, of the same size and with the time of the one before
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    in_another_process()
    assert digest_of(path) == sha256_of(b"other")
    path.unlink()
    with pytest.raises(FileNotFoundError):
        digest_of(path)
    begin_digest(path)


def test_a_file_that_was_just_written_is_read_again(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(files, "SETTLED", SETTLED)
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    digest_of(path)
    in_another_process()
    digest_of(path)
    assert len(reads) == 2


def test_the_time_that_counts_is_that_before_the_file_is_read(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(files, "SETTLED", SETTLED)
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    begin_digest(path)
    later = time.time_ns() + 10 * SETTLED  # many seconds pass until the digest is there
    monkeypatch.setattr(time, "time_ns", lambda: int(later))
    sha256_of(path)
    assert files._KNOWN.get(files.file_state(path)) is None


def test_on_windows_nothing_is_kept(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(files.sys, "platform", "win32")
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    assert digest_of(path) == sha256_of(b"first")
    assert not (tmp_path / "cache").exists()


def test_a_setting_of_the_cache_that_cannot_be_used_is_none(tmp_path, reads, monkeypatch):
    monkeypatch.setenv("RESVOX_CACHE", "~no-user-of-this-name/cache")
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    begin_digest(path)
    assert digest_of(path) == sha256_of(b"first")


ENTRIES = [[], 7, "PATH", ["PATH", 1, 2, 3, 4, 5, "0" * 64], ["PATH", "STATE", "short"], ["PATH", "STATE", 7]]


@pytest.mark.parametrize("damage", ["", "[]", "{", *ENTRIES], ids=str)
def test_a_damaged_file_of_digests_is_one_without_them(tmp_path, reads, damage):
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    kept = tmp_path / "cache" / digests.NAME
    kept.parent.mkdir()
    if isinstance(damage, list) and damage[1:2] == ["STATE"]:
        damage = [*files.file_state(path), damage[-1]]
    kept.write_text(damage if damage in ("", "[]", "{") else json.dumps({str(path): damage}))
    assert digest_of(path) == sha256_of(b"first")
    assert json.loads(kept.read_text())[str(path)][-1] == sha256_of(b"first")


def test_only_the_latest_files_are_kept(tmp_path, reads):
    for number in range(digests.KEPT + 3):
        path = tmp_path / str(number)
        path.write_bytes(b"")
        digest_of(path)
    names = [os.path.basename(name) for name in json.loads((tmp_path / "cache" / digests.NAME).read_text())]
    assert names == [str(number) for number in range(3, digests.KEPT + 3)]


def test_without_a_cache_folder_digests_are_computed(tmp_path, reads, monkeypatch):
    monkeypatch.setenv("RESVOX_CACHE", "")
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    for _ in range(2):
        in_another_process()
        assert digest_of(path) == sha256_of(b"first")
    assert len(reads) == 2

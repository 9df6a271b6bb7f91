"""Files: written whole or not at all, leftovers removed by name, digests."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resvox import files
from resvox.files import (
    begin_sha256,
    creating_folder,
    remove_leftovers,
    replacing,
    replacing_all,
    sha256_of,
    write_atomically,
)

NAMES = ["x.nii.gz", "model.safetensors", "1.2.840.10008.nii.gz", "plan", "a.b.c", ".hidden", "ünïcode.json", "x" * 250]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_replaced_whole(tmp_path, name):
    path = tmp_path / "new" / "folder" / name
    write_atomically(path, "one\r\n")
    assert write_atomically(path, b"two") == path
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == [name]


@pytest.mark.parametrize("name", ["x.nii.gz", "x.NII.GZ", "x.png", "x.tar.xz", "plan.yaml"])
def test_the_temporary_name_is_hidden_and_keeps_the_ending(tmp_path, name):
    with replacing(tmp_path / name) as temporary:
        temporary.write_bytes(b"")
        assert temporary.name.startswith(".x." if name[0] == "x" else ".plan.")
        assert temporary.name.endswith(name[name.index(".") :])
        assert temporary.parent == tmp_path


@pytest.mark.parametrize("fails", ["body", "check", "os.fsync", "os.replace"])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, fails):
    def full(*_):
        raise OSError(28, "No space left on device")

    path = write_atomically(tmp_path / "x.json", "old")
    if fails.startswith("os."):
        monkeypatch.setattr(os, fails[3:], full)

    def write():
        with replacing(path, check=full if fails == "check" else None) as temporary:
            temporary.write_text("ne")
            if fails == "body":
                full()

    with pytest.raises(OSError, match="No space left"):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_file_has_the_rights_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    assert write_atomically(tmp_path / "x", "").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_many_threads_write_one_file_and_each_write_is_whole(tmp_path):
    path = tmp_path / "x.json"
    threads = [threading.Thread(target=write_atomically, args=(path, str(n) * 10_000)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = path.read_text()
    assert len(text) == 10_000
    assert len(set(text)) == 1
    assert os.listdir(tmp_path) == ["x.json"]


def test_companions_are_in_place_before_the_file_that_needs_them(tmp_path, monkeypatch):
    moved = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (moved.append(Path(target).name), real(source, target)))
    with replacing_all(tmp_path / "net.xml") as folder:
        for name in ("net.xml", "net.bin", "net.json"):
            (folder / name).write_text(name)
    assert sorted(moved[:2]) == ["net.bin", "net.json"]
    assert moved[2] == "net.xml"
    assert sorted(os.listdir(tmp_path)) == ["net.bin", "net.json", "net.xml"]


def test_a_folder_appears_with_all_its_files(tmp_path):
    with creating_folder(tmp_path / "case") as folder:
        (folder / "image.npy").write_bytes(b"1")
        assert os.listdir(tmp_path) == [folder.name]
    with creating_folder(tmp_path / "case") as folder:  # as if another process had been faster
        (folder / "image.npy").write_bytes(b"2")
    assert (tmp_path / "case" / "image.npy").read_bytes() == b"1"
    with pytest.raises(OSError), creating_folder(tmp_path / "case") as folder:  # the other folder is not complete
        (folder / "label.npy").write_bytes(b"3")
    with pytest.raises(KeyError), creating_folder(tmp_path / "other"):
        raise KeyError
    assert os.listdir(tmp_path) == ["case"]


@given(name=st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40))
def test_what_a_killed_write_leaves_is_found_again(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp("f")
    path = folder / name
    if name in (".", ".."):
        return
    path.touch()
    left = files._temporary(path)
    left.touch()
    others = [files._temporary(folder / other) for other in (f"other{name}", f"{name}.png", f"{name}_2.nii.gz")]
    for other in others:
        other.touch()
    remove_leftovers(folder, of=[path])
    assert {each.name for each in folder.iterdir()} == {path.name, *(other.name for other in others)}


def test_leftovers_are_removed_by_their_names_and_age(tmp_path):
    left = [
        ".x.0123abcd.partial.nii.gz",
        ".last.pt.123.tmp",
        ".model.safetensors.ab_12xyz.partial",
        ".y.00000000.partial",
    ]
    kept = ["x.nii.gz", ".hidden", "x.0123abcd.partial.nii.gz", "notes.tmp", ".x.partial", ".notes.tmp"]
    for name in [*left, *kept]:
        (tmp_path / name).write_text("")
    (tmp_path / ".case.89abcdef.partial").mkdir()
    (tmp_path / ".case.89abcdef.partial" / "image.npy").write_text("")
    remove_leftovers(tmp_path, older_than_s=3600)
    assert len(os.listdir(tmp_path)) == len(left) + len(kept) + 1
    remove_leftovers(tmp_path, prefix="last")
    assert ".last.pt.123.tmp" not in os.listdir(tmp_path)
    assert left[0] in os.listdir(tmp_path)
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
    remove_leftovers(tmp_path / "nowhere")


@given(data=st.binary(max_size=3000))
def test_a_digest_is_that_of_the_bytes(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("f") / "x"
    path.write_bytes(data)
    assert sha256_of(path) == sha256_of(str(path)) == sha256_of(data) == hashlib.sha256(data).hexdigest()


def test_a_digest_that_was_begun_is_that_of_the_file_as_it_is_then(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    begin_sha256(path)
    assert sha256_of(path) == sha256_of(b"first")
    begin_sha256(path)
    path.write_bytes(b"second one")
    assert sha256_of(path) == sha256_of(b"second one")
    begin_sha256(tmp_path / "none")  # raised where it is asked for
    with pytest.raises(FileNotFoundError):
        sha256_of(tmp_path / "none")


def test_an_old_file_is_read_once_for_its_digest_and_a_changed_one_again(tmp_path, monkeypatch):
    read = []
    plain = files._sha256_of_file
    monkeypatch.setattr(files, "_sha256_of_file", lambda path: read.append(path) or plain(path))
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    for _ in range(2):  # just written: another change could have the same time
        assert sha256_of(path) == sha256_of(b"first")
    assert len(read) == 2
    monkeypatch.setattr(files, "SETTLED", -1)
    for _ in range(2):
        assert sha256_of(path) == sha256_of(b"first")
    begin_sha256(path)
    assert len(read) == 3
    path.write_bytes(b"other")
    os.utime(path, (1, 1))  # the clock of the file system may not have moved on
    assert sha256_of(path) == sha256_of(b"other")
    for number in range(2 * files.MOST_KNOWN):
        each = tmp_path / str(number)
        each.write_bytes(b"")
        sha256_of(each)
    assert len(files._KNOWN) <= files.MOST_KNOWN

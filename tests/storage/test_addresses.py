"""Addresses: what they mean, what is refused, and what of them is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resvox.errors import StorageError
from resvox.storage import Location, is_uri
from resvox.storage.failures import refusal

NAME = st.text(
    st.characters(exclude_characters="/?#@\\", exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=20
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("s3://bucket/a/b.nii.gz", "s3://bucket/a/b.nii.gz"),
        ("s3:/bucket/a", "s3://bucket/a"),
        (Path("s3://bucket/a"), "s3://bucket/a"),
        ("S3A://bucket/a", "s3://bucket/a"),
        ("gcs://bucket/a/", "gs://bucket/a/"),
        ("file:///data/a.nii", "file:///data/a.nii"),
        ("file:/data/a.nii", "file:///data/a.nii"),
        ("/data/a.nii", "file:///data/a.nii"),
        ("/data/in/", "file:///data/in/"),
    ],
)
def test_an_address_is_understood(text, wanted):
    assert Location.parse(text).uri == wanted


def test_a_relative_path_begins_beside_the_manifest():
    manifest = Location.parse("s3://bucket/lists/all.csv")
    assert Location.parse("scans/a.nii.gz", beside=manifest).uri == "s3://bucket/lists/scans/a.nii.gz"
    assert Location.parse("a.nii.gz").local == Path("a.nii.gz").absolute()


@pytest.mark.parametrize("text", ["C:/scans", "scans/a.nii.gz", "/a", "hf://owner/name", "hf:/owner/name", 7, None])
def test_what_is_no_address_of_a_store(text):
    assert not is_uri(text)


@pytest.mark.parametrize("text", ["s3://b/k", "s3:/b/k", Path("gs://b/k"), "memory://x", "https://h/x", "file:///x"])
def test_what_is_one(text):
    assert is_uri(text)


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(StorageError, match=r"^sw3://a/b: an address with sw3://; expected .*s3.*did you mean s3\?"):
        Location.parse("sw3://a/b")


def test_a_bucket_is_needed():
    with pytest.raises(StorageError, match="a bucket and a name"):
        Location.parse("s3://")


@given(st.sampled_from(["s3", "gs", "az", "memory"]), st.lists(NAME, min_size=2, max_size=5))
def test_parts_go_in_and_come_out(scheme, parts):
    location = Location.parse(f"{scheme}://{'/'.join(parts)}")
    assert location.name == parts[-1]
    assert (location.folder / parts[-1]).uri == location.uri
    assert str(location) == location.uri


def test_passwords_and_queries_are_not_shown():
    signed = Location.parse("https://me:secret@host/a/scan%201.nii.gz?X-Amz-Signature=secret")
    assert signed.name == "scan 1.nii.gz"
    assert "secret" in signed.uri
    for text in (str(signed), repr(signed), str(refusal(signed, "read", OSError("bad https://h/x?token=secret")))):
        assert "secret" not in text


@pytest.mark.parametrize(
    "words", ["key AKIAABCDEFGHIJKLMNOP is wrong", "token=hunter2", "Signature: hunter2", "see https://u:hunter2@h/"]
)
def test_keys_in_a_message_of_a_library_are_not_shown(words):
    text = str(refusal(Location.parse("s3://b/k"), "read", RuntimeError(words)))
    assert "hunter2" not in text
    assert "AKIAABCD" not in text
    assert text.startswith("s3://b/k: cannot be read")


@pytest.mark.parametrize(
    "text",
    ["https://e.org/x/..%2f..%2fvictim.nii.gz", "https://e.org/x/%2Ftmp%2Fy", "https://e.org/x/%2e%2e", "s3://b/x/.."],
)
def test_a_name_that_is_a_path_is_refused(text):
    with pytest.raises(StorageError, match="expected a name that a local file may have"):
        Location.parse(text).name  # noqa: B018


def test_files_beside_and_below():
    web = Location.parse("https://e.org/a%20b/x.mhd?y")
    assert web.has_query
    assert web.beside("c d/x 1.raw").uri == "https://e.org/a%20b/c%20d/x%201.raw"
    assert web.beside("c d/x 1.raw").below(web.folder) == "c d/x 1.raw"
    key = Location.parse("s3://b/a%20b/x.mhd")
    assert key.beside("c%20d.raw").below(key.folder) == "c%20d.raw"
    assert not Location.parse("s3://b/what?.mhd").has_query
    with pytest.raises(StorageError):
        Location.parse("https://e.org/a/b%2f..%2fc.raw").below(Location.parse("https://e.org/a/"))
    assert Location.parse("/data/a/x.mhd").beside("../b.raw").local == Path("/data/a/../b.raw")
    assert Location.parse("/data/a/x.mhd").beside("/c/b.raw").local == Path("/c/b.raw")

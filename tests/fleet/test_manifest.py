"""Manifests in three formats: the same rows, one by one."""

from __future__ import annotations

import csv
import json

import pyarrow
import pytest
from pyarrow import parquet

from resvox.errors import DatasetError
from resvox.fleet.manifest import Manifest, has_addresses, name_of
from resvox.storage import Location

ROWS = [
    {"id": "a", "uri": "s3://scans/x/a.nii.gz", "bytes": 100, "etag": '"e1"', "site": "Bern", "age": 61},
    {"id": "b", "uri": "below/b.zip", "bytes": 200, "etag": "", "site": "Köln, West", "age": None},
]
SOURCE = Location.parse("s3://lists/2026/all.csv")


def write_csv(path, rows=ROWS, separator=",", encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_lines(path, rows=ROWS):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path, rows=ROWS):
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


WRITERS = {
    "m.csv": write_csv,
    "m.tsv": lambda path: write_csv(path, separator="\t"),
    "semicolons.csv": lambda path: write_csv(path, separator=";", encoding="utf-8-sig"),
    "m.jsonl": write_lines,
    "M.NDJSON": write_lines,
    "m.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_rows(tmp_path, name):
    path = WRITERS[name](tmp_path / name)
    assert has_addresses(path)
    manifest = Manifest(path, source=SOURCE)
    assert manifest.count() == 2
    first, second = manifest
    assert (first.id, first.uris, first.bytes, first.etag) == ("a", ("s3://scans/x/a.nii.gz",), 100, "e1")
    assert (second.id, second.uris, second.bytes) == ("b", ("s3://lists/2026/below/b.zip",), 200)
    assert {key: str(value) for key, value in first.extra.items()} == {"site": "Bern", "age": "61"}
    assert second.extra["site"] == "Köln, West"
    assert list(manifest) == [first, second]


@pytest.mark.parametrize("columns", [("uri_ct", "uri_pet"), ("CT", "PET"), ("uri_0001", "uri_0000")])
def test_one_column_per_channel(tmp_path, columns):
    by_number = columns[0] == "uri_0001"
    rows = [{"id": "a", columns[0]: "s3://s/ct.nii", columns[1]: "s3://s/pet.nii"}]
    manifest = Manifest(write_csv(tmp_path / "m.csv", rows), channel_names=["CT", "PET"])
    (row,) = manifest
    assert row.uris == (("s3://s/pet.nii", "s3://s/ct.nii") if by_number else ("s3://s/ct.nii", "s3://s/pet.nii"))


def test_a_row_that_cannot_be_used_is_a_row_with_its_problem(tmp_path):
    rows = [{"id": "a/b", "uri": "s3://s/a.nii"}, {"id": "", "uri": "s3://s/c.nii.gz"}, {"id": "d", "uri": ""}]
    bad, named, empty = Manifest(write_csv(tmp_path / "m.csv", rows))
    assert "row 1 of" in bad.problem
    assert "'a/b'" in bad.problem
    assert (named.id, named.problem) == ("c", "")
    assert empty.problem.endswith("has no uri")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rows"),
        ("id,uri\n", "no rows"),
        ("id,path\na,s3://x/y\n", "columns id, path; expected a column uri"),
        ("id,uri\na,\xff\n", "not UTF-8"),
    ],
)
def test_a_manifest_that_is_none(tmp_path, text, words):
    path = tmp_path / "m.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match=words) as caught:
        list(Manifest(path, source=SOURCE))
    assert str(caught.value).startswith("s3://lists/2026/all.csv: ")


def test_a_damaged_line_is_numbered(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"uri": "s3://a/b"}\n{"uri": \n')
    with pytest.raises(DatasetError, match="line 2"):
        list(Manifest(path))
    path.write_text('["s3://a/b"]\n')
    with pytest.raises(DatasetError, match=r"line 1: .* expected a JSON object per line"):
        Manifest(path)


def test_damaged_parquet(tmp_path):
    path = tmp_path / "m.parquet"
    path.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(DatasetError, match="not Parquet"):
        Manifest(path)


def test_a_manifest_of_classes_is_none_of_addresses(tmp_path):
    (tmp_path / "classes.csv").write_text("image,class\na.png,cat\n")
    assert not has_addresses(tmp_path / "classes.csv")
    assert not has_addresses(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("s3://b/a.b.nii.gz", "a.b"),
        ("s3://b/x_0000.nii.gz", "x"),
        ("s3://b/series.tar.gz", "series"),
        ("s3://b/1.2.3/", "1.2.3"),
    ],
)
def test_names_by_addresses(address, name):
    assert name_of(address) == name

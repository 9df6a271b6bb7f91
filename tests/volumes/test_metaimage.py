"""MetaImage against ITK, over what a header can say; and what is refused."""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes.geometry_strategies import directions

from resvox.errors import VolumeError
from resvox.volumes import read_volume

TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


@st.composite
def images(draw: st.DrawFn) -> dict[str, Any]:
    dims = draw(st.sampled_from([2, 3]))
    return {
        "sizes": [draw(st.integers(1, 5)) for _ in range(dims)],
        "channels": draw(st.sampled_from([1, 1, 3])),
        "type": draw(st.sampled_from(sorted(TYPES))),
        "order": draw(st.sampled_from("<>")),
        "spacing": [draw(st.sampled_from([0.5, 1.0, 2.25])) for _ in range(dims)],
        "origin": [draw(st.sampled_from([-12.5, 0.0, 100.0])) for _ in range(dims)],
        "direction": draw(directions(dims)),
        "names": draw(
            st.sampled_from([("Offset", "TransformMatrix"), ("Position", "Orientation"), ("Origin", "Rotation")])
        ),
        "layout": draw(st.sampled_from(["local", "packed", "beside", "packed beside", "text", "tail"])),
    }


def write(made: dict[str, Any], folder: Path) -> tuple[Path, np.ndarray]:
    """The header by hand, and the numbers (y, x) or (z, y, x), channels last."""
    shape = (*made["sizes"][::-1], *([made["channels"]] if made["channels"] > 1 else []))
    array = (np.arange(np.prod(shape)) % 100).reshape(shape).astype(TYPES[made["type"]])
    data = array.astype(array.dtype.newbyteorder(made["order"])).tobytes()
    layout = made["layout"]
    if "packed" in layout:
        data = zlib.compress(data)
    elif layout == "text":
        data = " ".join(map(str, array.ravel().tolist())).encode()
    numbers = lambda values: " ".join(repr(float(value)) for value in values)  # noqa: E731
    lines = [
        "ObjectType = Image",
        f"NDims = {len(made['sizes'])}",
        f"BinaryData = {layout != 'text'}",
        f"BinaryDataByteOrderMSB = {made['order'] == '>'}",
        f"CompressedData = {'packed' in layout}",
        *([f"CompressedDataSize = {len(data)}"] if "packed" in layout else []),
        f"{made['names'][1]} = {numbers(made['direction'].T.ravel())}",
        f"{made['names'][0]} = {numbers(made['origin'])}",
        f"ElementSpacing = {numbers(made['spacing'])}",
        f"DimSize = {' '.join(map(str, made['sizes']))}",
        *(["HeaderSize = -1"] if layout == "tail" else []),
        f"ElementNumberOfChannels = {made['channels']}",
        f"ElementType = {made['type']}",
    ]
    beside = layout in ("beside", "packed beside", "tail")
    path = folder / ("x.mhd" if beside else "x.mha")
    text = "\n".join([*lines, f"ElementDataFile = {'x.raw' if beside else 'LOCAL'}", ""]).encode()
    path.write_bytes(text if beside else text + data)
    if beside:
        (folder / "x.raw").write_bytes((b"something in front" if layout == "tail" else b"") + data)
    return path, array


def check_like_itk(made: dict[str, Any], folder: Path) -> None:
    path, array = write(made, folder)
    volume = read_volume(path)
    dims = len(made["sizes"])
    ours = volume.array if made["channels"] == 1 else np.moveaxis(volume.array, 0, -1)
    np.testing.assert_array_equal(ours, array)
    assert volume.array.dtype == (np.float32 if array.dtype.kind == "f" else array.dtype)
    if made["layout"] == "text":
        return  # ITK is not asked: it does not read text with channels
    theirs = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(theirs), array)
    np.testing.assert_allclose(volume.spacing_mm[::-1], theirs.GetSpacing())
    np.testing.assert_allclose(volume.origin_mm, theirs.GetOrigin())
    direction = np.reshape(theirs.GetDirection(), (dims, dims))
    np.testing.assert_allclose(volume.direction[:, ::-1], direction, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(made=images())
def test_metaimages_are_what_itk_reads(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    check_like_itk(made, tmp_path_factory.mktemp("meta"))


@pytest.mark.laws
@settings(deadline=None, max_examples=1000)
@given(made=images())
def test_metaimages_are_what_itk_reads_at_length(
    made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_like_itk(made, tmp_path_factory.mktemp("meta"))


HEADER = """ObjectType = Image
NDims = 3
DimSize = 2 2 2
ElementSpacing = 1 1 1
ElementType = MET_UCHAR
ElementDataFile = LOCAL
"""


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("NDims = 3", "NDims = 99", "NDims = 99"),
        ("DimSize = 2 2 2", "DimSize = 2 2 0", "DimSize = 2 2 0"),
        ("DimSize = 2 2 2", "DimSize = 2 2 99999999", "truncated: "),
        ("MET_UCHAR", "MET_OTHER", "ElementType = MET_OTHER"),
        ("LOCAL", "nowhere.raw", "no voxel file nowhere.raw beside it"),
        ("ElementSpacing = 1 1 1", "ElementSpacing = 1 1 nan", "ElementSpacing = 1 1 nan"),
        ("ElementSpacing = 1 1 1", "ElementSpacing = 1 1 0", "spacing_mm (0.0, 1.0, 1.0)"),
        ("NDims", "Dimensions", "no MetaImage header in it"),
        ("ElementType", "CompressedData = True\nElementType", "truncated: 0 bytes"),
        ("ElementSpacing", "TransformMatrix = 1 1 0 0 1 0 0 0 1\nElementSpacing", "sheared"),
    ],
)
def test_what_is_refused(old: str, new: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.mha"
    data = bytes(8) if "Compressed" not in new else b""
    path.write_bytes(HEADER.replace(old, new).encode() + data)
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert text in str(caught.value)


@pytest.mark.parametrize("name", ["BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData"])
@pytest.mark.parametrize("word", ["Tru", "TTrue", "Tr\xb3e", "2", ""])
def test_a_flag_that_is_neither_true_nor_false_is_refused(name: str, word: str, tmp_path: Path) -> None:
    path = tmp_path / "x.mha"
    path.write_bytes(HEADER.replace("ElementType", f"{name} = {word}\nElementType").encode() + bytes(8))
    with pytest.raises(VolumeError, match=f"{name} = .*expected True or False"):
        read_volume(path)


def test_a_compressed_size_alone_means_compressed_voxels(tmp_path: Path) -> None:
    path, packed = tmp_path / "x.mha", zlib.compress(bytes(range(8)))
    header = HEADER.replace("ElementType", f"CompressedDataSize = {len(packed)}\nElementType")
    path.write_bytes(header.encode() + packed)
    np.testing.assert_array_equal(read_volume(path).array.ravel(), range(8))


def test_slices_in_files_of_their_own_are_one_volume(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"s{number:02d}.raw").write_bytes(bytes([number] * 4))
    for named in ("LIST\ns01.raw\ns02.raw\n", "s%02d.raw 1 2 1"):
        (tmp_path / "x.mhd").write_text(HEADER.replace("LOCAL", named))
        assert read_volume(tmp_path / "x.mhd").array.reshape(2, 4).tolist() == [[1] * 4, [2] * 4]


def test_units_and_a_missing_spacing_are_remarked_on(tmp_path: Path) -> None:
    for old, new, text, spacing in (
        ("ElementSpacing = 1 1 1", "Comment = none", "no ElementSpacing; 1 mm is taken", 1.0),
        ("ElementType", "DistanceUnits = um\nElementType", "its lengths are in um; converted to mm", 0.001),
    ):
        (tmp_path / "x.mha").write_bytes(HEADER.replace(old, new).encode() + bytes(8))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            volume = read_volume(tmp_path / "x.mha")
        assert volume.spacing_mm == pytest.approx((spacing,) * 3)
        assert [str(each.message) for each in caught] == [f"{tmp_path / 'x.mha'}: {text}"]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_voxel_files_are_as_many_as_slices(count: int, tmp_path: Path) -> None:
    """Files that are not slices would be cut at the wrong voxels."""
    names = [f"s{number}.raw" for number in range(count)]
    for name in names:
        (tmp_path / name).write_bytes(bytes(4))
    (tmp_path / "x.mhd").write_text(HEADER.replace("LOCAL", "LIST\n" + "\n".join(names)))
    reason = "truncated|too short|bytes" if count == 1 else f"{count} voxel files for 2x2x2 voxels"
    with pytest.raises(VolumeError, match=reason):
        read_volume(tmp_path / "x.mhd")


@pytest.mark.parametrize(
    "named", ["x%d.raw 1 99999999999999999999 1", "x%d.raw 1 \u00b2 1", "x%d%s.raw 1 2 1", "x%d.raw 1 2 0", "LIST\n"]
)
def test_patterns_that_name_no_files_are_refused(named: str, tmp_path: Path) -> None:
    (tmp_path / "x.mhd").write_text(HEADER.replace("LOCAL", named), encoding="utf-8")
    with pytest.raises(VolumeError, match=r"x\.mhd: ElementDataFile"):
        read_volume(tmp_path / "x.mhd")

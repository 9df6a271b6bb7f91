"""PNG, JPEG, BMP and TIFF against Pillow and tifffile, over generated pages."""

from __future__ import annotations

import struct
import warnings
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from resvox.errors import VolumeError
from resvox.volumes import Volume, read_label_map, read_volume, write_label_map, write_volume

ORIENTATIONS = st.sampled_from([1, 1, 1, *range(2, 9)])


def read(path: Path, **options: Any) -> tuple[Volume, list[str]]:
    """The volume and its remarks."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return read_volume(path, **options), [str(each.message) for each in caught]


def channels_last(volume: Volume) -> np.ndarray:
    return volume.array if volume.array.ndim == volume.spatial_dims else np.moveaxis(volume.array, 0, -1)


def pixels(draw: st.DrawFn, mode: str) -> np.ndarray:
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    shape = (height, width, len(mode)) if mode in ("LA", "RGB", "RGBA") else (height, width)
    most = {"1": 2, "I;16": 65536}.get(mode, 256)
    made = np.random.default_rng(draw(st.integers(0, 999))).integers(0, most, shape)
    return made.astype({"1": np.bool_, "I;16": np.uint16}.get(mode, np.uint8))


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Image.Image, str, dict[str, Any]]:
    """A picture of Pillow, an ending, and how it is saved."""
    ending = draw(st.sampled_from([".png", ".PNG", ".jpg", ".bmp", ".tif"]))
    modes = {".jpg": ["L", "RGB"], ".bmp": ["1", "L", "P", "RGB"]}.get(
        ending, ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]
    )
    mode = draw(st.sampled_from(modes))
    array = pixels(draw, "L" if mode == "P" else mode)
    if mode in ("LA", "RGBA") and draw(st.booleans()):
        array[..., -1] = 255
    if mode == "P":
        array &= draw(st.sampled_from([1, 3, 15, 255]))
    picture = Image.fromarray(array)
    if mode == "P":
        colours = np.random.default_rng(1).integers(0, 256, (256, 3)).astype(np.uint8)
        if draw(st.booleans()):
            colours[:] = np.arange(256)[::-1, None]
        picture.putpalette(colours.tobytes())
    options: dict[str, Any] = {"dpi": draw(st.sampled_from([(72, 72), (300, 300), (96, 120)]))}
    orientation = draw(ORIENTATIONS)
    if orientation != 1 and ending != ".bmp":
        exif = Image.Exif()
        exif[274] = orientation
        options["exif"] = exif
    if ending == ".tif":
        packed = ["tiff_lzw", "tiff_adobe_deflate", "packbits"]
        # Pillow scrambles uncompressed pixels whose rows and columns are exchanged.
        options["compression"] = draw(st.sampled_from(packed if orientation > 4 else ["raw", *packed]))
    return picture, ending, options


def as_shown(path: Path) -> np.ndarray:
    """What Pillow shows: upright, colours of the palette, 1 bit as black and white, no alpha that hides nothing."""
    with Image.open(path) as stored:
        picture = ImageOps.exif_transpose(stored)
        if picture.mode == "P":
            picture = picture.convert("RGB")
            array = np.asarray(picture)
            is_grey = (array[..., 0] == array[..., 1]).all() and (array[..., 0] == array[..., 2]).all()
            return array[..., 0] if is_grey else array
        array = np.asarray(picture)
        if picture.mode in ("LA", "RGBA") and (array[..., -1] == 255).all():
            array = array[..., 0] if picture.mode == "LA" else array[..., :-1]
        if array.dtype == np.int32:  # older versions of Pillow open 16-bit PNG so
            array = array.astype(np.uint16)
        return array.astype(np.uint8) * 255 if array.dtype == np.bool_ else array


def check_like_pillow(made: tuple[Image.Image, str, dict[str, Any]], folder: Path) -> None:
    picture, ending, options = made
    path = folder / f"x{ending}"
    picture.save(path, **options)
    volume, remarks = read(path)
    expected = as_shown(path)
    np.testing.assert_array_equal(channels_last(volume), expected)
    assert volume.array.dtype == expected.dtype
    assert volume.spacing_mm == (1.0, 1.0)  # dots per inch describe printing, in every format
    assert remarks == []
    if ending != ".jpg" and picture.mode in ("1", "L", "P", "I;16"):
        labels = read_label_map(path).array
        stored = ImageOps.exif_transpose(Image.open(path)) if ending != ".bmp" else picture
        np.testing.assert_array_equal(labels, np.asarray(stored))


@settings(deadline=None, max_examples=60)
@given(made=pictures())
def test_pictures_are_what_pillow_shows(made: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    check_like_pillow(made, tmp_path_factory.mktemp("pictures"))


@pytest.mark.laws
@settings(deadline=None, max_examples=1000)
@given(made=pictures())
def test_pictures_are_what_pillow_shows_at_length(made: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    check_like_pillow(made, tmp_path_factory.mktemp("pictures"))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_scaled_in_pictures_and_stored_in_label_maps(bits: int, tmp_path: Path) -> None:
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4) % 2**bits
    png, tif = tmp_path / "x.png", tmp_path / "x.tif"
    png.write_bytes(png_of_few_bits(stored, bits))
    tif.write_bytes(tiff_of_few_bits(stored, bits))
    for path in (png, tif):
        np.testing.assert_array_equal(read_volume(path).array, stored * (255 // (2**bits - 1)))
        np.testing.assert_array_equal(read_label_map(path).array, stored)


def packed_rows(stored: np.ndarray, bits: int) -> list[bytes]:
    """Each row in whole bytes."""
    spread = np.unpackbits(stored[..., None], axis=-1)[..., 8 - bits :].reshape(len(stored), -1)
    return [np.packbits(row).tobytes() for row in spread]


def tiff_of_few_bits(stored: np.ndarray, bits: int) -> bytes:
    """A grey TIFF of one strip by hand: not every version of imagecodecs writes one."""
    data = b"".join(packed_rows(stored, bits))
    height, width = stored.shape
    values = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(values)) + tags + bytes(4)


def png_of_few_bits(stored: np.ndarray, bits: int) -> bytes:
    """A grey PNG by hand: Pillow writes 8 bits."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row for row in packed_rows(stored, bits))
    header = struct.pack(">IIBBBBB", stored.shape[1], stored.shape[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_colours_of_16_bits_keep_them(samples: int, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 65535, (5, 6, samples)).astype(np.uint16)
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(array))
    np.testing.assert_array_equal(channels_last(read_volume(tmp_path / "x.png")), array)


def test_opaque_alpha_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (5, 6, 4)).astype(np.uint8)
    array[..., 3] = 255
    for name in ("x.png", "x.tif"):
        Image.fromarray(array).save(tmp_path / name)
        assert read_volume(tmp_path / name).channels == 3
        assert read_volume(tmp_path / name, channels=3).channels == 3
        assert read_volume(tmp_path / name, channels=4).channels == 4
    array[0, 0, 3] = 7
    Image.fromarray(array).save(tmp_path / "y.png")
    with pytest.raises(VolumeError, match=r"y\.png: 4 channels; expected 3"):
        read_volume(tmp_path / "y.png", channels=3)


def test_label_maps_of_equal_colours_have_one_channel(tmp_path: Path) -> None:
    labels = np.arange(30, dtype=np.uint8).reshape(5, 6) % 3
    for name in ("x.png", "x.tif", "x.bmp"):
        Image.fromarray(np.stack([labels] * 3, -1)).save(tmp_path / name)
        np.testing.assert_array_equal(read_label_map(tmp_path / name).array, labels)
        assert read_volume(tmp_path / name).channels == 3


@st.composite
def tiffs(draw: st.DrawFn) -> dict[str, Any]:
    """An array, its axes, and how tifffile writes it."""
    axes = draw(st.sampled_from(["YX", "YX", "ZYX", "YXS", "SYX", "CYX", "ZCYX", "IYX"]))
    sizes = {letter: draw(st.integers(2, 5)) for letter in "ZCI"}
    sizes |= {"Y": draw(st.integers(2, 40)), "X": draw(st.integers(2, 40)), "S": draw(st.sampled_from([2, 3, 5]))}
    kinds = ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4"]
    kind = draw(st.sampled_from([*kinds, "?"] if "S" not in axes else kinds))
    shape = tuple(sizes[letter] for letter in axes)
    array = (np.random.default_rng(draw(st.integers(0, 99))).integers(0, 250, shape) - 100).astype(kind)
    options: dict[str, Any] = {
        "byteorder": draw(st.sampled_from("<>")),
        "bigtiff": draw(st.booleans()),
        "photometric": "rgb" if "S" in axes and sizes["S"] == 3 else "minisblack",
        "compression": None
        if kind == "?"
        else draw(st.sampled_from([None, "zlib", "lzw", "packbits", "zstd", "lzma"])),
        "tile": draw(st.sampled_from([None, None, (16, 16)])) if kind != "?" else None,
    }
    if "S" in axes:
        options["planarconfig"] = "separate" if axes == "SYX" else "contig"
    orientation = draw(ORIENTATIONS)
    options["extratags"] = [(274, "H", 1, orientation, True)]
    how = draw(st.sampled_from(["plain", "plain", "ome"])) if "S" not in axes and kind not in "f2?" else "plain"
    if axes in ("ZCYX", "CYX") and how == "plain":
        how = "imagej" if kind in ("u1", "u2", "f4") else "ome" if kind not in ("f2", "?") else "plain"
        if how == "plain":
            axes, array = "YX", array.reshape(-1, *array.shape[-2:])[0]
    return {"array": array, "axes": axes, "how": how, "options": options, "orientation": orientation}


def check_like_tifffile(made: dict[str, Any], folder: Path) -> None:
    path, array, axes, options = folder / "x.tif", made["array"], made["axes"], dict(made["options"])
    if made["how"] == "imagej":
        options = {"imagej": True, "metadata": {"axes": axes, "unit": "mm", "spacing": 3.0}, "resolution": (2.0, 4.0)}
    elif made["how"] == "ome":
        sizes = {f"PhysicalSize{axis}": size for axis, size in zip("XYZ", (500.0, 250.0, 3000.0), strict=True)}
        options |= {"ome": True, "metadata": {"axes": axes.replace("I", "Z"), **sizes}}
    tifffile.imwrite(path, array, **options)
    volume, remarks = read(path)
    stored = tifffile.imread(path)
    np.testing.assert_array_equal(stored, array)
    orientation = 1 if made["how"] == "imagej" else made["orientation"]
    expected = upright_by_pillow(array, axes, orientation)
    if array.dtype == np.bool_:
        expected = expected.astype(np.uint8) * 255
    np.testing.assert_array_equal(channels_last(volume), expected.astype("f4") if array.dtype.kind == "f" else expected)
    is_stack = "Z" in axes or "I" in axes
    spacing = {"plain": (1.0, 1.0, 1.0), "imagej": (3.0, 0.25, 0.5), "ome": (3.0, 0.25, 0.5)}[made["how"]]
    if orientation > 4:
        spacing = (spacing[0], spacing[2], spacing[1])
    assert volume.spacing_mm == pytest.approx(spacing[-volume.spatial_dims :])
    assert any("1 mm is taken" in remark for remark in remarks) == (is_stack and made["how"] == "plain")


def upright_by_pillow(array: np.ndarray, axes: str, orientation: int) -> np.ndarray:
    """(depth, rows, columns, channels), each plane turned by Pillow's transpositions."""
    order = [axes.index(letter) for letter in "ZIYXCS" if letter in axes]
    array = array.transpose(order)
    rows = 1 if axes[0] in "ZI" else 0
    turns = {
        2: lambda a: np.flip(a, rows + 1),
        3: lambda a: np.rot90(a, 2, (rows, rows + 1)),
        4: lambda a: np.flip(a, rows),
        5: lambda a: np.swapaxes(a, rows, rows + 1),
        6: lambda a: np.rot90(a, -1, (rows, rows + 1)),
        7: lambda a: np.rot90(np.swapaxes(a, rows, rows + 1), 2, (rows, rows + 1)),
        8: lambda a: np.rot90(a, 1, (rows, rows + 1)),
    }
    return turns.get(orientation, lambda a: a)(array)


@settings(deadline=None, max_examples=60)
@given(made=tiffs())
def test_tiffs_are_what_tifffile_reads(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    check_like_tifffile(made, tmp_path_factory.mktemp("tiffs"))


@pytest.mark.laws
@settings(deadline=None, max_examples=1000)
@given(made=tiffs())
def test_tiffs_are_what_tifffile_reads_at_length(
    made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_like_tifffile(made, tmp_path_factory.mktemp("tiffs"))


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(VolumeError) as caught:
        read_volume(path, **options)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


def test_pages_are_slices_unless_as_many_channels_are_expected(tmp_path: Path) -> None:
    pages = np.random.default_rng(0).integers(0, 255, (4, 6, 7)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        for page in pages:
            writer.write(page, photometric="minisblack", metadata=None)
    stack = read(tmp_path / "x.tif")[0]
    assert (stack.spatial_dims, stack.channels) == (3, 1)
    channels = read(tmp_path / "x.tif", channels=4)[0]
    assert (channels.spatial_dims, channels.channels) == (2, 4)
    np.testing.assert_array_equal(stack.array, channels.array)
    assert "1 channel; expected 3" in refusal(tmp_path / "x.tif", channels=3)


def test_time_points_and_mixed_pages_are_refused(tmp_path: Path) -> None:
    movie = np.zeros((3, 6, 7), np.uint8)
    tifffile.imwrite(tmp_path / "t.tif", movie, imagej=True, metadata={"axes": "TYX"})
    assert "time points (T 3, Y 6, X 7)" in refusal(tmp_path / "t.tif")
    with tifffile.TiffWriter(tmp_path / "m.tif") as writer:
        writer.write(movie[0], photometric="minisblack")
        writer.write(movie[0, :4], photometric="minisblack")
    assert "2 images of different sizes or types (6x7, 4x7)" in refusal(tmp_path / "m.tif")


def test_thumbnails_and_levels_of_a_pyramid_are_left_aside(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (64, 48)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "p.tif") as writer:
        writer.write(array, subifds=1, photometric="minisblack")
        writer.write(array[::2, ::2], subfiletype=1, photometric="minisblack")
    with tifffile.TiffWriter(tmp_path / "t.tif") as writer:
        writer.write(array, photometric="minisblack", metadata=None)
        writer.write(array[::4, ::4], subfiletype=1, photometric="minisblack", metadata=None)
    for name in ("p.tif", "t.tif"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, array)


@pytest.mark.parametrize(("kind", "text"), [("f8", "64-bit floats"), ("i8", "64-bit integers"), ("c8", "complex64")])
def test_numbers_that_are_too_long_are_refused(kind: str, text: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((4, 5), kind))
    assert text in refusal(tmp_path / "x.tif")


@pytest.mark.parametrize("name", ["x.tif", "x.jpg"])
def test_colours_for_printing_are_refused(name: str, tmp_path: Path) -> None:
    Image.new("CMYK", (5, 6)).save(tmp_path / name)
    assert "in the colour space" in refusal(tmp_path / name)


def test_animations_and_other_formats_are_refused(tmp_path: Path) -> None:
    frames = [Image.new("L", (5, 6), value) for value in (1, 2, 3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    assert "an animated picture" in refusal(tmp_path / "a.png")
    frames[0].save(tmp_path / "g.gif")
    (tmp_path / "g.gif").rename(tmp_path / "g.png")
    assert "a GIF file; expected PNG, JPEG or BMP" in refusal(tmp_path / "g.png")


def test_min_is_white_is_read_as_stored_with_a_remark(tmp_path: Path) -> None:
    array = np.arange(20, dtype=np.uint16).reshape(4, 5)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="miniswhite")
    volume, remarks = read(tmp_path / "x.tif")
    np.testing.assert_array_equal(volume.array, array)
    assert len(remarks) == 1
    assert "MinIsWhite" in remarks[0]


def test_a_display_palette_of_imagej_changes_nothing(tmp_path: Path) -> None:
    array = np.arange(20, dtype=np.uint8).reshape(4, 5)
    lut = np.random.default_rng(0).integers(0, 255, (3, 256)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", array, imagej=True, metadata={"LUTs": [lut]})
    np.testing.assert_array_equal(read_volume(tmp_path / "x.tif").array, array)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_truncated_tiffs_are_refused(compression: str | None, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (5, 40, 50)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="minisblack", compression=compression, rowsperstrip=8)
    whole = (tmp_path / "x.tif").read_bytes()
    for part in (0.2, 0.5, 0.9, 0.99):
        (tmp_path / "half.tif").write_bytes(whole[: int(len(whole) * part)])
        refusal(tmp_path / "half.tif")


@settings(deadline=None, max_examples=30)
@given(
    shape=st.lists(st.integers(2, 6), min_size=2, max_size=3),
    spacing=st.lists(st.floats(1e-4, 50), min_size=3, max_size=3),
    channels=st.sampled_from([0, 2, 3, 4]),
    kind=st.sampled_from(["u1", "i2", "u2", "u4", "f4", "?"]),
    ending=st.sampled_from([".tif", ".tiff", ".png"]),
)
def test_pictures_and_stacks_survive_the_file(
    shape: list[int],
    spacing: list[float],
    channels: int,
    kind: str,
    ending: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if ending == ".png":
        shape, kind = shape[:2], kind if kind in ("u1", "u2", "?") else "u1"
    array = np.random.default_rng(0).integers(0, 2, [channels, *shape] if channels else shape).astype(kind)
    volume = Volume(array, spacing_mm=tuple(spacing[: len(shape)]))
    path = tmp_path_factory.mktemp("written") / f"x{ending}"
    back = read(write_volume(volume, path))
    np.testing.assert_array_equal(back[0].array, array)
    assert back[0].spacing_mm == pytest.approx(volume.spacing_mm, rel=1e-12)
    assert back[1] == []


def test_what_a_picture_cannot_hold_is_refused_with_a_format_that_can(tmp_path: Path) -> None:
    placed = Volume(np.zeros((4, 5), np.uint8), spacing_mm=(1, 1), origin_mm=(7, 8))
    long = Volume(np.zeros((1, 1, 40000), np.uint8), spacing_mm=(1, 1, 1))
    many = Volume(np.zeros((5, 4, 4), np.uint8), spacing_mm=(1, 1))
    whole = Volume(np.zeros((4, 4), np.int64), spacing_mm=(1, 1))
    lines = {}
    for name, volume in {"p.png": placed, "p.tif": placed, "l.nii.gz": long, "m.png": many, "w.tif": whole}.items():
        with pytest.raises(VolumeError) as caught:
            write_volume(volume, tmp_path / name)
        lines[name] = str(caught.value)
    assert not list(tmp_path.iterdir())
    assert "an image with an origin or a direction; expected none, for PNG holds the spacing alone" in lines["p.png"]
    assert "fix: write .nii.gz or .nrrd or .mha, or leave its position out" in lines["p.tif"]
    assert "an axis of 40000 voxels; expected at most 32767 in NIfTI; fix: write .nrrd or .mha" in lines["l.nii.gz"]
    assert "5 channels; expected at most 4 in PNG; fix: write .nii.gz" in lines["m.png"]
    assert "2-D image of type int64; expected bool, uint8" in lines["w.tif"]
    assert read_volume(write_volume(long, tmp_path / "l.mha")).array.shape == (1, 1, 40000)


def test_a_label_map_written_as_png_comes_back(tmp_path: Path) -> None:
    labels = Volume(np.arange(12).reshape(3, 4) * 100, spacing_mm=(0.5, 0.25))
    back = read_label_map(write_label_map(labels, tmp_path / "x.png"))
    np.testing.assert_array_equal(back.array, labels.array)
    assert back.grid.matches(labels.grid)


def test_a_tiff_whose_pages_go_in_a_circle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, np.zeros((3, 8, 9), np.uint8), photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        first, last = file.pages[0].offset, file.pages[-1].offset
    data = bytearray(path.read_bytes())
    tags = struct.unpack_from("<H", data, last)[0]
    struct.pack_into("<I", data, last + 2 + 12 * tags, first)  # the last page is followed by the first
    path.write_bytes(data)
    with pytest.raises(VolumeError, match=r"scan\.tif: damaged: its page 3 is followed by an earlier one"):
        read_volume(path)


def stack_of(folder: Path, beside: str | None, name: str = "a.json") -> Path:
    tifffile.imwrite(folder / "a_0000.tif", np.arange(210, dtype=np.int16).reshape(5, 6, 7))
    if beside is not None:
        (folder / name).write_text(beside)
    return folder / "a_0000.tif"


@pytest.mark.parametrize("name", ["a.json", "a_0000.json"])
def test_a_stack_has_the_spacing_of_the_json_file_beside_it(name: str, tmp_path: Path) -> None:
    volume, remarks = read(stack_of(tmp_path, '{"spacing": [2.5, 0.5, 0.25]}', name))
    assert volume.spacing_mm == (2.5, 0.5, 0.25)
    assert remarks == []
    write_volume(Volume(volume.array, spacing_mm=(9, 9, 9)), tmp_path / "a.tif")
    assert read_label_map(tmp_path / "a.tif").spacing_mm == ((2.5, 0.5, 0.25) if name == "a.json" else (9, 9, 9))


@pytest.mark.parametrize("beside", [None, "{}", "[1]", '{"spacings": [2, 2, 2]}'])
def test_a_json_file_without_spacing_is_not_one_of_a_stack(beside: str | None, tmp_path: Path) -> None:
    volume, remarks = read(stack_of(tmp_path, beside))
    assert volume.spacing_mm == (1, 1, 1)
    assert "1 mm is taken" in remarks[0]


@pytest.mark.parametrize(
    ("beside", "text"),
    [
        ('{"spacing": [1, 1]}', r"a\.json: spacing \[1, 1\]; expected three numbers above 0: z, y and x in mm"),
        ('{"spacing": [1, 0, 1]}', "expected three numbers above 0"),
        ('{"spacing": [1, true, 1]}', "expected three numbers above 0"),
        ('{"spacing": [1, NaN, 1]}', "expected three numbers above 0"),
        ('{"spacing": "1"}', "expected three numbers above 0"),
        ('{"spacing"', r"a\.json: cannot be read as JSON"),
    ],
)
def test_a_spacing_that_cannot_be_is_refused(beside: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=text):
        read_volume(stack_of(tmp_path, beside))


@pytest.mark.parametrize("named", ["{folder}/other/b.ome.tif", "../other/b.ome.tif", "..&#47;other&#47;b.ome.tif"])
def test_no_page_of_another_folder_is_read(named: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "other" / "b.ome.tif", np.ones((3, 4, 5), np.uint8), metadata={"axes": "ZYX"})
    inside = tifffile.tiffcomment(tmp_path / "other" / "b.ome.tif")
    root = ElementTree.fromstring(inside)
    for element in root.iter():
        if element.tag.endswith("TiffData"):
            uuid = ElementTree.SubElement(element, element.tag.replace("TiffData", "UUID"), FileName="NAME")
            uuid.text = "urn:uuid:11111111-1111-1111-1111-111111111111"
    text = ElementTree.tostring(root, encoding="unicode").replace("NAME", named.format(folder=tmp_path))
    tifffile.imwrite(tmp_path / "in" / "a.ome.tif", np.zeros((4, 5), np.uint8), description=text, metadata=None)
    with pytest.raises(VolumeError, match="expected OME-TIFF whose files lie in one folder"):
        read_volume(tmp_path / "in" / "a.ome.tif")

"""Untrusted files: exact tensors or a clear error; no code runs, nothing hangs, and memory is bounded."""

import io
import json
import os
import pickle
import random
import resource
import struct
import zipfile

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resvox.errors import WeightsError
from resvox.weights.formats import hdf5
from resvox.weights.sources import read_source

CHECKED = ("arrays.npz", "new.pth", "model.keras")  # their bytes have a checksum
KINDS = ("arrays.npz", "flat.safetensors", "new.pth", "old.pt")
SLOW = ("keras.weights.h5", "model.keras", "older.h5")  # each is read by a process of its own


def refused(path, words):
    """The one error of a file, and that no memory was spent on the way."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError) as caught:
        read_source(path)
    assert words in str(caught.value), str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


# --- what is read -----------------------------------------------------------------------------------------------


def test_every_kind_of_file_gives_the_same_numbers_as_its_own_library(weight_files):
    wanted = torch.load(weight_files["new.pth"], weights_only=True)
    for name in KINDS:
        found = read_source(weight_files[name]).tensors
        assert set(found) == set(wanted)
        assert all(np.array_equal(found[key], wanted[key].numpy()) for key in wanted), name
    for name in SLOW:
        found = read_source(weight_files[name]).tensors
        assert found["conv1_conv/kernel"].sum() == sum(range(72))
        assert set(found) == {"conv1_conv/kernel", "conv1_bn/gamma", "conv1_bn/beta"}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
)
def test_tensors_of_any_type_layout_and_sharing(tmp_path, dtype, zipped):
    whole = (torch.randn(6, 4, 3) * 5).to(dtype)
    state = {"whole": whole, "part": whole[1:4, ::2], "turned": whole.permute(2, 0, 1), "none": whole[:0],
             "one": whole[0, 0, 0], "learned": torch.nn.Parameter(torch.ones(2))}  # fmt: skip
    torch.save({"model": state, "optimizer": {"state": {0: torch.ones(3)}}, "args": {"lr": 0.1}}, tmp_path / "x.pth",
               _use_new_zipfile_serialization=zipped)  # fmt: skip
    read = read_source(tmp_path / "x.pth")
    assert read.wrappers == ("model",)
    for name, value in state.items():
        given = value.detach().float().numpy() if dtype == torch.bfloat16 else value.detach().numpy()
        assert np.array_equal(read.tensors[name], given), name


def test_wrappers_are_taken_off_and_told(thin):
    state = thin().state_dict()
    for prefix, told in (("module.", ("module.",)), ("model.encoder.", ("model.", "encoder.")), ("_orig_mod.", None)):
        read = read_source({prefix + name: value for name, value in state.items()})
        assert set(read.tensors) == set(state)
        assert told is None or read.wrappers == told


def test_a_folder_of_the_hugging_face_cache(tmp_path, weight_files):
    repository = tmp_path / "models--someone--resnet"
    for revision in ("aaa", "bbb"):
        place = repository / "snapshots" / revision
        place.mkdir(parents=True)
        (place / "config.json").write_text("{}")
    os.symlink(weight_files["flat.safetensors"], repository / "snapshots" / "bbb" / "model.safetensors")
    os.symlink(weight_files["new.pth"], repository / "snapshots" / "bbb" / "pytorch_model.bin")
    refused(repository, "expected the one that refs/main names")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("bbb")
    assert read_source(repository).where.endswith("model.safetensors")  # rather than the pickle beside it
    (repository / "refs" / "main").write_text("aaa")
    refused_folder = repository / "snapshots" / "aaa"
    with pytest.raises(WeightsError, match="0 files of weights; expected one"):
        read_source(refused_folder)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere.pth", "no such file"),
        (7, "a int as a source of weights; expected a path or a state dict"),
        ({}, "no state dict"),
        ({"a": 1}, "no state dict"),
        ({"state_dict": {"a": torch.ones(1), "b": "word"}}, "entries that are not tensors: b"),
        ({"a": torch.ones(1, device="meta")}, "expected plain tensors with values"),
    ],
)
def test_what_is_no_source(source, words):
    with pytest.raises(WeightsError, match=words):
        read_source(source)


# --- hostile pickles --------------------------------------------------------------------------------------------


class Calls:
    """A pickle that calls a function when it is loaded."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


def write_pickle(path, program, *, zipped):
    if not zipped:
        stream = io.BytesIO()
        torch.save({}, stream, _use_new_zipfile_serialization=False)
        head = io.BytesIO(stream.getvalue())
        for _ in range(3):
            pickle.load(head)
        path.write_bytes(stream.getvalue()[: head.tell()] + program + pickle.dumps([]))
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch HACKED",), "posix.system"),
        (eval, ("open('HACKED', 'w')",), "__builtin__.eval"),
        (bytearray, (10**11,), "__builtin__.bytearray"),
        (torch.zeros, (10**6, 10**6), "__builtin__.getattr"),
        (getattr, ("os", "system"), "__builtin__.getattr"),
    ],
)
def test_a_pickle_that_calls_is_refused_before_it_runs(tmp_path, monkeypatch, function, arguments, name, zipped):
    monkeypatch.chdir(tmp_path)
    program = pickle.dumps({"a": Calls(function, *arguments)}, protocol=2)
    write_pickle(tmp_path / "x.pth", program, zipped=zipped)
    refused(tmp_path / "x.pth", f"a pickle that calls {name}; expected tensors and plain containers alone")
    assert not (tmp_path / "HACKED").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_that_claim_memory_are_refused(tmp_path, zipped):
    # a note with the number 2**31: the C unpickler would allocate all entries before it
    write_pickle(tmp_path / "note.pth", b"\x80\x02}r\xff\xff\xff\x7f.", zipped=zipped)
    refused(tmp_path / "note.pth", "no state dict")
    write_pickle(tmp_path / "long.pth", b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.", zipped=zipped)
    refused(tmp_path / "long.pth", "not a PyTorch file, or a broken one")
    # ((((), ()), ((), ())), ...) sixty deep, as a key: to hash it takes 2**60 steps
    laughs = b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"K\x01s."
    write_pickle(tmp_path / "laughs.pth", laughs, zipped=zipped)
    refused(tmp_path / "laughs.pth", "tuples in tuples without end")


def rewritten(path, target, name, change):
    """A zip file with one member changed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(info.filename, change(data) if info.filename.endswith(name) else data)


def test_a_tensor_that_claims_more_than_its_storage(tmp_path):
    torch.save({"a": torch.zeros(2).expand(10**6, 10**4, 2)}, tmp_path / "wide.pth")
    refused(tmp_path / "wide.pth", "numbers that are not there")
    torch.save({"a": torch.zeros(999)}, tmp_path / "a.pth")
    told, lie = pickle.dumps(999, protocol=2)[2:-1], b"\x8a\x05" + (12_500_000_000).to_bytes(5, "little")
    rewritten(tmp_path / "a.pth", tmp_path / "lie.pth", "data.pkl", lambda data: data.replace(told, lie))
    refused(tmp_path / "lie.pth", "claims 12500000000 numbers that are not there")


# --- archives and headers that lie ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bomb.npz", "bomb.pth", "bomb.keras"])
def test_a_zip_bomb_is_refused_unopened(tmp_path, name):
    with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in ("config.json", "model.weights.h5", "archive/data.pkl"):
            archive.writestr(member, b"\0" * (100 * 2**20) if member != "config.json" else b"{}")
    refused(tmp_path / name, "a zip bomb")


def test_a_safetensors_header_that_lies(tmp_path):
    def written(header, body=b"\0" * 16):
        text = json.dumps(header).encode()
        (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
        return tmp_path / "x.safetensors"

    good = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    assert read_source(written({"a": good})).tensors["a"].shape == (4,)
    for change in (
        {"shape": [12_500_000_000], "data_offsets": [0, 50_000_000_000]},
        {"shape": [5]},
        {"shape": [-4]},
        {"shape": [2**62, 4]},
        {"dtype": "F99"},
        {"data_offsets": [0, 99]},
        {"data_offsets": [16, 0]},
        {"data_offsets": "x"},
    ):
        refused(written({"a": {**good, **change}}), "an inconsistent header for 'a'")
    refused(written({"a": good, "b": good}), "an inconsistent header for 'b'")
    refused(written({"a": good}, b"\0" * 20), "4 bytes of no tensor")
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    refused(tmp_path / "x.safetensors", "not a safetensors file")


def test_an_npz_array_that_lies(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.zeros(4, np.float32))
    lying = stream.getvalue().replace(b"(4,)", b"(9,)")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", lying)
    refused(tmp_path / "x.npz", "(9,) claimed in")
    np.savez(tmp_path / "y.npz", a=np.array([object()], dtype=object))
    refused(tmp_path / "y.npz", "numbers of type object")


def test_hdf5_files_that_lie(tmp_path):
    def written(fill):
        path = tmp_path / "x.weights.h5"
        with h5py.File(path, "w") as file:
            fill(file.create_group("layers/conv2d/vars"))
        return path

    def compressed(group):
        group.create_dataset("0", data=np.zeros(5_000_000, np.float32), compression="gzip")

    def elsewhere(group):
        group["0"] = h5py.ExternalLink("/etc/passwd", "/x")

    def outside(group):
        group.create_dataset("0", shape=(4,), dtype="f4", external=[(str(tmp_path / "secret"), 0, 16)])

    def endless(group):
        group.create_dataset("0", shape=(12_500_000_000,), dtype="f4")

    for fill, words in (
        (endless, "claims 50000000000 bytes in 0"),
        (compressed, "claims 20000000 bytes in"),
        (elsewhere, "a link '0' that leads elsewhere"),
        (outside, "is no array in the file"),
    ):
        path = written(fill)
        with pytest.raises(WeightsError, match=words):  # what the process that reads it says
            hdf5.read_here(path, path)
    refused(path, "is no array in the file")
    (tmp_path / "y.h5").write_bytes(b"no file of this kind")
    refused(tmp_path / "y.h5", "not a Keras weight file, or a broken one")


# --- fuzz -------------------------------------------------------------------------------------------------------


def damaged(whole, draw):
    """The bytes cut, or with some bits flipped."""
    data = bytearray(whole)
    if draw.random() < 0.3:
        return bytes(data[: draw.randrange(len(data))])
    for _ in range(draw.choice([1, 1, 1, 4, 16])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def outcome(path, good, *, checked):
    try:
        found = read_source(path).tensors
    except WeightsError as error:
        return "refused" if len(str(error)) < 1500 else "refused at length"
    if checked:  # a changed number would have changed the checksum
        assert {name: value.tobytes() for name, value in found.items() if name in good} == {
            name: value.tobytes() for name, value in good.items() if name in found
        }
    return "read"


@pytest.mark.parametrize(("name", "times"), [*((name, 250) for name in KINDS), *((name, 3) for name in SLOW)])
def test_a_thousand_truncations_and_flipped_bits(weight_files, tmp_path, monkeypatch, name, times):
    monkeypatch.setattr(hdf5, "TIME_LIMIT_S", 3.0)
    whole, draw = weight_files[name].read_bytes(), random.Random(name)
    good = read_source(weight_files[name]).tensors
    path = tmp_path / name
    outcomes = []
    for _ in range(times):
        path.write_bytes(damaged(whole, draw))
        outcomes.append(outcome(path, good, checked=name in CHECKED))
    assert set(outcomes) <= {"refused", "read"}
    assert "refused" in outcomes


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_any_few_bytes_are_refused_or_read(weight_files, tmp_path_factory, data):
    name = data.draw(st.sampled_from(KINDS))
    whole = bytearray(weight_files[name].read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place : place + 8] = data.draw(st.binary(min_size=1, max_size=12))
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(bytes(whole))
    outcome(path, read_source(weight_files[name]).tensors, checked=name in CHECKED)

"""The model file: what was saved comes back exactly; what is broken is refused in words, at once."""

import json
import os
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import resvox
from resvox.errors import WeightsError
from resvox.weights import read_header
from resvox.weights.formats import safetensors as files

THIN = {"widths": (4, 4, 4, 4), "stem_width": 4, "depths": (1, 1, 1, 1), "num_classes": 3}
KINDS = [
    ("resnet18", {}),
    ("resnet50v2", {"norm": "group"}),
    ("resnet18vd", {"se_ratio": 4, "drop_path": 0.1}),
    ("unet", {"encoder_name": "resnet18", "decoder_filters": (4, 4, 4, 4, 4), "decoder_block_type": "transpose"}),
    ("resnet18", {"features_only": True, "encoder_depth": 3, "num_classes": None}),
]


def model_of(name="resnet18", dims=2, **options):
    torch.manual_seed(0)
    model = resvox.create_model(name, spatial_dims=dims, **{**THIN, **options})
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return model.eval()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return resvox.save_model(model_of(), tmp_path_factory.mktemp("good") / "model.safetensors")


def split(path):
    """The header as JSON and the bytes after it."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header, body):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def refused(path, words):
    with pytest.raises(WeightsError) as caught:
        resvox.load_model(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("name", "options"), KINDS)
def test_a_model_comes_back_bit_for_bit(tmp_path, name, options, dims):
    model = model_of(name, dims, **options)
    path = resvox.save_model(model, tmp_path / "deep" / "folder" / "model.safetensors", metadata={"labels": {"a": 1}})
    loaded = resvox.load_model(path)
    assert type(loaded) is type(model)
    assert not loaded.training
    assert loaded.blueprint == model.blueprint
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    x = torch.randn(1, 3, *(33, 20, 17)[:dims])
    with torch.no_grad():
        ours, theirs = model(x), loaded(x)
    for a, b in zip(*[each if isinstance(each, list) else [each] for each in (ours, theirs)], strict=True):
        assert torch.equal(a, b)
    assert read_header(path).metadata == {"labels": {"a": 1}}
    assert read_header(path).version == resvox.__version__


def test_saving_the_loaded_model_writes_the_same_file(good, tmp_path):
    again = resvox.save_model(resvox.load_model(good), tmp_path / "again.safetensors")
    (header, body), (first_header, first_body) = split(again), split(good)
    assert (header, body) == (first_header, first_body)


def test_the_file_is_readable_without_resvox(good):
    from safetensors.numpy import load_file

    tensors = load_file(good)
    assert set(tensors) == set(read_header(good).blueprint.tensors())
    assert tensors["conv1.weight"].shape == (4, 3, 7, 7)


def test_the_header_is_read_without_the_tensors(good, tmp_path):
    header, body = split(good)
    path = tmp_path / "half.safetensors"
    path.write_bytes(joined(header, body[: len(body) // 2]))
    assert read_header(path).blueprint == read_header(good).blueprint
    refused(path, "broken tensors")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
MODEL = model_of(widths=(1, 1, 1, 1), stem_width=1, num_classes=1)


@settings(max_examples=40, deadline=None)
@given(metadata=st.dictionaries(st.text(max_size=12), JSON, max_size=5))
def test_any_json_object_comes_back_as_metadata(tmp_path_factory, metadata):
    path = tmp_path_factory.getbasetemp() / "metadata.safetensors"
    assert read_header(resvox.save_model(MODEL, path, metadata=metadata)).metadata == metadata


@pytest.mark.parametrize("metadata", [{"a": {1, 2}}, {"a": object()}, {"a": np.zeros(2)}, {"a": b"x"}])
def test_metadata_that_is_not_json_is_refused_and_nothing_is_written(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    with pytest.raises(WeightsError, match="metadata that is not JSON"):
        resvox.save_model(MODEL, path, metadata=metadata)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_shorter_file_is_refused(good, tmp_path_factory, data):
    whole = good.read_bytes()
    path = tmp_path_factory.getbasetemp() / "short.safetensors"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refused(path, "expected a")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_in_the_header_is_refused_or_harmless(good, tmp_path_factory, data):
    whole = bytearray(good.read_bytes())
    (length,) = struct.unpack("<Q", whole[:8])
    place = data.draw(st.integers(0, 8 + length - 1))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    path.write_bytes(bytes(whole))
    try:
        loaded = resvox.load_model(path)
    except WeightsError:
        return
    # what is left are words that carry no arithmetic (a version), or numbers that are valid (a norm's eps)
    assert set(loaded.blueprint.tensors()) == set(read_header(good).blueprint.tensors())


def test_other_bytes_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    for data in (b"", b"\x00", b"not a model file at all", b"\x00" * 100, b"\xff" * 100, b"PK\x03\x04" + b"\x00" * 200):
        path.write_bytes(data)
        refused(path, "expected a model file")


def test_a_header_of_another_shape_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    for header in ([], 3, "x", None, {"__metadata__": 3}, {"__metadata__": {"blueprint": 3, "resvox_format": "1"}}):
        path.write_bytes(joined(header, b""))
        refused(path, "expected")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    refused(tmp_path / "none.safetensors", "could not be read (No such file or directory)")
    refused(tmp_path, "could not be read (Is a directory)")


@pytest.mark.parametrize("length", [2**63, 2**40, 2**27, 10**6, 1, 0])
def test_a_lying_length_allocates_nothing(good, tmp_path, length):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + good.read_bytes()[8:])
    refused(path, "not a safetensors file, or a truncated one")


def test_a_sparse_file_with_a_huge_header_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 2**36))
        file.truncate(2**36 + 100)  # a hole: no disk is used
    refused(path, "not a safetensors file, or a truncated one")


def test_tensors_that_claim_fifty_gigabytes_are_refused(good, tmp_path):
    header, body = split(good)
    header["conv1.weight"] = {"dtype": "F32", "shape": [50, 10**9], "data_offsets": [0, 4 * 50 * 10**9]}
    path = tmp_path / "model.safetensors"
    path.write_bytes(joined(header, body))
    refused(path, "broken tensors")


def test_a_blueprint_that_claims_fifty_gigabytes_is_refused_before_it_is_built(good, tmp_path):
    header, body = split(good)
    huge = resvox.get_blueprint("resnet50", spatial_dims=3, widths=(4096, 8192, 16384, 32768), stem_width=4096)
    assert huge.parameters * 4 > 50e9
    header["__metadata__"]["blueprint"] = huge.to_json()
    path = tmp_path / "model.safetensors"
    path.write_bytes(joined(header, body))
    refused(path, "tensors of another network")


def test_wrong_tensors_are_refused_by_name(good, tmp_path):
    from safetensors.numpy import load_file

    blueprint = read_header(good).blueprint
    tensors = load_file(good)
    path = tmp_path / "model.safetensors"
    lacking = {name: value for name, value in tensors.items() if name != "fc.bias"}
    more = {**tensors, "layer9.weight": np.zeros(3, np.float32)}
    other = {**tensors, "fc.weight": np.zeros((3, 5), np.float32)}
    for wrong, words in (
        (lacking, "missing: fc.bias"),
        (more, "unknown: layer9.weight"),
        (other, "misshapen: fc.weight (3, 5) for (3, 4)"),
    ):
        with pytest.raises(WeightsError) as caught:
            files.write_file(path, wrong, blueprint)
        assert words in str(caught.value)
        assert not path.exists()
    header, body = split(good)
    header["layer9.weight"] = header.pop("fc.bias")
    path.write_bytes(joined(header, body))
    refused(path, "missing: fc.bias; unknown: layer9.weight; expected the")


def test_a_file_without_a_blueprint_says_what_to_do(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "model.safetensors"
    save_file({"a": np.zeros(3)}, path)
    refused(path, "a safetensors file without a blueprint")
    with pytest.raises(WeightsError, match=r"fix: build the model with resvox\.create_model"):
        read_header(path)
    save_file({"a": np.zeros(3)}, path, metadata={"blueprint": "{}", "resvox_format": "7"})
    refused(path, "model file format '7'; expected format '1'")
    save_file({"a": np.zeros(3)}, path, metadata={"blueprint": "{}", "resvox_format": "1"})
    refused(path, "a broken header (a blueprint of another format")


def test_a_model_of_another_origin_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"a Linear without a blueprint; expected a model built by resvox\.create"):
        resvox.save_model(torch.nn.Linear(2, 2), tmp_path / "model.safetensors")


def test_a_model_that_was_changed_is_refused(tmp_path):
    model = model_of()
    model.fc = torch.nn.Sequential(torch.nn.Linear(4, 3))
    with pytest.raises(WeightsError, match=r"fc is a .*Sequential, not a Linear"):
        resvox.save_model(model, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_failure_in_the_middle_leaves_the_old_file_and_no_other(good, tmp_path, monkeypatch, where):
    path = tmp_path / "model.safetensors"
    path.write_bytes(good.read_bytes())

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, where, full)
    with pytest.raises(WeightsError, match=r"model\.safetensors: could not be written \(No space left on device\)"):
        resvox.save_model(model_of(num_classes=9), path)
    assert path.read_bytes() == good.read_bytes()
    assert [each.name for each in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_new_file_has_the_rights_of_any_new_file(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    saved = resvox.save_model(MODEL, tmp_path / "model.safetensors")
    assert saved.stat().st_mode == plain.stat().st_mode


def test_half_precision_is_kept_and_bfloat16_is_widened(tmp_path):
    for kind, stored in ((torch.float16, np.float16), (torch.float64, np.float64), (torch.bfloat16, np.float32)):
        model = model_of().to(kind)
        path = resvox.save_model(model, tmp_path / "model.safetensors")
        tensors = files.read_tensors(path, model.blueprint)
        assert {value.dtype for value in tensors.values()} == {np.dtype(stored)}
        assert torch.equal(torch.from_numpy(tensors["conv1.weight"]).to(kind), model.conv1.weight)

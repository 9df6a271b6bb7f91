"""Which engine a network gets on this machine, and that all of them answer alike."""

from __future__ import annotations

import copy
import gc
import json
import sys
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import resvox
from resvox.errors import InferenceError
from resvox.files import sha256_of
from resvox.inference import make_engine
from resvox.inference.engines import choosing, engine_of_file, openvino_engine
from resvox.inference.engines.cache import KEPT, read_cached, write_cached
from resvox.inference.engines.onnx_engine import OnnxEngine
from resvox.inference.engines.protocol import NetworkRequest, ReleasesMemory
from resvox.machine import engine_cache_folder

ROI = (16, 16, 16)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return resvox.create_model(
        "unet",
        encoder_name="resnet10",
        encoder_depth=3,
        decoder_filters=(8, 8, 8),
        widths=(4, 8, 8, 8),
        stem_width=4,
        spatial_dims=3,
        in_channels=2,
        num_classes=3,
    ).eval()


def window(batch=1):
    return np.random.default_rng(0).normal(size=(batch, 2, *ROI)).astype(np.float32)


def engine_for(network, **options):
    notes = []
    made = make_engine(lambda: network, roi_size=ROI, in_channels=2, device="cpu", notify=notes.append, **options)
    return made, notes


@pytest.mark.parametrize("engine", ["auto", "torch", "torch-plain", "openvino"])
def test_float32_engines_answer_as_the_network(network, engine):
    made, notes = engine_for(network, engine=engine, precision="float32")
    with torch.no_grad():
        expected = network(torch.from_numpy(window(2))).numpy()
    np.testing.assert_allclose(made(window(2)), expected, rtol=1e-4, atol=1e-4)
    assert notes == []
    assert made.precision == "float32"


def test_auto_takes_openvino_where_it_is_installed_and_torch_where_not(network, monkeypatch):
    assert engine_for(network)[0].name == "openvino"
    monkeypatch.setattr(choosing, "is_installed", lambda package: package != "openvino")
    assert engine_for(network)[0].name == "torch"


def test_bfloat16_comes_first_only_where_the_processor_has_it(network, monkeypatch):
    tried = []
    real = choosing._making

    def watched(row, request):
        if not row.is_reference:
            tried.append((row.name, request.precision))
        return real(row, request)

    monkeypatch.setattr(choosing, "_making", watched)
    monkeypatch.setattr(choosing, "_has_bfloat16", lambda row, place: True)
    engine_for(network, engine="torch")
    assert tried == [("torch", "bfloat16"), ("torch", "float32")]
    tried.clear()
    monkeypatch.setattr(choosing, "_has_bfloat16", lambda row, place: False)
    engine_for(network)
    assert tried == [("openvino", "float32"), ("torch", "float32")]


def test_a_precision_that_is_named_is_used_without_a_comparison(network):
    made, _ = engine_for(network, engine="torch", precision="bfloat16")
    assert made.precision == "bfloat16"
    assert not isinstance(made, choosing.GuardedEngine)
    assert made(window()).dtype == np.float32


def test_a_compiled_network_and_a_verdict_are_used_again_without_the_network(network, engine_cache):
    first, _ = engine_for(network, precision="float32", fingerprint="a network")
    answer = first(window()).copy()

    def gone():
        raise AssertionError("the network was asked for")

    again = make_engine(
        gone, roi_size=ROI, in_channels=2, device="cpu", precision="float32", fingerprint="a network", notify=print
    )
    np.testing.assert_array_equal(again(window()), answer)
    assert {path.suffix for path in engine_cache.iterdir()} == {".ov", ".json"}
    with pytest.raises(AssertionError, match="asked for"):
        make_engine(gone, roi_size=ROI, in_channels=2, device="cpu", precision="float32", fingerprint="another")


def test_an_openvino_that_reads_streams_alone_imports_a_compiled_network_too(network, engine_cache, monkeypatch):
    import io

    import openvino

    from resvox.inference.engines import openvino_cache

    answer = engine_for(network, precision="float32", fingerprint="x")[0](window()).copy()
    streams, tensors = [], []

    class OlderCore:
        def import_model(self, source, device, options):
            if not isinstance(source, io.BytesIO):
                tensors.append(source)
                raise TypeError("import_model(): incompatible function arguments")
            streams.append(source)
            return openvino.Core.import_model(openvino_engine.shared_core(), source, device, options)

    def start(core, name, options):
        return openvino_cache.NetworkImport(OlderCore(), name, options)

    monkeypatch.setattr(openvino_engine, "import_if_cached", start)
    np.testing.assert_array_equal(engine_for(network, precision="float32", fingerprint="x")[0](window()), answer)
    assert len(streams) == len(tensors) == 1


@pytest.mark.parametrize("fingerprint", [None, "a network"])  # not cached, and cached: then it is imported again
def test_an_engine_computes_the_same_after_its_memory_was_released(network, engine_cache, fingerprint):
    from resvox.inference.engines.openvino_engine import OpenVinoEngine, from_torch

    made = OpenVinoEngine(lambda: from_torch(network, ROI, 2), roi_size=ROI, in_channels=2, fingerprint=fingerprint)
    assert isinstance(made, ReleasesMemory)
    answer = made(window()).copy()
    made.release_memory()
    made.release_memory()
    np.testing.assert_array_equal(made(window()), answer)


def test_a_network_in_torch_is_given_back_once_its_engine_is_made(network, engine_cache):
    loaded = []

    def load():
        module = copy.deepcopy(network)
        loaded.append(weakref.ref(module))
        return module

    made = make_engine(
        load, roi_size=ROI, in_channels=2, device="cpu", engine="openvino", precision="float32", fingerprint="x"
    )
    assert len(loaded) == 1
    assert loaded[0]() is None
    made(window())  # compared with the network in torch
    gc.collect()
    assert [module() for module in loaded] == [None, None]


def test_a_damaged_cache_is_made_again(network, engine_cache):
    engine_for(network, precision="float32", fingerprint="x")[0](window())
    for path in engine_cache.iterdir():
        path.write_bytes(b"no" if path.suffix == ".json" else path.read_bytes()[:100])
    made, _ = engine_for(network, precision="float32", fingerprint="x")
    made(window())
    assert {json.loads(path.read_text())["index"] for path in engine_cache.glob("*.json")} == {0}


def test_the_cache_keeps_the_newest_and_can_be_switched_off(engine_cache, monkeypatch):
    for number in range(KEPT + 3):
        write_cached(f"{number}.ov", b"x")
    assert len(list(engine_cache.iterdir())) == KEPT
    monkeypatch.setenv("RESVOX_CACHE", "")
    assert engine_cache_folder() is None
    write_cached("y", b"x")
    assert read_cached("y") is None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESVOX_CACHE", str(tmp_path / "file"))
    write_cached("a", b"x")
    assert read_cached("a") is None


def test_fingerprints_are_of_the_bytes(tmp_path):
    for name, data in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(data)
    a, b, c = (sha256_of(tmp_path / name) for name in "abc")
    assert a == b != c


def test_what_cannot_be_is_refused(network, monkeypatch):
    def make(**options):
        return make_engine(lambda: network, roi_size=ROI, in_channels=2, **options)

    with pytest.raises(InferenceError, match=r"engine='warp'; expected 'auto' or 'openvino'"):
        make(engine="warp")
    with pytest.raises(InferenceError, match=r"precision='int4'; expected"):
        make(precision="int4")
    with pytest.raises(InferenceError, match=r"precision='float16' with OpenVINO on this processor"):
        make(engine="openvino", precision="float16", device="cpu")
    with pytest.raises(InferenceError, match=r"compiled for \(1, 2, 16, 16, 16\)"):
        openvino_engine.OpenVinoEngine(
            lambda: openvino_engine.from_torch(network, ROI, 2), roi_size=ROI, in_channels=2
        )(np.zeros((1, 2, 8, 16, 16), np.float32))
    monkeypatch.setattr(choosing, "is_installed", lambda package: package != "openvino")
    with pytest.raises(InferenceError, match=r"not installed.*pip install openvino"):
        make(engine="openvino", device="cpu")


def test_a_network_that_openvino_refuses_says_so_and_torch_takes_over(network, monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("an operation of tomorrow\nand its trace")

    monkeypatch.setattr(openvino_engine, "from_torch", refuse)
    made, notes = engine_for(network, precision="float32")
    assert made.name == "torch"
    assert notes[0].startswith("no openvino in float32: OpenVINO does not take this network (an operation of tomorrow)")
    with pytest.raises(InferenceError, match=r"an operation of tomorrow.*engine='torch'"):
        engine_for(network, engine="openvino", precision="float32")


def test_exported_networks_answer_as_the_network(network, tmp_path):
    import openvino

    example = torch.from_numpy(window())
    with torch.no_grad():
        expected = network(example).numpy()
        torch.jit.trace(network, example).save(str(tmp_path / "m.pt"))
        torch.export.save(torch.export.export(network, (example,)), tmp_path / "m.pt2")
        torch.onnx.export(network, (example,), tmp_path / "m.onnx", dynamo=False)
        openvino.save_model(
            openvino.convert_model(network, example_input=example), tmp_path / "m.xml", compress_to_fp16=False
        )
    kinds = {"m.pt": "torchscript", "m.pt2": "torch-export", "m.onnx": "onnx", "m.xml": "openvino"}
    names = {}
    for name, kind in kinds.items():
        made = engine_of_file(tmp_path / name, kind, roi_size=ROI, in_channels=2, device="cpu")
        np.testing.assert_allclose(made(window()), expected, rtol=1e-3, atol=1e-4)
        names[kind] = made.name
    assert names == {
        "torchscript": "torch",
        "torch-export": "torch",
        "onnx": "onnxruntime",
        "openvino": "openvino",
    }


def test_exported_networks_that_do_not_load_are_refused(tmp_path):
    for name, kind, words in (
        ("a.pt", "torchscript", "not read as torchscript"),
        ("a.onnx", "onnx", "not read by ONNX Runtime"),
        ("a.xml", "openvino", "OpenVINO does not take"),
    ):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(InferenceError, match=words):
            engine_of_file(tmp_path / name, kind, roi_size=ROI, in_channels=2, device="cpu")
    with pytest.raises(InferenceError, match=r"engine='torch' for an exported network \(onnx\); expected 'auto'"):
        engine_of_file(tmp_path / "a.onnx", "onnx", roi_size=ROI, in_channels=2, engine="torch")
    with pytest.raises(InferenceError, match=r"a network of kind 'keras'"):
        engine_of_file(tmp_path / "a.onnx", "keras", roi_size=ROI, in_channels=2)


@pytest.mark.parametrize(("kind", "engine"), [("openvino", "auto"), ("openvino", "openvino"), ("onnx", "openvino")])
def test_an_exported_network_on_a_device_that_its_engine_does_not_have_is_refused(tmp_path, kind, engine):
    with pytest.raises(InferenceError, match=r"device='cuda' for an exported network .*expected 'auto' or 'cpu'"):
        engine_of_file(tmp_path / "a", kind, roi_size=ROI, in_channels=2, engine=engine, device="cuda")


@pytest.mark.parametrize(
    ("device", "works", "used", "made"),
    [
        ("cuda:1", True, "cuda:1", {"device_id": 1}),
        ("cuda", True, "cuda", {}),
        ("auto", True, "cuda", {}),
        ("auto", False, "cpu", {}),
        ("cuda:1", False, None, {"device_id": 1}),
        ("cpu", True, "cpu", None),
    ],
)
def test_onnx_runtime_gets_the_number_of_the_gpu_and_the_device_is_the_one_in_use(
    monkeypatch, device, works, used, made
):
    gpu, asked = "CUDAExecutionProvider", []

    class Session:
        """Where the GPU cannot be used, ONNX Runtime goes on with the processor."""

        def __init__(self, path, options, providers):
            asked.extend(providers)

        def get_providers(self):
            names = [each if isinstance(each, str) else each[0] for each in asked]
            return [name for name in names if works or name != gpu]

        def get_inputs(self):
            return [SimpleNamespace(name="image")]

        get_outputs = get_inputs

    runtime = SimpleNamespace(
        get_available_providers=lambda: [gpu, "CPUExecutionProvider"],
        SessionOptions=SimpleNamespace,
        InferenceSession=Session,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    if used is None:
        with pytest.raises(InferenceError, match=r"device='cuda:1', which ONNX Runtime cannot use; .*device='cpu'"):
            OnnxEngine("a.onnx", device=device)
    else:
        assert OnnxEngine("a.onnx", device=device).device == used
    assert asked == [*([] if made is None else [(gpu, made)]), "CPUExecutionProvider"]


def test_a_verdict_is_for_these_versions_and_this_gpu(monkeypatch):
    keys = []
    monkeypatch.setattr(choosing, "_read_verdict", keys.append)
    versions = {"torch": "1", "openvino": "1"}
    monkeypatch.setattr(choosing.importlib.metadata, "version", lambda package: versions[package])
    monkeypatch.setattr("torch.cuda.get_device_name", lambda place: gpus[place.index])
    gpus = ["A", "B"]

    def key(place="cpu"):
        request = NetworkRequest(
            module=lambda: None, roi_size=ROI, in_channels=2, device=place, precision="float32", fingerprint="f",
            notify=print,
        )  # fmt: skip
        made = SimpleNamespace(name="a", device="cpu", precision="float32")
        choosing._guarded([("a", lambda: made)], lambda: made, request, choosing.LabelAgreement(), quantized=None)
        return keys[-1]

    assert key() == key()
    found = {key(), key(torch.device("cuda", 0)), key(torch.device("cuda", 1))}
    versions["openvino"] = "2"
    found.add(key())
    monkeypatch.setattr(choosing, "__version__", "0.0.0", raising=False)
    found.add(key())
    assert len(found) == 5

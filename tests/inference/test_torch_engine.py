import contextlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from resvox.errors import InferenceError
from resvox.inference import TorchEngine

FLOAT32 = {"device": "cpu", "precision": "float32"}  # "auto" is another device and precision where there is a card


class Recorder(torch.nn.Module):
    """A network that remembers how it was called, and can run out of memory above a batch size."""

    def __init__(self, limit=1000, error=None):
        super().__init__()
        self.conv = torch.nn.Conv3d(2, 3, 3, padding=1)
        self.drop = torch.nn.Dropout(0.5)
        self.norm = torch.nn.BatchNorm3d(3)
        self.limit, self.error = limit, error or torch.OutOfMemoryError("CUDA out of memory. Tried ...")
        self.batches, self.calls = [], []

    def forward(self, x):
        self.batches.append(len(x))
        if len(x) > self.limit:
            raise self.error
        y = self.norm(self.drop(self.conv(x)))
        self.calls.append((self.training, torch.is_grad_enabled(), x.stride(), y.dtype))
        return y


def five_windows(batch=5):
    return np.random.default_rng(0).normal(size=(batch, 2, 4, 5, 6)).astype(np.float32)


def test_it_answers_as_the_module_in_eval_mode_and_gives_every_mode_back():
    module = Recorder()
    module.train()
    module.norm.eval()  # frozen, as in fine-tuning
    means = module.norm.running_mean.clone()
    answer = TorchEngine(module, **FLOAT32)(five_windows())
    assert [module.training, module.drop.training, module.norm.training] == [True, True, False]
    assert torch.equal(module.norm.running_mean, means)
    assert module.calls[0][:2] == (False, False)
    module.eval()
    with torch.no_grad():
        expected = module(torch.from_numpy(five_windows())).numpy()
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6)


def test_the_training_mode_comes_back_after_an_error_too():
    module = Recorder(limit=0)
    module.train()
    with pytest.raises(InferenceError):
        TorchEngine(module, **FLOAT32)(five_windows(1))
    assert module.training


def test_windows_arrive_channels_last_and_the_same_call_gives_the_same_bits():
    module = Recorder().eval()
    engine = TorchEngine(module, **FLOAT32)
    first, second = engine(five_windows()), engine(five_windows())
    assert module.calls[0][2][1] == 1  # the channel is the fastest axis
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("training", [True, False])
def test_weights_change_their_layout_in_eval_mode_only_and_can_still_be_trained(training):
    module = Recorder().train(training)
    before = module.conv.weight.detach().clone()
    TorchEngine(module, **FLOAT32)(five_windows())
    channels_last = module.conv.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert channels_last is not training
    assert torch.equal(module.conv.weight, before)
    module(torch.from_numpy(five_windows())).sum().backward()  # no inference tensors were left behind
    assert module.conv.weight.grad is not None


def test_autocast_computes_in_bfloat16_and_answers_in_float32():
    module = Recorder().eval()
    exact = TorchEngine(module, device="cpu", precision="float32")(five_windows())
    fast = TorchEngine(module, device="cpu", precision="bfloat16")(five_windows())
    assert [call[3] for call in module.calls] == [torch.float32, torch.bfloat16]
    assert fast.dtype == np.float32
    assert 0 < np.abs(exact - fast).max() < 0.1


def test_a_callers_autocast_does_not_reach_in():
    module = Recorder().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        TorchEngine(module, device="cpu")(five_windows())
    assert module.calls[0][3] == torch.float32


def test_auto_is_float32_on_the_cpu():
    if torch.cuda.is_available():
        assert TorchEngine(Recorder()).device.type == "cuda"
    engine = TorchEngine(Recorder(), device="cpu")
    assert (str(engine.device), engine.precision) == ("cpu", "float32")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    ],
)
def test_out_of_memory_goes_on_with_smaller_batches_and_says_so_once(error):
    whole = TorchEngine(Recorder().eval(), **FLOAT32)
    module = Recorder(limit=2, error=error).eval()
    module.load_state_dict(whole.module.state_dict())
    lines = []
    engine = TorchEngine(module, device="cpu", notify=lines.append)
    np.testing.assert_allclose(engine(five_windows()), whole(five_windows()), rtol=1e-5, atol=1e-6)
    assert module.batches == [5, 2, 2, 1]
    assert lines == ["out of memory on cpu for 5 windows of (4, 5, 6) voxels; continuing with 2 at a time"]
    engine(five_windows())
    assert module.batches[4:] == [2, 2, 1]  # it has learned
    assert len(lines) == 1


def test_without_a_callback_it_warns():
    engine = TorchEngine(Recorder(limit=1).eval(), device="cpu")
    with pytest.warns(RuntimeWarning, match="continuing with 1 at a time"):
        engine(five_windows(2))


def test_no_memory_for_one_window_is_an_error_with_a_fix():
    engine = TorchEngine(Recorder(limit=0).eval(), device="cpu", notify=lambda line: None)
    with pytest.raises(InferenceError) as caught:
        engine(five_windows(2))
    assert str(caught.value).startswith(
        "out of memory on cpu for one window of (4, 5, 6) voxels in float32; expected memory for one window; "
        "fix: a smaller roi_size, device='cpu'"
    )


def test_another_error_passes_as_it_is():
    engine = TorchEngine(Recorder(limit=0, error=RuntimeError("size mismatch")).eval(), device="cpu")
    with pytest.raises(RuntimeError, match=r"^size mismatch$"):
        engine(five_windows(2))


class Heads(torch.nn.Module):
    def __init__(self, pack):
        super().__init__()
        self.pack = pack

    def forward(self, x):
        return self.pack(x)


@pytest.mark.parametrize("pack", [lambda x: [x * 2, x], lambda x: (x * 2,), lambda x: x * 2])
def test_of_several_heads_the_first_counts(pack):
    windows = five_windows()
    np.testing.assert_array_equal(TorchEngine(Heads(pack), **FLOAT32)(windows), windows * 2)


@pytest.mark.parametrize(("pack", "kind"), [(lambda x: {"out": x}, "dict"), (lambda x: [], "list")])
def test_an_output_without_a_tensor_is_refused(pack, kind):
    with pytest.raises(InferenceError, match=f"a module that returned {kind}; expected a tensor of logits"):
        TorchEngine(Heads(pack))(five_windows())


def test_devices_and_precisions_that_are_not_there_are_refused():
    with pytest.raises(InferenceError, match=r"device='warp:0' .*fix: device='auto'"):
        TorchEngine(Recorder(), device="warp:0")
    with pytest.raises(InferenceError, match=r"precision='half'; expected 'auto' or 'float32'"):
        TorchEngine(Recorder(), precision="half")


def test_flipped_windows_with_negative_strides_are_taken():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TorchEngine(Recorder().eval(), **FLOAT32)(np.flip(five_windows(), 2))


def test_inference_loads_no_torch_until_an_engine_is_asked_for():
    code = (
        "import sys, resvox.inference as package;"
        "assert 'torch' not in sys.modules and 'monai' not in sys.modules;"
        "assert 'TorchEngine' in dir(package); package.TorchEngine; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path), "PATH": ""})


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_made_for_a_window_it_answers_alike_and_leaves_the_module_as_it_is(precision):
    module = Recorder().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    made = TorchEngine(module, precision=precision, roi_size=(4, 5, 6), device="cpu")
    answer = made(five_windows())
    with torch.no_grad():
        expected = module(torch.from_numpy(five_windows())).numpy()
    np.testing.assert_allclose(answer, expected, atol=1e-5 if precision == "float32" else 0.05)
    assert answer.dtype == np.float32
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert module.conv.weight.dtype == torch.float32


class FakeCuda:
    """Enough of ``torch.cuda`` to record and replay on a processor, or to refuse to."""

    class Stream:
        def wait_stream(self, other):
            pass

    class CUDAGraph:
        def __init__(self):
            self.work = lambda: None

        def replay(self):
            self.work()

    def __init__(self, error=None):
        self.error = error
        self.inside, self.entered, self.modes = [], [], []

    @contextlib.contextmanager
    def device(self, place):
        self.inside.append(place)
        yield
        self.inside.pop()

    def current_stream(self):
        return self.Stream()

    def stream(self, stream):
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def graph(self, graph, capture_error_mode="global"):
        self.modes.append(capture_error_mode)
        self.entered.append(list(self.inside))
        if self.error:
            raise self.error
        yield

    def empty_cache(self):
        pass


@pytest.fixture
def cuda_graph(monkeypatch):
    """A `CudaGraph` on the fake card; its replay is what the card would do: compute from the input's place."""
    from resvox.inference.engines import torch_engine

    def make(module, error=None, fake=None):
        fake = fake or FakeCuda(error)
        monkeypatch.setattr(torch_engine.torch, "cuda", fake)
        notes = []
        graph = torch_engine.CudaGraph(notify=notes.append)
        real = graph._record

        def record(net, windows):
            real(net, windows)
            graph._recorded.work = lambda: graph._output.copy_(net(graph._input))

        graph._record = record
        return graph, notes

    return make


def test_a_graph_is_recorded_once_and_replayed_on_new_windows(cuda_graph):
    module = Recorder().eval()
    graph, notes = cuda_graph(module)
    with torch.inference_mode():
        for seed in range(3):
            windows = torch.randn(2, 2, 4, 5, 6, generator=torch.Generator().manual_seed(seed))
            torch.testing.assert_close(graph(module, windows), module(windows))
        last = torch.randn(1, 2, 4, 5, 6)  # the last batch of a scan is smaller: it runs as usual
        torch.testing.assert_close(graph(module, last), module(last))
        again = torch.randn(2, 2, 4, 5, 6)
        torch.testing.assert_close(graph(module, again), module(again))
    assert notes == []


def test_a_pass_that_cannot_be_recorded_runs_as_usual_and_that_is_said_once(cuda_graph):
    module = Recorder().eval()
    graph, notes = cuda_graph(module, RuntimeError("operation not permitted when stream is capturing\ntrace"))
    windows = torch.randn(2, 2, 4, 5, 6)
    with torch.inference_mode():
        for _ in range(2):
            torch.testing.assert_close(graph(module, windows), module(windows))
    assert notes == ["no CUDA graph (operation not permitted when stream is capturing); continuing without one"]


def test_memory_that_runs_out_while_recording_makes_batches_smaller(cuda_graph):
    module = Recorder().eval()
    graph, notes = cuda_graph(module, torch.OutOfMemoryError("CUDA out of memory. Tried ..."))
    with torch.inference_mode(), pytest.raises(torch.OutOfMemoryError):
        graph(module, torch.randn(2, 2, 4, 5, 6))
    assert notes == []


def test_a_graph_is_recorded_and_replayed_on_the_device_of_the_windows(cuda_graph):
    module, fake = Recorder().eval(), FakeCuda()
    graph, _ = cuda_graph(module, fake=fake)
    windows = torch.randn(2, 2, 4, 5, 6)
    with torch.inference_mode():
        graph(module, windows)
        graph._recorded.work = lambda: fake.entered.append(list(fake.inside))
        graph(module, windows)
    assert fake.entered == [[windows.device], [windows.device]]
    assert fake.modes == ["thread_local"]  # what other threads do meanwhile does not end it

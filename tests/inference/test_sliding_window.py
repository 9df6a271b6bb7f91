import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference as monai_inference

from resvox.errors import InferenceError
from resvox.inference import Engine, TorchEngine, sliding_window_inference


def small_net(spatial_dims):
    torch.manual_seed(0)
    conv = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[spatial_dims]
    # Zero padding at the window's rim makes answers depend on where windows lie: what parity must show.
    return torch.nn.Sequential(conv(2, 4, 3, padding=1), torch.nn.ReLU(), conv(4, 3, 3, padding=1)).eval()


NETS = {dims: small_net(dims) for dims in (2, 3)}


def both_answers(size, **arguments):
    volume = np.random.default_rng(7).normal(size=(2, *size)).astype(np.float32)
    net = NETS[len(size)]
    with torch.inference_mode():
        theirs = monai_inference(torch.from_numpy(volume[None]), predictor=net, **arguments)[0].numpy()
    return sliding_window_inference(volume, TorchEngine(net, device="cpu"), **arguments), theirs


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize(
    ("size", "roi", "overlap"),
    [
        ((31, 45), 16, 0.25),
        ((31, 45), (16, 12), (0.5, 0.625)),
        ((9, 45), 16, 0.5),  # smaller than the window along one axis
        ((5, 7), 16, 0.5),  # along all of them, odd differences
        ((1, 1), 8, 0.25),
        ((13, 21, 17), 8, 0.25),
        ((13, 21, 17), (8, 10, 6), 0.5),
        ((13, 21, 17), (8, 10, 6), (0.625, 0.25, 0.5)),
        ((3, 21, 17), (8, 8, 8), 0.625),
        ((3, 5, 7), 8, 0.5),
        ((13, 21, 17), (-1, 8, -1), 0.25),
    ],
)
def test_the_answer_is_monais(size, roi, overlap, mode):
    ours, theirs = both_answers(size, roi_size=roi, overlap=overlap, mode=mode, sw_batch_size=3)
    assert ours.shape == (3, *size)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("padding_mode", ["constant", "reflect", "replicate", "circular"])
def test_a_small_volume_is_padded_as_monai_pads_it(padding_mode):
    arguments = {"roi_size": (8, 12), "overlap": 0.5, "padding_mode": padding_mode}
    if padding_mode == "constant":
        arguments["cval"] = -2.5
    ours, theirs = both_answers((7, 9), sw_batch_size=1, mode="gaussian", **arguments)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 12), st.floats(0, 0.8)), min_size=2, max_size=2),
    st.sampled_from(["constant", "gaussian"]),
    st.integers(1, 5),
    st.floats(0.05, 0.5),
)
def test_the_answer_is_monais_for_any_arguments(axes, mode, batch, sigma):
    ours, theirs = both_answers(
        tuple(a[0] for a in axes),
        roi_size=tuple(a[1] for a in axes),
        overlap=tuple(a[2] for a in axes),
        mode=mode,
        sigma_scale=sigma,
        sw_batch_size=batch,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=5e-6)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(1, 13), min_size=2, max_size=3),
    st.integers(1, 9),
    st.floats(0, 0.9),
    st.integers(1, 4),
)
def test_a_pointwise_predictor_gets_its_volume_back_whatever_the_size(size, roi, overlap, batch):
    volume = np.random.default_rng(0).normal(size=(1, *size)).astype(np.float32)
    logits = sliding_window_inference(
        volume, lambda w: np.concatenate([w, -w], 1), roi_size=roi, overlap=overlap, sw_batch_size=batch
    )
    np.testing.assert_allclose(logits, np.concatenate([volume, -volume]), rtol=1e-5, atol=1e-6)


def test_integers_are_converted_window_by_window_and_padded_with_any_number():
    volume = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    types, lowest = set(), []

    def predictor(windows):
        types.add(windows.dtype)
        lowest.append(windows.min())
        return windows

    logits = sliding_window_inference(volume, predictor, roi_size=(6, 4), cval=-1000.5)
    assert types == {np.dtype(np.float32)}
    assert min(lowest) == -1000.5
    np.testing.assert_array_equal(logits, volume)


def test_progress_counts_windows_from_nothing_to_all():
    calls = []
    sliding_window_inference(
        np.zeros((1, 8, 20), np.float32),
        lambda w: w,
        roi_size=8,
        overlap=0.5,
        sw_batch_size=3,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(0, 4), (3, 4), (4, 4)]


def refused(predictor=lambda w: w, volume=None, **arguments):
    volume = np.zeros((1, 8, 8), np.float32) if volume is None else volume
    with pytest.raises(InferenceError) as caught:
        sliding_window_inference(volume, predictor, **{"roi_size": 4, **arguments})
    return str(caught.value)


def test_an_answer_of_another_size_is_refused_with_both_shapes():
    text = refused(lambda w: w[:, :, ::2])
    assert "returned (1, 1, 2, 4) for windows of (1, 1, 4, 4); expected (1, classes, 4, 4)" in text
    assert "roi_size divisible by its strides" in text
    assert "returned (4, 4)" in refused(lambda w: w[0, 0])
    assert "returned (1, 1, 4, 4) for windows of (2, 1, 4, 4)" in refused(lambda w: w[:1], sw_batch_size=2)


def test_an_answer_that_is_no_array_points_to_the_engine():
    text = refused(lambda w: torch.from_numpy(w))
    assert "returned torch.Tensor" in text
    assert "TorchEngine" in text


def test_a_number_of_classes_that_changes_is_refused():
    counts = iter(range(1, 100))
    text = refused(lambda w: np.repeat(w, next(counts), axis=1))
    assert text.startswith("a window with 2 classes after windows with 1;")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(value):
    def predictor(windows):
        logits = windows + 1
        logits[0, 0, 1, 2] = value
        return logits

    text = refused(predictor)
    assert text.startswith("1 logits that are NaN or infinite; expected finite logits; fix: look for NaN among")


def test_a_volume_with_nan_is_named_as_the_cause():
    volume = np.zeros((1, 8, 8), np.float32)
    volume[0, 5, 5] = np.nan
    assert "from a window that holds such values itself" in refused(volume=volume)


def test_logits_whose_sum_alone_overflows_pass():
    large = np.full((1, 4, 4), 3e37, np.float32)
    with np.errstate(over="ignore"):
        assert not np.isfinite(large.sum())
    logits = sliding_window_inference(large, lambda w: w, roi_size=4)
    np.testing.assert_allclose(logits, large)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"overlap": 1.0}, "overlap=1.0; expected fractions of a window, at least 0 and below 1"),
        ({"overlap": (0.5, -0.1)}, "overlap=(0.5, -0.1)"),
        ({"overlap": (0.5, 0.5, 0.5)}, "3 values; expected 2 values for a volume of 2 spatial axes"),
        ({"sw_batch_size": 0}, "sw_batch_size=0; expected a whole number of windows, at least 1"),
        ({"padding_mode": "edge"}, "padding_mode='edge'; expected 'constant' or 'reflect'"),
        (
            {"volume": np.zeros((8, 8))},
            "a volume of shape (8, 8); expected a numpy array (channels, *spatial)",
        ),
        ({"volume": np.zeros((1, 1, 8, 8, 8))}, "leave out the batch axis"),
        ({"volume": np.zeros((1, 0, 8))}, "none of them empty"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, words):
    assert words in refused(**arguments)


def test_an_engine_tells_its_name_device_and_precision():
    engine = TorchEngine(NETS[2], device="cpu", precision="float32")
    assert isinstance(engine, Engine)
    assert (engine.name, str(engine.device), engine.precision) == ("torch", "cpu", "float32")
    assert not isinstance(lambda windows: windows, Engine)

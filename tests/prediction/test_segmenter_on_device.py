"""Models whose scans stay on the device of the network: their labels, and which models these are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from resvox.prediction.device import of_model
from resvox.prediction.segmenter import Segmenter
from resvox.volumes import Volume

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
TORCH = {"engine": "torch", "precision": "float32"}


def scan(shape=(13, 12, 11)):
    array = np.random.default_rng(1).integers(-900, 900, shape).astype(np.int16)
    return Volume(array, spacing_mm=(3.0, 2.0, 2.0)[-len(shape) :])


@pytest.fixture
def staying(monkeypatch):
    monkeypatch.setattr(of_model, "DEVICES", ("cpu", "cuda"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("options", [{}, {"mirror": True}, {"overlap": 0.5, "skip_empty": True}])
def test_labels_are_those_of_main_memory(make_model, staying, monkeypatch, device, options):
    kept = Segmenter(make_model(), device=device, **TORCH, **options)
    assert kept._device is not None
    kept._device.maker.batch = 1 if device == "cpu" else 4  # as in main memory: results depend on it in the last bits
    made = kept.segment(scan())
    monkeypatch.setattr(of_model, "DEVICES", ())
    plain = Segmenter(make_model(), device=device, **TORCH, **options)
    assert plain._device is None
    expected = plain.segment(scan())
    np.testing.assert_array_equal(made.label_map.array, expected.label_map.array)
    assert made.label_map.grid == expected.label_map.grid
    assert made.windows == expected.windows
    assert set(made.seconds) == {"preprocess", "network", "restore"}


def test_several_models_are_averaged_on_the_device(make_model, staying, monkeypatch):
    models = [make_model(), make_model()]
    kept = Segmenter(models, device="cpu", **TORCH)
    kept._device.maker.batch = 1
    made = kept.segment(scan()).label_map.array
    monkeypatch.setattr(of_model, "DEVICES", ())
    np.testing.assert_array_equal(made, Segmenter(models, device="cpu", **TORCH).segment(scan()).label_map.array)


@pytest.mark.parametrize(
    "options", [{"probabilities": True}, {"uncertainty": True}, {"resample": "labels"}, {"speed": "balanced"}]
)
def test_what_needs_more_than_labels_is_blended_in_main_memory(make_model, staying, options):
    assert Segmenter(make_model(), device="cpu", **TORCH, **options)._device is None


def test_probabilities_of_one_call_are_blended_in_main_memory(make_model, staying, monkeypatch):
    kept = Segmenter(make_model(), device="cpu", **TORCH)
    monkeypatch.setattr(kept._device.maker, "labels", None)
    assert kept.segment(scan(), probabilities=True).probabilities is not None


def test_a_processor_and_an_image_are_not_kept_on_the_device(make_model, monkeypatch):
    assert Segmenter(make_model(), device="cpu", **TORCH)._device is None
    monkeypatch.setattr(of_model, "DEVICES", ("cpu",))
    assert Segmenter(make_model(spatial_dims=2), device="cpu", **TORCH)._device is None


def test_memory_that_never_suffices_is_tried_once(make_model, staying, monkeypatch):
    kept, tries = Segmenter(make_model(), device="cpu", **TORCH), []
    monkeypatch.setattr(kept._device.maker, "labels", lambda *_, **__: tries.append(1))
    first, second = kept.segment(scan()), kept.segment(scan())
    np.testing.assert_array_equal(first.label_map.array, second.label_map.array)
    assert tries == [1]

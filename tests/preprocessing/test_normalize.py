"""Intensities by rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resvox.errors import PlanError
from resvox.preprocessing import Window, ZScore, normalize
from resvox.preprocessing.normalize import normalization_from_dict


def test_a_window_clips_then_scores() -> None:
    channel = np.array([-3024, -1000, -300, 400, 3070], np.int16)
    scaled = Window(low=-1000, high=400)(channel)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [-1, -1, 0, 1, 1])
    scored = Window(low=-1000, high=400, mean=100, std=200)(channel)
    np.testing.assert_allclose(scored, [-5.5, -5.5, -2, 1.5, 1.5])


@settings(deadline=None, max_examples=30)
@given(shift=st.floats(-1e4, 1e4), scale=st.floats(0.01, 1e3), seed=st.integers(0, 99))
def test_z_scores_have_mean_0_and_deviation_1(shift: float, scale: float, seed: int) -> None:
    channel = (np.random.default_rng(seed).normal(size=(9, 9, 9)) * scale + shift).astype(np.float32)
    if channel.std() < 1e-3 * max(1.0, abs(shift)):
        return  # float32 cannot hold the deviation beside such a mean
    scored = ZScore()(channel)
    assert scored.dtype == np.float32
    assert abs(float(scored.mean(dtype=np.float64))) < 1e-2
    assert float(scored.std(dtype=np.float64)) == pytest.approx(1.0, abs=1e-2)


def test_z_scores_of_what_is_not_zero_leave_zero_alone() -> None:
    channel = np.array([0, 0, 0, 2, 4], np.uint16)
    np.testing.assert_allclose(ZScore(nonzero_only=True)(channel), [0, 0, 0, -1, 1])
    np.testing.assert_allclose(ZScore()(channel)[:3], -0.75, atol=1e-3)


@pytest.mark.parametrize("rule", [ZScore(), ZScore(nonzero_only=True)])
@pytest.mark.parametrize("value", [0, 7, -1000.25])
def test_a_constant_image_becomes_zeros(rule: ZScore, value: float) -> None:
    np.testing.assert_array_equal(rule(np.full((3, 3), value, np.float32)), 0.0)


@pytest.mark.parametrize(
    "rule", [Window(low=-5, high=7.5), Window(low=0, high=255, mean=1.0, std=2.0), ZScore(), ZScore(nonzero_only=True)]
)
def test_rules_survive_plain_values(rule: Window | ZScore) -> None:
    assert normalization_from_dict(rule.to_dict()) == rule


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"kind": "minmax"}, "normalization kind 'minmax'; expected one of window, zscore"),
        ({"kind": "zscore", "low": 3}, "zscore normalization with unknown low; expected of nonzero_only"),
        ({"kind": "window", "low": 3}, "expected low and high"),
        ({"kind": "window", "low": 3, "high": 3}, "expected finite numbers, low below high"),
        ({"kind": "window", "low": "a", "high": 3}, "expected finite numbers, low below high"),
        ({"kind": "window", "low": 0, "high": float("inf")}, "expected finite numbers, low below high"),
        ({"kind": "window", "low": 0, "high": 1, "std": 0}, "std=0; expected a number above 0"),
        ({"kind": "zscore", "nonzero_only": "yes"}, "nonzero_only='yes'; expected true or false"),
    ],
)
def test_rules_that_cannot_be_are_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(PlanError) as caught:
        normalization_from_dict(values)
    assert text in str(caught.value)


def test_threads_give_the_same_values_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    turned = np.flip(np.random.default_rng(0).integers(-2000, 2000, (7, 5, 9)).astype(np.int16), (0, 2)).transpose(
        2, 0, 1
    )
    alone = Window(low=-900, high=700)(turned)
    monkeypatch.setattr(normalize, "usable_threads", lambda: 3)
    monkeypatch.setattr(normalize, "THREADED_VOXELS", 1)
    monkeypatch.setattr(normalize, "SLAB_VOXELS", 40)
    together = Window(low=-900, high=700)(turned)
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(alone, (np.clip(turned.astype(float), -900, 700) + 100) / 800, atol=1e-6)
    assert together.flags.c_contiguous


@pytest.mark.parametrize("rule", [ZScore(), ZScore(nonzero_only=True)])
def test_units_may_be_tiny(rule: ZScore) -> None:
    plain = np.random.default_rng(0).uniform(0.5, 3.0, (8, 9, 10)).astype(np.float32)
    np.testing.assert_allclose(rule(plain * np.float32(1e-9)), rule(plain), rtol=1e-4, atol=1e-4)  # mm2/ms in m2/s


@pytest.mark.parametrize("rule", [ZScore(), ZScore(nonzero_only=True)])
@pytest.mark.parametrize("value", [0.3, 1e-9, -7.1e-7, 1e-40, 3e12])
def test_a_constant_image_of_any_unit_becomes_zeros(rule: ZScore, value: float) -> None:
    channel = np.full((7, 9, 11), value, np.float32)
    np.testing.assert_array_equal(rule(channel), 0.0)
    channel[::2] = np.nextafter(channel[0, 0, 0], np.float32(np.inf))  # rounding is no contrast
    np.testing.assert_array_equal(rule(channel), 0.0)

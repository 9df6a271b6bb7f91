"""Real digits of 8 x 8 pixels, with what `resvox train` draws for them and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from resvox import workflow


@pytest.mark.slow
def test_digits_are_read(tmp_path):
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    parts = dict(zip(("train", "val", "test"), np.split(order, [1257, 1437]), strict=True))
    arrays = {f"{part}_images": digits.images[rows].astype(np.uint8) for part, rows in parts.items()}
    arrays |= {f"{part}_labels": digits.target[rows, None] for part, rows in parts.items()}
    np.savez(tmp_path / "digits.npz", **arrays)
    workflow.train(tmp_path / "digits.npz", tmp_path / "run", task="classification", device="cpu", progress=False)
    workflow.predict(tmp_path / "run", tmp_path / "digits.npz", tmp_path / "out")
    scores = workflow.evaluate(tmp_path / "out", tmp_path / "digits.npz").scores
    assert len(scores.cases) == 360
    assert scores.accuracy >= 0.98

"""What holds for every test."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """The same draws in every run, so that a test's outcome does not depend on chance or on the order of the tests.

    Weights and dropout are drawn by PyTorch's global generator, and a test may meet a draw that it does not cover, for
    example a layer whose ReLUs are all 0. PyTorch is seeded only where it is loaded: importing it takes seconds.
    """
    random.seed(0)
    np.random.seed(0)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)

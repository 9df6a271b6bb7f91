"""All randomness of a run, as a function of the seed, the step and the sample.

A checkpoint therefore holds no generator state, and neither the number of worker processes nor a resume
changes what is drawn.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What the numbers are for, so that no two uses draw the same ones."""

    SAMPLE = 0
    EPOCH = 1
    STEP = 2
    WEIGHTS = 3
    VALIDATION = 4


def generator(seed: int, purpose: Purpose, *numbers: int) -> np.random.Generator:
    """A numpy generator that depends on its arguments and on nothing else."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, int(purpose), *numbers))))


def seed_number(seed: int, purpose: Purpose, *numbers: int) -> int:
    """A 32-bit seed for libraries with generators of their own (torch, MONAI)."""
    return int(np.random.SeedSequence((seed, int(purpose), *numbers)).generate_state(1)[0])

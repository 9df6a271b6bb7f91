"""The stored plans of `tests/training/nnunet_plans.json` are what nnU-Net's planners make."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.nnunet
STORED = Path(__file__).parents[1] / "training/nnunet_plans.json"


def test_stored_plans_are_those_of_the_planners():
    made = Path(os.environ["RESVOX_NNUNET_TOYS"]) / "plans.json"
    assert json.loads(made.read_text()) == json.loads(STORED.read_text())

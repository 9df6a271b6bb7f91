"""All toy models beside nnU-Net's own predictor: `make test-nnunet`, which runs nnU-Net first."""

import os
from pathlib import Path

import pytest
from nnunet.comparing import compare, explain
from nnunet.peer_cases import CASES

pytestmark = pytest.mark.nnunet
TOYS = Path(os.environ.get("RESVOX_NNUNET_TOYS", "nnunet-toys"))
FEW = 0.05  # of the voxels: the bounds are narrow enough to say something; 0 to 2.6 % were seen


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exact_results_have_the_bits_of_nnunet(case):
    for found in compare(case, TOYS / case.name, exact=True):
        assert found.data == found.logits == found.labels == 0
        assert found.probabilities < 1e-6  # exp differs by its last digit between PyTorch and NumPy


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_default_results_are_those_of_nnunet_with_sums_in_float32(case):
    for found in compare(case, TOYS / case.name, exact=False, reference="reference32"):
        assert found.labels == 0
        assert found.probabilities < 1e-5


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_default_results_differ_only_where_float16_decides(case):
    for found in explain(case, TOYS / case.name):
        assert found.beyond <= 0  # nnU-Net's logits are within their bounds
        assert found.unexplained == 0
        assert found.own_error < 1e-5
        assert found.differing <= found.possible <= FEW * found.voxels

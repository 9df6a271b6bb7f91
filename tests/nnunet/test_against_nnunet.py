"""All toy models beside nnU-Net's own predictor: `make test-nnunet`, which runs nnU-Net first."""

import os
from pathlib import Path

import pytest
from nnunet.comparing import compare
from nnunet.peer_cases import CASES

pytestmark = pytest.mark.nnunet
TOYS = Path(os.environ.get("RESVOX_NNUNET_TOYS", "nnunet-toys"))
TIES = 0.01  # of the voxels; nnU-Net's float16 sums decide there


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exact_results_have_the_bits_of_nnunet(case):
    for found in compare(case, TOYS / case.name, exact=True):
        assert found.data == found.logits == found.labels == 0
        assert found.probabilities < 1e-6  # exp differs by its last digit between PyTorch and NumPy


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_default_results_differ_where_half_precision_decides(case):
    for scan, found in enumerate(compare(case, TOYS / case.name, exact=False)):
        voxels = 1
        for size in case.scans[scan].shape:
            voxels *= size
        assert found.labels <= TIES * voxels

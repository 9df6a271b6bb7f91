import pytest
import torch

pytest.register_assert_rewrite("laws.checks")
torch.set_num_threads(1)  # many small networks: threads cost more than they give

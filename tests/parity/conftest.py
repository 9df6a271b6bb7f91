"""The peers' own code beside ours."""

import importlib
import sys

import pytest
import torch

pytest.register_assert_rewrite("parity.peers")
torch.set_num_threads(1)


def load_torchvision():
    """torchvision, also where its compiled operators do not fit the installed torch: no ResNet uses any of them."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        OPERATORS.append(library)  # a library that is collected takes its operators along
        return importlib.import_module("torchvision")


OPERATORS: list[torch.library.Library] = []
load_torchvision()

"""OpenVINO sets up a stack for signals; while the process lives, it must not be one that has been given back."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import pytest
import torch

from resvox.inference.engines import openvino_engine


class Stack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("bytes", ctypes.c_size_t))


def is_mapped(address):
    ranges = (line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines())
    return any(int(start, 16) <= address < int(stop, 16) for start, stop in ranges)


def stack_for_signals():
    stack = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack


@pytest.mark.skipif(sys.platform != "linux", reason="sigaltstack and /proc as Linux has them")
def test_signals_find_their_stack_however_networks_come_and_go():
    def engine():
        net = torch.nn.Conv2d(1, 2, 3, padding=1).eval()
        return openvino_engine.OpenVinoEngine(
            lambda: openvino_engine.converted(net, torch.zeros(1, 1, 8, 8)), roi_size=(8, 8), in_channels=1
        )

    engines = [engine(), engine(), engine()]
    while engines:
        del engines[0]  # the first that came is the first to go
        gc.collect()
        stack = stack_for_signals()
        assert stack.address is None or is_mapped(stack.address)
    assert openvino_engine.shared_core() is openvino_engine.shared_core()

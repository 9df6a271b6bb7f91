"""What is said where Ray does not start or is not found, without Ray."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from resvox.errors import InferenceError
from resvox.fleet.cluster import _ray
from resvox.fleet.options import FleetOptions


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (None, r"^Ray could not be started on this machine \(ConnectionError: no port is free\)$"),
        ("node1:6379", r"^no cluster of Ray at node1:6379 \(.*no port is free\); expected the address of a head"),
    ],
    ids=["here", "a cluster"],
)
def test_a_cluster_that_is_not_there_and_one_that_does_not_start_are_told_apart(monkeypatch, address, words):
    def init(**_):
        raise ConnectionError("no port is free")

    exceptions = SimpleNamespace(RayError=RuntimeError)
    fake = SimpleNamespace(is_initialized=lambda: False, init=init, exceptions=exceptions)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(InferenceError, match=words):
        _ray(FleetOptions(cluster="ray", address=address)).__enter__()

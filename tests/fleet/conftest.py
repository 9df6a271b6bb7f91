"""The small scans and models of the prediction tests, and a store in memory."""

from __future__ import annotations

import itertools

import fsspec
import pytest
from prediction.conftest import engine_cache, make_model, threshold_engine, write_scan

__all__ = ["engine_cache", "make_model", "threshold_engine", "write_scan"]
COUNT = itertools.count()


@pytest.fixture
def bucket():
    """An empty bucket of a store in memory."""
    name = f"memory://bucket{next(COUNT)}"
    yield name
    memory = fsspec.filesystem("memory")
    for path in memory.find(name):
        memory.rm_file(path)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("resvox.storage.failures.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("resvox.fleet.runner.BUSY_PAUSE", 0.01)


@pytest.fixture(autouse=True)
def own_scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("RESVOX_SCRATCH", str(tmp_path / "scratch"))

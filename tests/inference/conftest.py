"""Engines keep what they compile in a folder of this test run."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def engine_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESVOX_CACHE", str(tmp_path / "engine-cache"))
    return tmp_path / "engine-cache"

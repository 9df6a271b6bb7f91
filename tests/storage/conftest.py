from __future__ import annotations

import pytest
from storage.webserver import serving


@pytest.fixture
def web():
    with serving() as made:
        yield made


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("resvox.storage.failures.FIRST_PAUSE", 0.01)

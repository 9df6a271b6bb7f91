"""A stand-in for a hub on loopback, and huggingface_hub set to it."""

from __future__ import annotations

import importlib

import pytest
from hub.stand_in import TOKEN, serving
from huggingface_hub import constants, file_download
from prediction.conftest import engine_cache, make_model, write_scan

__all__ = ["engine_cache", "make_model", "write_scan"]


@pytest.fixture
def server():
    with serving() as hub:
        yield hub


@pytest.fixture
def point_to(monkeypatch):
    """Set the endpoint of huggingface_hub, as HF_ENDPOINT does when it is imported."""

    def point(endpoint):
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        for module in (constants, file_download):  # old versions have a second name for it
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)

    return point


@pytest.fixture
def hub(server, point_to, tmp_path, monkeypatch):
    """The stand-in, with a cache of its own and a token that may write."""
    point_to(server.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    # the stand-in speaks HTTP alone, and old versions of huggingface_hub too
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return server


@pytest.fixture
def offline(monkeypatch):
    """No request leaves: the way without a network, as HF_HUB_OFFLINE sets it."""

    def go_offline():
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        reset_sessions()  # old versions look at it when a session begins

    reset_sessions()
    yield go_offline
    reset_sessions()


def reset_sessions():
    module = importlib.import_module("huggingface_hub.utils._http")
    for name in ("reset_sessions", "close_session"):  # by version
        getattr(module, name, lambda: None)()

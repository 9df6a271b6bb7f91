"""Toy models, made once, and a server that is shared by the tests of a module."""

from __future__ import annotations

import pytest
from server.toy import RunningServer, make_model, until

from resvox.server.settings import ServeSettings


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder with the model ``one`` of one channel, and ``two`` of two."""
    folder = tmp_path_factory.mktemp("models")
    make_model(folder / "one")
    make_model(folder / "two", channels=2)
    return folder


@pytest.fixture(scope="session", autouse=True)
def engine_cache(tmp_path_factory):
    """What engines compile is kept for this run alone."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RESVOX_CACHE", str(tmp_path_factory.mktemp("engine-cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def served(models, tmp_path_factory):
    """A server with both models and no token."""
    settings = ServeSettings(
        models=(str(models / "one"), str(models / "two")), data=str(tmp_path_factory.mktemp("data")), devices=("cpu",),
        engine="torch", precision="float32", max_unpacked_mb=5, max_upload_mb=20, max_megavoxels=5,
    )  # fmt: skip
    with RunningServer(settings) as server:
        until(lambda: server.service.scheduler.is_ready)
        yield server

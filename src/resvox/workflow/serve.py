"""`serve`: a web server that segments uploaded scans."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from resvox.errors import InferenceError

NEEDED = ("fastapi", "uvicorn", "multipart", "prometheus_client", "dicomweb_client")


def serve(
    given: Mapping[str, Any],
    *,
    config: str | os.PathLike[str] | None = None,
    on_ready: Callable[[str], object] | None = None,
) -> None:
    """Serve models until SIGINT or SIGTERM; running jobs are finished or queued again.

    Args:
        given: settings that go before those of the environment and the file, see
            :class:`resvox.server.settings.ServeSettings`.
        config: a TOML file of settings.
        on_ready: called with the URL once the server accepts requests.

    Raises:
        SettingsError: a setting that cannot be. WeightsError: a model that cannot be used. InferenceError: the extra
            ``serve`` is not installed.
    """
    from resvox.server.settings import load_settings

    settings = load_settings(given, config=None if config is None else Path(config))
    try:
        from resvox.server import serving
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in (*NEEDED, "starlette", "pydantic"):
            raise
        raise InferenceError(
            f"{error.name} is not installed, which resvox serve needs",
            expected="the extra serve",
            fix="pip install 'resvox[serve]'",
        ) from None
    serving.serve(settings, on_ready=on_ready)

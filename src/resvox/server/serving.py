"""The server process: bind, serve until a signal, stop in order."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from resvox.server.app import build_app
from resvox.server.logs import event, set_up
from resvox.server.refusals import SettingsError
from resvox.server.service import Service
from resvox.server.settings import ServeSettings

KEEP_ALIVE_S = 30
SLACK_S = 10  # beside the time for running jobs, until connections are closed


class Server(uvicorn.Server):
    """Uvicorn's server; a signal stops the queue at once, then the connections, then the workers."""

    def __init__(self, config: uvicorn.Config, service: Service, on_ready: Callable[[str], object] | None) -> None:
        super().__init__(config)
        self.service, self.on_ready = service, on_ready

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: give out no more jobs."""
        event("server stopping", signal=sig)
        self.service.scheduler.stop(self.service.settings.stop_seconds)
        # Uvicorn's own would raise the signal again at the end; an orderly stop is exit code 0.
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then name the address."""
        await super().startup(sockets=sockets)
        if sockets and self.started and self.on_ready is not None:
            self.on_ready(url_of(sockets[0], self.service.settings.host))


def serve(settings: ServeSettings, *, on_ready: Callable[[str], object] | None = None) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        on_ready: called with the server's URL once it accepts requests.

    Raises:
        SettingsError: an address that cannot be bound; see `Service`.
    """
    set_up(settings.log_level)
    listening = _bind(settings)
    service = Service(settings)
    config = uvicorn.Config(
        build_app(service),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.stop_seconds) + SLACK_S,
        lifespan="on",
        ws="none",
        proxy_headers=True,  # of a reverse proxy on this machine
        forwarded_allow_ips="127.0.0.1,::1",
    )
    with listening:
        Server(config, service, on_ready).run(sockets=[listening])


def _bind(settings: ServeSettings) -> socket.socket:
    where = (settings.host.strip("[]"), settings.port)
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(*where, type=socket.SOCK_STREAM)
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror or error})",
            expected="an address of this machine and a free port",
            fix="--port 0 takes a free one",
        ) from None
    made.set_inheritable(False)
    return made


def url_of(listening: socket.socket, host: str) -> str:
    """The URL of a bound socket."""
    address: Any = listening.getsockname()
    shown = f"[{host.strip('[]')}]" if ":" in host else host
    return f"http://{shown}:{address[1]}"

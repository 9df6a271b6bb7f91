"""Compiled networks of OpenVINO in the engine cache: imported beside other work, and written."""

from __future__ import annotations

import io
from contextlib import suppress
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt

from resvox.inference.engines.cache import is_cached, read_cached_array, write_cached
from resvox.inference.engines.telemetry import openvino_module


class NetworkImport:
    """Reads and imports a compiled network in a thread.

    The import holds no interpreter lock, so the imports of modules and the reading of the first scan go on beside it.

    Args:
        core: OpenVINO's.
        name: in the engine cache.
        options: with which the network was compiled.
    """

    def __init__(self, core: Any, name: str, options: dict[str, Any]) -> None:
        self._core, self._name, self._options = core, name, options
        self._compiled: Any | None = None
        self._data: npt.NDArray[np.uint8] | None = None  # of which the compiled network may use parts
        # not a daemon: a process that ended during the import would end within OpenVINO
        self._thread = Thread(target=self._run, name="resvox-import")
        self._thread.start()

    def result(self) -> tuple[Any, object] | None:
        """The compiled network, and what must be kept as long as it; None if it cannot be used."""
        self._thread.join()
        return None if self._compiled is None else (self._compiled, self._data)

    def _run(self) -> None:
        with suppress(Exception):  # whatever is wrong with the cached network: it is compiled again
            self._data = read_cached_array(self._name)
            if self._data is not None:
                self._compiled = imported(self._core, self._data, self._options)


def import_if_cached(core: Any, name: str, options: dict[str, Any]) -> NetworkImport | None:
    """The running import of a network; None if none is kept under this name."""
    return NetworkImport(core, name, options) if name and is_cached(name) else None


def imported(core: Any, data: npt.NDArray[np.uint8], options: dict[str, Any]) -> Any | None:
    """A compiled network of its bytes; None for bytes that are damaged or of another build of OpenVINO."""
    try:
        try:
            # not copied: of a stream, OpenVINO makes two copies
            return core.import_model(openvino_module().Tensor(data, shared_memory=True), "CPU", options)
        except TypeError:  # an older OpenVINO, which reads streams alone
            return core.import_model(io.BytesIO(data.tobytes()), "CPU", options)
    except RuntimeError:
        return None


def keep(compiled: Any, name: str) -> None:
    """Write a compiled network to the engine cache."""
    stream = io.BytesIO()
    compiled.export_model(stream)
    write_cached(name, stream.getbuffer())

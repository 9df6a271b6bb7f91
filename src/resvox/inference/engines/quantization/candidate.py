"""A quantized network in a file as an engine: by its name, or as the first candidate of the accuracy guard."""

from __future__ import annotations

import os
from pathlib import Path

from resvox.digests import digest_of
from resvox.errors import InferenceError
from resvox.inference.engines.devices import place_of, type_of
from resvox.inference.engines.guard import Making
from resvox.inference.engines.protocol import Engine, FileRequest, NetworkRequest
from resvox.inference.engines.table import AUTO, ENGINES, EngineRow, is_installed, resolve

Quantized = str | os.PathLike[str]


def takes_int8(engine: str, device: str) -> bool:
    """Whether ``precision="auto"`` tries a quantized network: the engine runs it, and the processor has int8 units."""
    row = _row()
    if engine not in (AUTO, row.name) or not is_installed(row.package):
        return False
    place = type_of(place_of(device))
    return place in row.devices and bool(resolve(row.int8)(place))


def int8_candidate(quantized: Quantized, request: NetworkRequest, *, features: bool) -> tuple[str, Making]:
    """Description and factory of the engine for a quantized network, see `GuardedEngine`.

    Args:
        quantized: its ``.xml``.
        request: the one for the network that it was made of.
        features: whether the caller applies the last layer.
    """
    return f"{_row().name} in int8", lambda: _made(quantized, request, features=features)


def int8_engine(quantized: Quantized | None, request: NetworkRequest, *, engine: str, features: bool) -> Engine:
    """The engine for a quantized network that was asked for by ``precision="int8"``; other arguments as above.

    Raises:
        InferenceError: an engine or a device that does not run it, or no quantized network.
    """
    row, place = _row(), type_of(request.device)
    if engine not in (AUTO, row.name) or place not in row.devices:
        raise InferenceError(
            f"precision='int8' with engine={engine!r} on {place}",
            expected=f"engine={row.name!r} on {' or '.join(row.devices)}",
            fix=f"--engine {row.name} --device {row.devices[0]}",
        )
    if not is_installed(row.package):
        raise InferenceError(
            f"precision='int8' without {row.package}",
            expected=f"the package {row.package}, which computes in it",
            fix=f"pip install {row.package}",
        )
    if quantized is None:
        raise InferenceError("precision='int8' without a quantized network", expected="its file, as quantized=")
    return _made(quantized, request, features=features)


def digests_of(quantized: Quantized | None) -> tuple[str, ...]:
    """What makes the verdict on a network depend on its quantized file; nothing where there is no such file."""
    if quantized is None:
        return ()
    path = Path(quantized)
    return tuple(digest_of(each) for each in (path, path.with_suffix(".bin")) if each.exists())


def _made(quantized: Quantized, request: NetworkRequest, *, features: bool) -> Engine:
    row = _row()
    engine: Engine = resolve(row.file)(
        FileRequest(
            path=quantized,
            format=row.formats[0].name,
            roi_size=request.roi_size,
            in_channels=request.in_channels,
            device="cpu",
            precision="int8",
            notify=request.notify,
            features=features,
        )
    )
    return engine


def _row() -> EngineRow:
    """The engine that runs quantized networks."""
    return next(row for row in ENGINES if row.int8)

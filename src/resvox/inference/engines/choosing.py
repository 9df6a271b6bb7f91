"""Selection of an engine: the fastest that this machine has, if its outputs agree with those of float32."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from resvox._version import __version__
from resvox.errors import InferenceError
from resvox.inference.engines.agreement import Agreement, LabelAgreement
from resvox.inference.engines.cache import key_of, read_cached, write_cached
from resvox.inference.engines.devices import Place, place_of, type_of, warn
from resvox.inference.engines.guard import GuardedEngine, Making, Verdict
from resvox.inference.engines.protocol import Engine, FileRequest, NetworkRequest
from resvox.inference.engines.quantization.candidate import digests_of, int8_candidate, int8_engine, takes_int8
from resvox.inference.engines.table import (
    AUTO,
    ENGINES,
    PRECISIONS,
    EngineRow,
    export_formats,
    is_installed,
    network_engines,
    resolve,
    runners_of,
)
from resvox.inference.heads import LinearHead
from resvox.machine import return_freed_memory

if TYPE_CHECKING:
    import torch

Candidates = list[tuple[str, Making]]


def make_engine(
    load: Callable[[], torch.nn.Module],
    *,
    roi_size: Sequence[int],
    in_channels: int,
    engine: str = AUTO,
    device: str = AUTO,
    precision: str = AUTO,
    fingerprint: str | None = None,
    quantized: str | os.PathLike[str] | None = None,
    head: LinearHead | None = None,
    agreement: Agreement | None = None,
    notify: Callable[[str], object] | None = None,
) -> Engine:
    """The engine for a network and a window.

    Args:
        load: loads the network; called for each engine that needs it, and not where a compiled one is in the cache.
        roi_size: the spatial size that every call will have.
        in_channels: channels of a window.
        engine: ``"openvino"`` (CPU), ``"torch"`` (folded, channels last), ``"torch-plain"`` (the module as it is);
            ``"auto"`` takes the first of these that is installed.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        precision: ``"auto"`` is int8 where the processor has int8 units and there is a quantized network, or bfloat16
            where the device has bfloat16 units, if the outputs allow it, under the guard of
            :class:`resvox.inference.engines.guard.GuardedEngine`; else float32. A precision that is named is used
            without a comparison.
        fingerprint: identifies the network (a digest of its file), so that its compiled form can be cached on disk.
        quantized: the ``.xml`` of the same network in int8, if there is one; ``"int8"`` needs it.
        head: the last layer of the network, if the caller applies it; the engine then computes the features before it.
        agreement: the measure of the guard; by default that of label maps, see
            `resvox.inference.engines.agreement`.
        notify: called with a line of text where an engine is rejected; a ``RuntimeWarning`` by default.

    Raises:
        InferenceError: an unknown engine, device or precision, or one that this machine does not have.
    """
    rows = network_engines()
    _check_choice("engine", engine, (AUTO, *rows))
    _check_choice("precision", precision, PRECISIONS)
    place = place_of(device)
    agreement = agreement or LabelAgreement(head.labels if head is not None else None)

    # Loaded for each engine that needs it, and not kept: an engine has its own weights, and a large network would be
    # held twice or three times while the first windows are computed.
    def module() -> torch.nn.Module:
        loaded = load() if head is None else _without_head(load())
        return_freed_memory()  # of the file
        return loaded

    if head is not None and fingerprint is not None:
        fingerprint += " without head"

    def request(precision: str) -> NetworkRequest:
        return NetworkRequest(
            module=module,
            roi_size=tuple(roi_size),
            in_channels=in_channels,
            device=place,
            precision=precision,
            fingerprint=fingerprint,
            notify=notify or warn,
        )

    if engine != AUTO and rows[engine].is_reference:
        return _made(rows[engine], request(precision))
    if precision == "int8":
        return int8_engine(quantized, request(precision), engine=engine, features=head is not None)
    candidates: Candidates = [
        (f"{row.name} in {each}", _making(row, request(each)))
        for row, each in _wanted(engine, precision, type_of(place), agreement)
    ]
    if quantized is not None and precision == AUTO and takes_int8(engine, device):
        candidates.insert(0, int8_candidate(quantized, request("int8"), features=head is not None))
    if precision not in (AUTO, "float32"):
        return _first_made(candidates, notify or warn, only=engine != AUTO)
    if engine != AUTO and precision == "float32":
        candidates[0][1]()  # an engine that was named but is missing is an error; others are skipped with a remark
    reference = _making(_reference(), request("float32"))
    return _guarded(candidates, reference, request("float32"), agreement, quantized=quantized)


def _guarded(
    candidates: Candidates,
    reference: Making,
    request: NetworkRequest,
    agreement: Agreement,
    *,
    quantized: str | os.PathLike[str] | None,
) -> Engine:
    """The candidates under the accuracy guard, whose verdict is kept on disk."""
    words = [words for words, _ in candidates]
    key = key_of(
        "verdict",
        agreement.rule,
        *_surroundings(request.device),
        request.fingerprint,
        request.roi_size,
        words,
        *digests_of(quantized),
    )
    name = f"{key}.json" if request.fingerprint else ""
    return GuardedEngine(
        candidates,
        reference,
        agreement=agreement,
        verdict=_read_verdict(name),
        on_verdict=lambda verdict: _write_verdict(name, verdict),
        notify=request.notify,
    )


def engine_of_file(
    path: str | os.PathLike[str],
    kind: str,
    *,
    roi_size: Sequence[int],
    in_channels: int,
    engine: str = AUTO,
    device: str = AUTO,
    precision: str = AUTO,
    notify: Callable[[str], object] | None = None,
) -> Engine:
    """The engine for an exported network: ``kind`` is "torchscript", "torch-export", "onnx" or "openvino".

    Float32, or int8 of a quantized network, unless a precision is named: in that the exported file was checked.

    Raises:
        InferenceError: an unknown kind, an engine that does not run it or is not installed, a device or precision
            that it does not have.
    """
    if kind not in export_formats():
        raise InferenceError(f"a network of kind {kind!r}", expected=" or ".join(map(repr, export_formats())))
    able = {row.name: row for row in runners_of(kind)}
    if engine not in (AUTO, *able):
        raise InferenceError(
            f"engine={engine!r} for an exported network ({kind})", expected=" or ".join(map(repr, (AUTO, *able)))
        )
    place = device.split(":")[0]
    if engine == AUTO:
        fitting = [row for row in able.values() if row.computes_on(place)] or list(able.values())
        row = next((row for row in fitting if is_installed(row.package)), fitting[0])
    else:
        row = able[engine]
    if not row.computes_on(place):
        raise InferenceError(
            f"device={device!r} for an exported network ({kind}), which {row.name} computes",
            expected=" or ".join(map(repr, (AUTO, *row.devices))),
            fix=f"device={row.devices[0]!r}, or predict with the model that it was exported from",
            path=path,
        )
    if not is_installed(row.package):
        raise InferenceError(
            f"{row.package} is not installed", expected=f"it, to run {path}", fix=f"pip install {row.package}"
        )
    _check_choice("precision", precision, PRECISIONS)
    made: Engine = resolve(row.file)(
        FileRequest(
            path=path,
            format=kind,
            roi_size=tuple(roi_size),
            in_channels=in_channels,
            device=device,
            precision=precision,
            notify=notify,
        )
    )
    return made


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InferenceError(f"{name}={value!r}", expected=" or ".join(map(repr, choices)))


def _reference() -> EngineRow:
    return next(row for row in ENGINES if row.is_reference)


def _wanted(engine: str, precision: str, place: str, agreement: Agreement) -> list[tuple[EngineRow, str]]:
    """The engines and precisions to try, in this order."""
    given = (precision,) if precision != AUTO else ("bfloat16", "float32")
    pairs = [(row, each) for row in _rows_for(engine, place) for each in given]
    if precision == AUTO:
        tried = place in agreement.bfloat16_on
        pairs = [(row, each) for row, each in pairs if each == "float32" or (tried and _has_bfloat16(row, place))]
    return pairs


def _rows_for(engine: str, place: str) -> list[EngineRow]:
    """The engine that was named, or all automatic ones that this machine and device have."""
    if engine == AUTO:
        return [row for row in ENGINES if row.is_automatic and row.computes_on(place) and is_installed(row.package)]
    row = network_engines()[engine]
    if not row.computes_on(place):
        raise InferenceError(
            f"engine={engine!r} on {place}",
            expected=f"a device that it computes on: {' or '.join(row.devices)}",
            fix=f"device={row.devices[0]!r}, or engine='torch'",
        )
    if not is_installed(row.package):
        raise InferenceError(
            f"engine={engine!r}, which is not installed",
            expected=f"the package {row.package}",
            fix=f"pip install {row.package}",
        )
    return [row]


def _made(row: EngineRow, request: NetworkRequest) -> Engine:
    engine: Engine = resolve(row.network)(request)
    return engine


def _making(row: EngineRow, request: NetworkRequest) -> Making:
    return lambda: _made(row, request)


def _first_made(candidates: Candidates, notify: Callable[[str], object], *, only: bool) -> Engine:
    """The first engine in the precision that was named, without a comparison."""
    for words, make in candidates:
        try:
            return make()
        except InferenceError as error:
            if only or words == candidates[-1][0]:
                raise
            notify(f"no {words}: {error}")
    raise AssertionError("there is at least one candidate")


def _has_bfloat16(row: EngineRow, place: str) -> bool:
    return bool(row.bfloat16 and resolve(row.bfloat16)(place))


def _without_head(module: torch.nn.Module) -> torch.nn.Module:
    from resvox.inference.engines.folding import without_head

    return without_head(module)


def _surroundings(place: Place) -> tuple[str, ...]:
    """What a comparison depends on beside the network: the versions of what computes, and the GPU."""
    versions = [f"resvox {__version__}"]
    for package in ("torch", "openvino"):  # not imported for it, which would take seconds
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    if type_of(place) != "cuda":
        return tuple(versions)
    import torch

    return (*versions, torch.cuda.get_device_name(place))


def _read_verdict(name: str) -> Verdict | None:
    data = read_cached(name) if name else None
    if data is None:
        return None
    try:
        found = json.loads(data)
        return Verdict(int(found["index"]), float(found["changed"]))
    except (ValueError, KeyError, TypeError):  # damaged: the comparison is repeated
        return None


def _write_verdict(name: str, verdict: Verdict) -> None:
    if name:
        write_cached(name, json.dumps({"index": verdict.index, "changed": verdict.changed}).encode())

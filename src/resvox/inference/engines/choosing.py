"""Which engine answers: the fastest that this machine has, as long as its labels are those of float32."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resvox.errors import InferenceError
from resvox.files import sha256_of
from resvox.inference.engines import openvino_engine
from resvox.inference.engines.cache import key_of, read_cached, write_cached
from resvox.inference.engines.guard import GuardedEngine, Making, Verdict
from resvox.inference.engines.protocol import Engine
from resvox.inference.heads import LinearHead

if TYPE_CHECKING:
    import torch

ENGINES = ("auto", "openvino", "torch", "torch-plain")
# Who can run an exported network, best first.
RUNNERS = {
    "torchscript": ("torch",),
    "torch-export": ("torch",),
    "onnx": ("onnxruntime", "openvino"),
    "openvino": ("openvino",),
}
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
Candidates = list[tuple[str, Making]]


def make_engine(
    load: Callable[[], torch.nn.Module],
    *,
    roi_size: Sequence[int],
    in_channels: int,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    fingerprint: str | None = None,
    head: LinearHead | None = None,
    notify: Callable[[str], object] | None = None,
) -> Engine:
    """The engine for a network and a window.

    Args:
        load: gives the network; not called where a compiled one is in the cache.
        roi_size: the window that every call will have.
        in_channels: of the window.
        engine: ``"openvino"`` (CPU), ``"torch"`` (folded, channels last), ``"torch-plain"`` (the module as it is);
            ``"auto"`` takes the first of these that is there.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        precision: ``"auto"`` is bfloat16 where the device multiplies it itself, under the guard of
            :class:`resvox.inference.engines.guard.GuardedEngine`, else float32. A precision that is named is used
            without a comparison.
        fingerprint: names the network (a digest of its file), so that what is made of it can be kept on disk.
        head: the network's own last layer; the engine then answers with the features before it.
        notify: called with a line of text where an engine is given up; a ``RuntimeWarning`` by default.

    Raises:
        InferenceError: an unknown engine, device or precision, or one that this machine does not have.
    """
    from resvox.inference.engines.folding import without_head
    from resvox.inference.engines.torch_engine import TorchEngine, choose_device, warn

    if engine not in ENGINES:
        raise InferenceError(f"engine={engine!r}", expected=" or ".join(map(repr, ENGINES)))
    if precision not in PRECISIONS:
        raise InferenceError(f"precision={precision!r}", expected=" or ".join(map(repr, PRECISIONS)))
    place = choose_device(device)
    notify = notify or warn
    held: list[torch.nn.Module] = []

    def module() -> torch.nn.Module:  # loaded at most once, and only if it is needed
        if not held:
            held.append(load() if head is None else without_head(load()))
        return held[0]

    if head is not None and fingerprint is not None:
        fingerprint += " without head"

    def plain() -> Engine:
        return TorchEngine(module(), device=place, precision="float32", notify=notify)

    if engine == "torch-plain":
        return TorchEngine(module(), device=place, precision=precision, notify=notify)
    candidates: Candidates = [
        (
            f"{kind} in {each}",
            _making(kind, each, module, place, tuple(roi_size), in_channels, fingerprint, notify),
        )
        for kind, each in _wanted(engine, precision, place.type)
    ]
    if precision not in ("auto", "float32"):
        return _first_made(candidates, notify, only=engine != "auto")
    if engine != "auto" and precision == "float32":
        candidates[0][1]()  # what was asked for by name and is not there is an error, not a remark
    words = [words for words, _ in candidates]
    name = key_of("verdict", _versions(), fingerprint, roi_size, words) + ".json" if fingerprint else ""
    return GuardedEngine(
        candidates,
        plain,
        labels_of=head.labels if head is not None else None,
        verdict=_read_verdict(name),
        on_verdict=lambda verdict: _write_verdict(name, verdict),
        notify=notify,
    )


def _wanted(engine: str, precision: str, place: str) -> list[tuple[str, str]]:
    """The engines and precisions to try, in this order."""
    given = (precision,) if precision != "auto" else ("bfloat16", "float32")
    pairs = [(kind, each) for kind in _kinds(engine, place) for each in given]
    if precision == "auto":
        pairs = [(kind, each) for kind, each in pairs if each == "float32" or _has_bfloat16(kind, place)]
    return pairs


def engine_of_file(
    path: str | os.PathLike[str],
    kind: str,
    *,
    roi_size: Sequence[int],
    in_channels: int,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    notify: Callable[[str], object] | None = None,
) -> Engine:
    """The engine for an exported network: ``kind`` is "torchscript", "torch-export", "onnx" or "openvino".

    Float32 unless a precision is named: what was checked when it was exported is what runs.

    Raises:
        InferenceError: a kind that is not known, an engine that does not run it or is not installed, a device or
            precision that it does not have.
    """
    if kind not in RUNNERS:
        raise InferenceError(f"a network of kind {kind!r}", expected=" or ".join(map(repr, RUNNERS)))
    able = RUNNERS[kind]
    runner = engine if engine != "auto" else next((each for each in able if _is_there(each)), able[0])
    if runner not in able:
        raise InferenceError(
            f"engine={engine!r} for an exported network ({kind})", expected=" or ".join(map(repr, ("auto", *able)))
        )
    if not _is_there(runner):
        raise InferenceError(f"{runner} is not installed", expected=f"it, to run {path}", fix=f"pip install {runner}")
    if precision not in PRECISIONS:
        raise InferenceError(f"precision={precision!r}", expected=" or ".join(map(repr, PRECISIONS)))
    precision = "float32" if precision == "auto" else precision
    if runner == "torch":
        from resvox.inference.engines.torch_engine import TorchEngine, load_exported

        return TorchEngine(load_exported(path, kind), device=device, precision=precision, notify=notify)
    if runner == "openvino":
        return openvino_engine.OpenVinoEngine(
            lambda: openvino_engine.from_file(path),
            roi_size=roi_size,
            in_channels=in_channels,
            precision=precision,
            fingerprint=fingerprint_of_model(path),
        )
    from resvox.inference.engines.onnx_engine import OnnxEngine

    if precision != "float32":
        raise InferenceError(
            f"precision={precision!r} with ONNX Runtime",
            expected="'float32', as it was exported",
            fix="engine='openvino'",
        )
    return OnnxEngine(path, device=device)


def fingerprint_of_model(path: str | os.PathLike[str]) -> str:
    """Of a network in one file, or in two (OpenVINO's ``.xml`` names sizes alone, its weights lie in ``.bin``)."""
    weights = Path(path).with_suffix(".bin")
    return sha256_of(path) + (sha256_of(weights) if weights.exists() else "")


def _is_there(runner: str) -> bool:
    return importlib.util.find_spec(runner) is not None


def _kinds(engine: str, place: str) -> tuple[str, ...]:
    if engine == "openvino":
        if place != "cpu" or not openvino_engine.is_installed():
            raise InferenceError(
                "engine='openvino'" + (f" on {place}" if place != "cpu" else ", which is not installed"),
                expected="OpenVINO, which computes on the processor",
                fix="pip install openvino" if place == "cpu" else "device='cpu', or engine='torch'",
            )
        return ("openvino",)
    if engine == "auto" and place == "cpu" and openvino_engine.is_installed():
        return ("openvino", "torch")
    return ("torch",)


def _making(
    kind: str,
    precision: str,
    module: Callable[[], torch.nn.Module],
    place: torch.device,
    roi_size: tuple[int, ...],
    in_channels: int,
    fingerprint: str | None,
    notify: Callable[[str], object],
) -> Making:
    from resvox.inference.engines.torch_engine import TorchEngine

    if kind == "torch":
        return lambda: TorchEngine(module(), device=place, precision=precision, roi_size=roi_size, notify=notify)
    return lambda: openvino_engine.OpenVinoEngine(
        lambda: openvino_engine.from_torch(module(), roi_size, in_channels),
        roi_size=roi_size,
        in_channels=in_channels,
        precision=precision,
        fingerprint=fingerprint,
    )


def _first_made(candidates: Candidates, notify: Callable[[str], object], *, only: bool) -> Engine:
    """The first engine of the precision that was asked for by name; nothing is compared."""
    for words, make in candidates:
        try:
            return make()
        except InferenceError as error:
            if only or words == candidates[-1][0]:
                raise
            notify(f"no {words}: {error}")
    raise AssertionError("there is at least one candidate")


def _has_bfloat16(kind: str, place: str) -> bool:
    if place == "cuda":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    if place != "cpu":
        return False
    if kind == "openvino":
        return openvino_engine.computes_in_bfloat16()
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    words = set(text.split())
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def _versions() -> str:
    import torch

    return torch.__version__


def _read_verdict(name: str) -> Verdict | None:
    data = read_cached(name) if name else None
    if data is None:
        return None
    try:
        found = json.loads(data)
        return Verdict(int(found["index"]), float(found["changed"]))
    except (ValueError, KeyError, TypeError):  # damaged: it is found out again
        return None


def _write_verdict(name: str, verdict: Verdict) -> None:
    if name:
        write_cached(name, json.dumps({"index": verdict.index, "changed": verdict.changed}).encode())

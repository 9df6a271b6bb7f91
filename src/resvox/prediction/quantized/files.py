"""The quantized network that lies beside a model file, and whether it was made of that model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.digests import digest_of
from resvox.errors import InferenceError
from resvox.inference.engines.table import AUTO
from resvox.prediction.model_files import OWN_FORMAT, ModelFile, description_path

if TYPE_CHECKING:
    from resvox.prediction.options import PredictOptions

ENDING = ".int8.xml"


def int8_path(model: Path) -> Path:
    """Where the quantized network of a model file lies: ``model.int8.xml`` beside ``model.safetensors``."""
    return model.with_suffix(ENDING)


def quantized_of(file: ModelFile, options: PredictOptions, notify: Callable[[str], object] | None) -> Path | None:
    """The quantized network that a prediction uses, or tries under the accuracy guard.

    Args:
        notify: called with a line of text where one is there that cannot be used, with ``precision="auto"``.

    Returns:
        Its ``.xml``; None where it is not wanted, or not there with ``precision="auto"``.

    Raises:
        InferenceError: with ``precision="int8"``: none is there, or one that is damaged or of another model.
    """
    from resvox.inference.engines.quantization.candidate import takes_int8

    path = int8_path(file.path)
    if options.precision == "int8":
        return _checked(file, path)
    if options.precision != AUTO or not path.exists() or not takes_int8(options.engine, options.device):
        return None
    try:
        return _checked(file, path)
    except (InferenceError, OSError) as error:
        if notify is not None:
            notify(f"no int8: {error}")
        return None


def _checked(file: ModelFile, path: Path) -> Path:
    """The path of a quantized network that is whole and was made of this model.

    Raises:
        InferenceError: naming the file and the command that writes it.
    """
    if not path.exists():
        raise _missing(file, path)
    described = _description(path)
    again = f"{_command(file.path)} --overwrite"
    if described.get("source", {}).get("sha256") != digest_of(file.path):
        raise InferenceError(
            f"a quantized network of another model than {file.path.name}",
            expected="one that was exported from this model",
            fix=again,
            path=path,
        )
    weights = path.with_suffix(".bin")
    found = {"sha256": digest_of(path), "weights_sha256": digest_of(weights) if weights.exists() else None}
    if any(described.get(name) != digest for name, digest in found.items()):
        raise InferenceError(
            "a quantized network whose files have changed since it was exported",
            expected=f"{path.name} and {weights.name} as resvox export wrote them",
            fix=again,
            path=path,
        )
    return path


def _missing(file: ModelFile, path: Path) -> InferenceError:
    if file.format != OWN_FORMAT:
        return InferenceError(
            f"precision='int8' with a model of {file.format}",
            expected="a model.safetensors, or a network that was exported in int8",
            fix="resvox convert, then resvox export --format openvino --precision int8",
            path=file.path,
        )
    return InferenceError(
        f"precision='int8' without {path.name} beside the model",
        expected="the quantized network",
        fix=_command(file.path),
        path=file.path,
    )


def _command(model: Path) -> str:
    return f"resvox export {model} --format openvino --precision int8 --calibrate SCANS"


def _description(path: Path) -> dict[str, Any]:
    """The ``.json`` beside a quantized network; empty where it is not a description."""
    try:
        found = json.loads(description_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("source"), dict) else {}

"""Post-training quantization by NNCF: activations are measured on windows of scans, and layers get int8 weights.

Importing this module does not import NNCF.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from resvox.errors import InferenceError
from resvox.inference.engines.quantization.networks import outer_layers
from resvox.inference.engines.table import is_installed
from resvox.inference.engines.telemetry import nncf_module

# NNCF would quantize the input of a norm; its statistics are then those of rounded values.
NORMS = ("GroupNormalization", "MVN")
Progress = Callable[[int, int], object]  # windows done, windows in all


def check_installed() -> None:
    """Refuse to quantize without NNCF or OpenVINO.

    Raises:
        InferenceError: with the packages to install.
    """
    missing = [name for name in ("nncf", "openvino") if not is_installed(name)]
    if missing:
        raise InferenceError(
            f"precision='int8' without {' and '.join(missing)}",
            expected="NNCF and OpenVINO, which quantize the network",
            fix="pip install 'resvox[int8]'",
        )


def quantized(network: Any, windows: Sequence[np.ndarray], *, progress: Progress | None = None) -> Any:
    """The network with int8 convolutions; weights per channel, activations per tensor.

    Norms, the first layer and the last one stay in float32.

    Args:
        network: an ``openvino.Model`` in float32; it is not changed.
        windows: what activations are measured on, each (1, channels, *roi) float32.
        progress: called while activations are measured.

    Raises:
        InferenceError: NNCF is not installed, or it does not quantize this network.
    """
    check_installed()
    nncf = nncf_module()
    done = 0

    def counted(window: np.ndarray) -> np.ndarray:
        nonlocal done
        done += 1
        if progress is not None:
            progress(min(done, len(windows)), len(windows))
        return window

    try:
        with _silence():
            # Without the decorator of `nncf.quantize`, which sends telemetry where the caller's program imported NNCF.
            return inspect.unwrap(nncf.quantize)(
                network.clone(),
                nncf.Dataset(list(windows), counted),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(windows),
                ignored_scope=nncf.IgnoredScope(names=outer_layers(network), types=list(NORMS), validate=False),
            )
    except Exception as error:  # exceptions of NNCF and OpenVINO have no common base class
        text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InferenceError(
            f"a network that NNCF does not quantize ({text.strip()})",
            expected="one made of convolutions",
            fix="--precision float32",
        ) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep NNCF from printing: its bars, which Rich prints on its global console, its messages and warnings."""
    import rich

    console, logger = rich.get_console(), logging.getLogger("nncf")
    was_quiet, level = console.quiet, logger.level
    console.quiet = True
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        console.quiet = was_quiet
        logger.setLevel(level)

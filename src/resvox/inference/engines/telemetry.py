"""OpenVINO and NNCF imported so that they send nothing.

``import openvino`` sends an event to an analytics service, in a process that it forks, and NNCF one for each network,
both through the package openvino-telemetry and without asking the user. In continuous integration both send nothing,
and keep no identifier in the home folder either: they look for it in the environment when they are imported.
"""

from __future__ import annotations

import importlib
import logging
import sys
from threading import RLock
from typing import Any

from resvox.machine import environment

OFF = {"CI": "true", "NNCF_CI": "1"}
_IMPORTING = RLock()


def openvino_module() -> Any:
    """The package OpenVINO; every other module of resvox that needs it gets it here.

    Raises:
        ImportError: it is not installed.
    """
    return _imported("openvino")


def nncf_module() -> Any:
    """The package NNCF.

    Raises:
        ImportError: it is not installed.
    """
    openvino_module()
    logger_class, disabled = logging.getLoggerClass(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # before version 3, NNCF prints when it is imported
    try:
        return _imported("nncf")
    finally:
        logging.disable(disabled)
        logging.setLoggerClass(logger_class)  # NNCF sets its own one for the whole process


def _imported(name: str) -> Any:
    if name in sys.modules:
        return importlib.import_module(name)  # waits where another thread is still importing it
    with _IMPORTING, environment(OFF):
        return importlib.import_module(name)

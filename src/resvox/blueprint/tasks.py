"""The names of the tasks: what a network is trained for."""

from __future__ import annotations

TASKS = ("classification", "segmentation", "regression")
FEATURES = "features"  # the task of a network without a head: nothing is trained, predicted or evaluated for it

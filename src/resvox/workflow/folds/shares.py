"""What each of several folds that train at the same time gets of the machine: a GPU of its own, and its threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import takewhile

from resvox.inference.engines.devices import gpu_count
from resvox.machine import THREADS, usable_threads
from resvox.training.plans.options import TrainOptions

GPUS = "CUDA_VISIBLE_DEVICES"


class Gpus:
    """GPUs that are handed out and taken back; where all are in use, the one with the fewest users is next.

    Args:
        names: as `CUDA_VISIBLE_DEVICES` has them; without names no GPU is handed out.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._users = dict.fromkeys(names, 0)

    def take(self) -> str | None:
        """The name of a GPU; None if no GPU is handed out."""
        name = min(self._users, key=self._users.__getitem__, default=None)
        if name is not None:
            self._users[name] += 1
        return name

    def give_back(self, name: str | None) -> None:
        """A GPU that `take` returned is free again."""
        if name is not None:
            self._users[name] -= 1


def gpus_of(options: TrainOptions) -> Gpus:
    """The GPUs among which folds are divided: none where there is only one, or where each fold uses several itself."""
    if options.device not in ("auto", "cuda") or options.processes > 1:
        return Gpus(())
    visible = os.environ.get(GPUS)
    if visible is None:
        names = [str(number) for number in range(gpu_count())]
    else:  # CUDA reads the list up to an entry that is not valid, of which -1 is the common one
        names = list(takewhile(lambda name: name not in ("", "-1"), (each.strip() for each in visible.split(","))))
    return Gpus(names if len(names) > 1 else ())


def variables_of(gpu: str | None, *, at_once: int) -> dict[str, str]:
    """The environment variables of the process of one fold.

    Args:
        gpu: the one that it uses; None leaves the choice to it.
        at_once: how many folds share the threads; a number that the user has set stays as it is.
    """
    found: dict[str, str] = {} if gpu is None else {GPUS: gpu}
    if not os.environ.get(THREADS):
        found[THREADS] = str(max(usable_threads() // at_once, 1))
    return found

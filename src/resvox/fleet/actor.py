"""What runs in an actor of a cluster: one model, kept; rows come in, statuses go out, and never a voxel."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from resvox.fleet.manifest import Row
from resvox.fleet.options import FleetOptions
from resvox.fleet.run import Worker
from resvox.prediction.model_engine import describe
from resvox.prediction.options import PredictOptions

LONGEST_REASON = 600  # letters: a status stays below a kilobyte


@dataclass(frozen=True, kw_only=True)
class Begun:
    """An actor that has its model.

    Args:
        worker: its name in claims and status rows.
        engine: what computes, in words.
        pid: its process.
        host: its machine.
    """

    worker: str
    engine: str
    pid: int
    host: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of the rows of a batch.

    Args:
        rows: a status per row, with the row's number.
        seconds: of the whole batch.
        cores: of the actor.
        began, until: seconds since 1970.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    cores: int = 1
    began: float = 0.0
    until: float = 0.0


class Actor:
    """A worker with the model.

    Args:
        options, fleet: of the prediction.
        run: the name of the run.
        cores: that the model may use.
    """

    def __init__(self, options: PredictOptions, fleet: FleetOptions, run: str, cores: int) -> None:
        os.environ["OMP_NUM_THREADS"] = str(cores)  # before torch is imported, in a fresh interpreter
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # The cluster counts the ends of actors itself: one that is killed with its machine is no fault of its scan.
        self.worker = Worker(options, fleet, run=run, counts=False, patience_s=0.0)
        self.worker.__enter__()

    def begin(self) -> Begun:
        """Who this is; answered when the model is there."""
        import socket

        return Begun(
            worker=self.worker.claims.worker,
            engine=describe(self.worker.predictor.engine),
            pid=os.getpid(),
            host=socket.gethostname(),
        )

    def work(self, rows: Sequence[Row], gone: Collection[str]) -> Done:
        """Do rows.

        Args:
            rows: addresses with their names.
            gone: names of workers that have ended: their claims are taken over.
        """
        import time

        self.worker.claims.gone.update(gone)
        began = time.time()
        found = [
            {**item.to_dict(), "number": item.row.number, "reason": item.reason[:LONGEST_REASON], "row": {}}
            for item in self.worker.items(rows)
        ]
        until = time.time()
        return Done(rows=found, seconds=until - began, cores=self.worker.cores, began=began, until=until)

    def close(self) -> None:
        """Give back claims and scratch."""
        self.worker.__exit__(None, None, None)

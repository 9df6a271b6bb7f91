"""A prediction over addresses in this process: set up, run, summed up."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from resvox.files import sha256_of
from resvox.fleet.ahead import Place
from resvox.fleet.claims import ObjectClaims
from resvox.fleet.inputs import Rows
from resvox.fleet.items import Item
from resvox.fleet.layout import Maker, OutputFolder, stamp
from resvox.fleet.manifest import Row
from resvox.fleet.options import FleetOptions
from resvox.fleet.result import FleetResult
from resvox.fleet.runner import PATIENCE_SECONDS, FleetRunner
from resvox.fleet.shards import Shard, rows_of_shard
from resvox.fleet.statuses import StatusLog
from resvox.fleet.tally import Tally
from resvox.machine import usable_threads
from resvox.prediction.model_engine import describe
from resvox.prediction.model_files import chosen_files
from resvox.prediction.options import Callbacks, PredictOptions
from resvox.prediction.outcomes import CaseOutcome
from resvox.prediction.predictor import Predictor
from resvox.prediction.tasks import refuse_unused, row_of
from resvox.storage.addresses import Location
from resvox.storage.objects import write_bytes
from resvox.storage.scratch import Scratch


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is called while a run works.

    Args:
        on_total: with the number of rows.
        on_item: with each row that is over.
        on_note: with a line of text.
    """

    on_total: Callable[[int], object] = lambda total: None
    on_item: Callable[[Item], object] = lambda item: None
    on_note: Callable[[str], object] = lambda text: None


class Worker:
    """A predictor with all that it needs to do rows; a context manager.

    Args:
        options: of the prediction; ``out`` is the address of the results.
        fleet: how it is run.
        run: the name of the run.
        counts: whether the end of this process counts against its cases, see `ObjectClaims`.
        patience_s: how long to wait for the cases of other processes.
        callbacks: windows and notes.
    """

    def __init__(
        self,
        options: PredictOptions,
        fleet: FleetOptions,
        *,
        run: str,
        counts: bool = True,
        patience_s: float = PATIENCE_SECONDS,
        callbacks: Callbacks | None = None,
    ) -> None:
        self.options, self.fleet = options, fleet
        self.callbacks = callbacks or Callbacks(on_note=lambda text: None)
        self.out = OutputFolder(Location.parse(os.fspath(options.out)))
        self.scratch = Scratch(fleet.scratch, limit_gb=fleet.scratch_gb)
        self.claims = ObjectClaims(self.out, counts=counts)
        self.cores = usable_threads()
        self.log = StatusLog(self.out, run=run, worker=self.claims.worker, cores=self.cores)
        self._patience_s = patience_s
        self._stack = ExitStack()

    def __enter__(self) -> Worker:
        with ExitStack() as stack:
            stack.enter_context(self.scratch)
            stack.enter_context(self.claims)
            file = chosen_files(self.options)[0]
            made = row_of(file.card.task).predictor_class(file.format)
            local = replace(self.options, out=self.scratch.folder)
            self.predictor: Predictor[Any, Any] = made(local, notify=self.callbacks.note)
            place = Place(
                out=self.out,
                maker=maker_of(self.predictor),
                claims=self.claims,
                scratch=self.scratch,
                overwrite=self.options.overwrite,
                retry_aside=self.fleet.retry_aside,
            )
            self.runner = FleetRunner(
                self.predictor, place, self.callbacks, ahead=self.fleet.ahead, patience_s=self._patience_s
            )
            stack.callback(self.runner.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self.scratch.close()
        self._stack.__exit__(*error)

    def items(self, rows: Iterable[Row]) -> Generator[Item, None, None]:
        """Do rows; each one that is over."""
        try:
            for item in self.runner.run(rows):
                self.log.add(item)
                yield item
        finally:
            self.log.flush()


def predict_rows(
    options: PredictOptions, fleet: FleetOptions, callbacks: Callbacks, watch: Watch | None = None
) -> FleetResult:
    """Predict rows of addresses in this process.

    Raises:
        WeightsError: a model that cannot be used. InferenceError: an option that cannot be. StorageError: a folder of
            results or a manifest that cannot be used.
    """
    watch = watch or Watch()
    file = chosen_files(options)[0]
    card = file.card
    refuse_unused(options, card.task, file.format)
    shard = shard_of(fleet, watch.on_note)
    run = new_run()
    with Worker(options, fleet, run=run, callbacks=callbacks) as worker, stopped_by_signals(worker.scratch.close):
        worker.out.check()
        rows = Rows(options.input_paths, worker.scratch.folder, channel_names=card.channel_names)
        total = rows.count()
        note_run(worker.out, run, total=total, shard=str(shard))
        watch.on_total(total if shard.is_whole else -(-total // shard.count))
        # Closed before the claims are given back, for until then rows are claimed ahead.
        with closing(worker.items(rows_of_shard(rows, shard))) as items:
            for item in items:
                watch.on_item(item)
        worker.claims.sweep()
        tally = worker.log.tally
        engine = describe(worker.predictor.engine)
    return result_of(tally, fleet, worker.out, engine)


def result_of(tally: Tally, fleet: FleetOptions, out: OutputFolder, engine: str) -> FleetResult:
    """The result of a run."""
    tally.core_hour_price = fleet.core_hour_price
    failed = tuple(CaseOutcome(id=each.case, status="failed", reason=each.reason) for each in tally.failures)
    return FleetResult(
        cases=failed, out=out.location.local or Path(str(out.location)), engine=engine, address=str(out.location),
        tally=tally,
    )  # fmt: skip


def shard_of(fleet: FleetOptions, note: Callable[[str], object]) -> Shard:
    """The part that is done here: given, or by the variables of an array job."""
    if fleet.shard is not None:
        return Shard.parse(fleet.shard)
    shard, words = Shard.of_environment()
    if not shard.is_whole:
        words = f"part {shard} of the manifest; --shard 1/1 does all of it"
    if words:
        note(words)
    return shard


def maker_of(predictor: Predictor[Any, Any]) -> Maker:
    """A digest of the model's files and of what is known of it, the same wherever the files lie."""
    digest = hashlib.sha256()
    for path in predictor.paths:
        digest.update(sha256_of(path).encode())
    digest.update(json.dumps(asdict(predictor.card), sort_keys=True, default=str).encode())
    return Maker(model=digest.hexdigest()[:32], settings={**predictor.settings(), **_outputs(predictor.options)})


def _outputs(options: PredictOptions) -> dict[str, Any]:
    """The options that change which files a result has, where they are not the usual ones."""
    names = (
        "format",
        "dicom",
        "sidecar",
        "probabilities",
        "uncertainty",
        "calibrated",
        "region_masks",
        "suffix",
        "series",
    )
    changed = options.changed()
    return {name: changed[name] for name in names if name in changed}


def new_run() -> str:
    """The name of a run; sorted by name, runs are in the order of time."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def note_run(out: OutputFolder, run: str, *, total: int, shard: str, workers: int = 1) -> None:
    """Note a run for `resvox status`."""
    about = {"run": run, "total": total, "shard": shard, "workers": workers, **stamp()}
    write_bytes(out.hidden / f"runs/{run}.json", json.dumps(about).encode())


@contextmanager
def stopped_by_signals(stop: Callable[[], object]) -> Iterator[None]:
    """Give back claims and scratch when the job is stopped (Ctrl-C, or SIGTERM of a scheduler)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        stop()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


_SIGNALS: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM)

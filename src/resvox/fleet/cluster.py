"""A prediction on a cluster of Ray: one actor per GPU or group of cores keeps the model; rows are all that is sent."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from resvox.errors import InferenceError, ResvoxError
from resvox.fleet.actor import Actor, Begun, Done
from resvox.fleet.ahead import MOST_DEATHS
from resvox.fleet.batches import Batch, Batches
from resvox.fleet.claims import ObjectClaims
from resvox.fleet.inputs import Rows
from resvox.fleet.items import Item
from resvox.fleet.layout import OutputFolder
from resvox.fleet.manifest import Row
from resvox.fleet.options import FleetOptions
from resvox.fleet.result import FleetResult
from resvox.fleet.run import Watch, new_run, note_run, result_of, shard_of
from resvox.fleet.shards import rows_of_shard
from resvox.fleet.tally import Tally
from resvox.prediction.model_files import chosen_files
from resvox.prediction.options import PredictOptions
from resvox.prediction.tasks import refuse_unused
from resvox.storage.addresses import Location

CORES = 4  # of an actor without a GPU, where the number of workers is not given
LOST_STARTS = 3  # actors in a row that ended before they had the model
ELSEWHERE_PAUSE, PATIENCE_SECONDS = 5.0, 3600.0
MOST_GONE = 1000  # names of ended workers that are kept: their claims expire by themselves


def predict_on_ray(options: PredictOptions, fleet: FleetOptions, watch: Watch) -> FleetResult:
    """Predict rows of addresses with actors of Ray.

    Raises:
        InferenceError: Ray is not installed, or no actor can be started. WeightsError, StorageError, DatasetError: as
            on one machine.
    """
    file = chosen_files(options)[0]
    refuse_unused(options, file.card.task, file.format)
    out = OutputFolder(Location.parse(str(options.out)))
    if out.location.scheme == "memory":
        raise InferenceError("results in memory:// on a cluster", expected="a folder that every machine sees")
    shard = shard_of(fleet, watch.on_note)
    run = new_run()
    out.check()
    with TemporaryDirectory(prefix="resvox-manifest-") as folder, _ray(fleet) as ray:
        rows = Rows(options.input_paths, Path(folder), channel_names=file.card.channel_names)
        total = rows.count()
        workers, resources = _resources(ray, options, fleet)
        note_run(out, run, total=total, shard=str(shard), workers=workers)
        watch.on_total(total if shard.is_whole else -(-total // shard.count))
        driver = _Driver(ray, options, fleet, out, watch, run=run, resources=resources)
        try:
            driver.run(Batches(rows_of_shard(rows, shard)), workers)
        finally:
            driver.close()
        ObjectClaims(out, gone=driver.gone).sweep()
    return result_of(driver.tally, fleet, out, driver.engine)


@dataclass
class _Member:
    """An actor, and what it is doing."""

    handle: Any
    worker: str = ""
    batch: Batch | None = None
    ref: Any = None


class _Driver:
    """Hands batches to actors, and replaces actors that end."""

    def __init__(
        self, ray: Any, options: PredictOptions, fleet: FleetOptions, out: OutputFolder, watch: Watch, *, run: str,
        resources: dict[str, float],
    ) -> None:  # fmt: skip
        self.ray, self.options, self.fleet, self.out, self.watch = ray, options, fleet, out, watch
        self.run_name, self.resources = run, resources
        self.tally, self.engine = Tally(), ""
        self.members: list[_Member] = []
        self.gone: list[str] = []
        self.deaths: dict[int, int] = {}  # of rows that are to be done alone
        self.elsewhere: list[Row] = []
        self._lost_starts = 0

    def run(self, batches: Batches, workers: int) -> None:
        """Do all batches."""
        self.members = [self._start() for _ in range(workers)]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self._hand_out(batches)
            busy = [member.ref for member in self.members if member.ref is not None]
            if not busy:
                if not self.elsewhere or time.monotonic() > deadline:
                    break
                time.sleep(ELSEWHERE_PAUSE)
                batches.singles.extend(self.elsewhere)
                self.elsewhere = []
                continue
            ready, _ = self.ray.wait(busy, num_returns=1, timeout=10.0)
            for member in list(self.members):
                if member.ref is not None and member.ref in ready:
                    self._take(member, batches)
        for row in self.elsewhere:
            self._count({"case": row.id, "status": "elsewhere", "reason": "another process"}, row)

    def close(self) -> None:
        """End the actors, which give back what they hold."""
        idle = [member for member in self.members if member.batch is None and member.worker]
        with contextlib.suppress(Exception):  # they are ended below in any case
            self.ray.get([member.handle.close.remote() for member in idle], timeout=30.0)
        for member in self.members:
            self.ray.kill(member.handle)

    def _start(self) -> _Member:
        made = self.ray.remote(Actor).options(max_restarts=0, **self.resources)
        handle = made.remote(self.options, self.fleet, self.run_name, max(int(self.resources.get("num_cpus", 1)), 1))
        return _Member(handle=handle, ref=handle.begin.remote())

    def _hand_out(self, batches: Batches) -> None:
        for member in self.members:
            if member.ref is None and member.worker:
                member.batch = batches.take()
                if member.batch is None:
                    return
                member.ref = member.handle.work.remote(member.batch.rows, self.gone[-MOST_GONE:])

    def _take(self, member: _Member, batches: Batches) -> None:
        try:
            found = self.ray.get(member.ref)
        except self.ray.exceptions.RayTaskError as error:
            raise self._refusal(error) from error
        except self.ray.exceptions.RayError as error:
            self._replace(member, batches, error)
            return
        batch, member.ref, member.batch = member.batch, None, None
        self._lost_starts = 0
        if isinstance(found, Begun):
            member.worker, self.engine = found.worker, found.engine
        elif batch is not None:
            self._finish(batch, found, batches)

    def _finish(self, batch: Batch, done: Done, batches: Batches) -> None:
        if not batch.alone:
            batches.learn(batch, done.seconds)
        self.tally.add_time(done.began, done.until, done.cores)
        by_number = {row.number: row for row in batch.rows}
        for status in done.rows:
            row = by_number[int(status["number"])]
            if status["status"] == "elsewhere":
                self.elsewhere.append(row)
                continue
            self.deaths.pop(row.number, None)
            self._count(status, row)

    def _count(self, status: dict[str, Any], row: Row) -> None:
        self.tally.add(status)
        item = Item(row=row, seconds=dict(status.get("seconds") or {}))
        item.settle(str(status["status"]), kind=str(status.get("kind", "")), reason=str(status.get("reason", "")))
        self.watch.on_item(item)

    # ------------------------------------------------------------------------------------------ actors that end

    def _replace(self, member: _Member, batches: Batches, error: Exception) -> None:
        """An actor ended: its rows are done again, the suspects alone, and one that ends actors is set aside."""
        if not member.worker:
            self._lost_starts += 1
            if self._lost_starts >= LOST_STARTS * len(self.members):
                raise InferenceError(
                    f"{self._lost_starts} actors in a row ended before they had the model ({_words(error)})",
                    expected="actors that start",
                    fix="check the memory of the machines and resvox on them: ray logs",
                ) from error
        else:
            self.gone.append(member.worker)
        for row in member.batch.rows if member.batch is not None else ():
            if self._is_suspect(row, member.worker):
                self.deaths[row.number] = self.deaths.get(row.number, 0) + 1
            if self.deaths.get(row.number, 0) >= MOST_DEATHS:
                self._set_aside(row)
            else:
                batches.singles.append(row)
        self.members[self.members.index(member)] = self._start()

    def _is_suspect(self, row: Row, worker: str) -> bool:
        """Whether an actor held a row when it ended."""
        return (self.out.record("claims", row.id) or {}).get("worker") == worker

    def _set_aside(self, row: Row) -> None:
        item = Item(row=row, deaths=self.deaths.pop(row.number))
        item.set_aside()
        self.out.fail(row.id, item.to_dict())
        self.out.drop_claim(row.id)
        self._count(item.to_dict(), row)

    def _refusal(self, error: Any) -> Exception:
        cause = error.cause
        if isinstance(cause, ResvoxError):
            return cause
        return InferenceError(f"an actor failed ({_words(error)})", expected="a worker with the same resvox")


def _words(error: Exception) -> str:
    lines = [each.strip() for each in str(error).splitlines() if each.strip()]
    return f"{type(error).__name__}: {lines[-1][:200] if lines else ''}"


@contextmanager
def _ray(fleet: FleetOptions) -> Iterator[Any]:
    try:
        import ray
    except ModuleNotFoundError:
        raise InferenceError(
            "--cluster ray, and Ray is not installed", expected="the extra 'ray'", fix="pip install 'resvox[ray]'"
        ) from None
    own = not ray.is_initialized()
    # Without "local", Ray would look for the address of a cluster that another program left in its folder.
    address = fleet.address or os.environ.get("RAY_ADDRESS") or "local"
    if own:
        try:
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False if address == "local" else None,
            )
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            if address == "local":
                raise InferenceError(f"Ray could not be started on this machine ({_words(error)})") from error
            raise InferenceError(
                f"no cluster of Ray at {address} ({_words(error)})",
                expected="the address of a head, or none for this machine",
                fix="ray status; RAY_AUTH_MODE=token and RAY_AUTH_TOKEN where the cluster asks for a token",
            ) from error
    try:
        yield ray
    finally:
        if own:
            ray.shutdown()


def _resources(ray: Any, options: PredictOptions, fleet: FleetOptions) -> tuple[int, dict[str, float]]:
    """How many actors, and what each takes."""
    there = ray.cluster_resources()
    cores, cards = int(there.get("CPU", 1)), int(there.get("GPU", 0))
    if cards and options.device in ("auto", "cuda"):
        workers = fleet.workers or cards
        return workers, {"num_gpus": 1, "num_cpus": max(min(CORES, cores // workers), 1)}
    workers = fleet.workers or max(cores // CORES, 1)
    return workers, {"num_cpus": max(cores // workers, 1)}

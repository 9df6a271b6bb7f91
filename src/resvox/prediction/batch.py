"""A batch of cases of any task: it does what it can, reports what it could not, and can be run again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from resvox.inference.engines.protocol import LoadsAhead
from resvox.locks import Claims
from resvox.prediction.cases import Case, Work
from resvox.prediction.log import LOGGED, Line, RunLog
from resvox.prediction.model_engine import describe
from resvox.prediction.model_files import chosen_files
from resvox.prediction.options import Callbacks, PredictOptions
from resvox.prediction.outcomes import CaseOutcome, PredictResult, one_line
from resvox.prediction.pipeline import Stages, run_stages, timed_call
from resvox.prediction.predictor import Predictor, Written
from resvox.prediction.results import Results
from resvox.prediction.tasks import row_of

PATIENCE_SECONDS = 3600.0  # for a case of another process, as long as that one lives
QUIET_SECONDS = 5.0  # of waiting, before it is mentioned


def predict_cases(options: PredictOptions, callbacks: Callbacks, work: Work) -> PredictResult:
    """Predict in this process what others that share the folder have not done yet."""
    file = chosen_files(options)[0]
    predictor = row_of(file.card.task).predictor_class(file.format)(options, notify=callbacks.note)
    callbacks.start(len(work.cases))
    options.out.mkdir(parents=True, exist_ok=True)
    with Claims(options.out) as locks:
        log = RunLog(options.out)
        log.begin(predictor.paths, predictor.settings(), predictor.engine)
        log.clock_offset = locks.clock() - time.time()
        results = predictor.results(log, locks, work.cases, since=work.since)
        outcomes = _Batch(predictor, results, log, locks, callbacks).run(work.cases)
    return PredictResult(cases=tuple(outcomes), out=options.out, engine=describe(predictor.engine))


@dataclass
class _Job:
    """Cases that go through the network together, and what has become of them so far."""

    cases: tuple[Case, ...]
    lock: str
    todo: list[Case] = field(default_factory=list)
    about: dict[str, Line] = field(default_factory=dict)  # by case, for the log
    # by the case's place in `cases`
    outcomes: dict[int, CaseOutcome] = field(default_factory=dict)
    fields: dict[int, Mapping[str, Any]] = field(default_factory=dict)  # of a written case, for the log
    logged: set[int] = field(default_factory=set)

    def settle(self, case: Case, outcome: CaseOutcome, fields: Mapping[str, Any] | None = None) -> None:
        place = self._place(case)
        self.outcomes[place], self.fields[place] = outcome, fields or {}

    def is_settled(self, case: Case) -> bool:
        return self._place(case) in self.outcomes

    def ordered(self) -> list[CaseOutcome]:
        return [self.outcomes[place] for place in range(len(self.cases))]

    def _place(self, case: Case) -> int:
        return next(place for place, each in enumerate(self.cases) if each is case)

    @property
    def is_elsewhere(self) -> bool:
        return any(outcome.status == "elsewhere" for outcome in self.outcomes.values())


@dataclass
class _Read:
    """Prepared cases, each with its seconds so far."""

    cases: list[Case] = field(default_factory=list)
    ready: list[Any] = field(default_factory=list)
    seconds: list[dict[str, float]] = field(default_factory=list)


Computed = list[tuple[Case, Any, dict[str, float]]]


class _Batch:
    """One predictor over many cases."""

    def __init__(
        self,
        predictor: Predictor[Any, Any],
        results: Results,
        log: RunLog,
        locks: Claims,
        callbacks: Callbacks,
    ) -> None:
        self.predictor, self.results, self.log, self.locks = predictor, results, log, locks
        self.callbacks = callbacks

    def run(self, cases: Sequence[Case]) -> list[CaseOutcome]:
        """The outcome of every case, in order."""
        size = self.predictor.batch_size
        # Of all cases, done or not: every process that shares the folder forms the same jobs.
        chunks = [tuple(cases[first : first + size]) for first in range(0, len(cases), size)]
        jobs = [_Job(cases=chunk, lock=self.results.lock_name(chunk)) for chunk in chunks]
        outcomes: list[list[CaseOutcome]] = []
        try:
            for job, made in zip(jobs, self._run(jobs), strict=True):
                outcomes.append(made)
                if not job.is_elsewhere:
                    self._report(made)
                self.results.flush()
            for place, job in enumerate(jobs):
                if job.is_elsewhere:
                    outcomes[place] = self._wait_for(job)
                    self._report(outcomes[place])
        finally:
            self.results.flush(last=True)
        return [outcome for made in outcomes for outcome in made]

    def _run(self, jobs: Sequence[_Job]) -> Iterator[list[CaseOutcome]]:
        stages = Stages(
            admit=self._admit,
            read=self._read,
            compute=self._compute,
            write=self._write,
            fail=self._fail_all,
            finish=self._log,
            close=lambda job: self.locks.release(job.lock),
        )
        return run_stages(jobs, stages)

    def _report(self, outcomes: Sequence[CaseOutcome]) -> None:
        for outcome in outcomes:
            self.callbacks.case(outcome)

    # ------------------------------------------------------------------------------------------ the stages

    def _admit(self, job: _Job) -> list[CaseOutcome] | None:
        """The outcomes of cases that are not to be done now; None where some are, and then they are locked."""
        self._settle_done(job)
        if not job.todo:
            return job.ordered()
        note = None if self.results.line_is_result else self._about(job, job.todo[0])
        if not self.locks.take(job.lock, note):
            owner = self.locks.holder(job.lock)
            for case in job.todo:
                job.settle(case, CaseOutcome(id=case.id, status="elsewhere", reason=owner))
            return job.ordered()
        self.log.refresh()
        self._settle_done(job)  # finished by another process between the look and the lock
        if not job.todo:
            self.locks.release(job.lock)
            return job.ordered()
        for case in job.todo:
            self.results.prepare(case)
        return None

    def _settle_done(self, job: _Job) -> None:
        job.todo = []
        for case in job.cases:
            if job.is_settled(case):
                continue
            try:
                outcome = self.results.outcome(case)
            except Exception as error:  # the batch goes on; the error is kept in the outcome and shown
                self._fail(job, case, error)
                continue
            if outcome is None:
                job.todo.append(case)
            else:
                job.settle(case, outcome)

    def _about(self, job: _Job, case: Case) -> Line:
        if case.id not in job.about:
            job.about[case.id] = self.log.describe(case)
        return job.about[case.id]

    def _read(self, job: _Job) -> _Read:
        read = _Read()
        for case in job.todo:
            seconds: dict[str, float] = {}
            try:
                self._about(job, case)  # before it is read: a scan that changes meanwhile is noticed by the next run
                volume = timed_call(seconds, "read", self.predictor.read, case)
                ready = timed_call(seconds, "preprocess", self.predictor.prepare, volume)
            except Exception as error:
                self._fail(job, case, error)
                continue
            read.cases.append(case)
            read.ready.append(ready)
            read.seconds.append(seconds)
        return read

    def _compute(self, job: _Job, read: _Read) -> Computed:
        if not read.ready:
            return []
        if isinstance(self.predictor.engine, LoadsAhead):
            self.predictor.engine.finish_loading()
        progress = self.callbacks.windows_of(read.cases[0].id)
        made = self.predictor.compute(read.ready, progress=progress)
        read.ready.clear()
        return [
            (case, each, {**spent, **each.seconds})
            for case, each, spent in zip(read.cases, made, read.seconds, strict=True)
        ]

    def _write(self, job: _Job, computed: Computed) -> list[CaseOutcome]:
        for case, made, seconds in computed:
            try:
                written: Written = timed_call(seconds, "write", self.predictor.write, case, made)
            except Exception as error:
                self._fail(job, case, error)
                continue
            outcome = CaseOutcome(
                id=case.id,
                status="written",
                path=written.path,
                seconds=seconds,
                windows=made.windows,
                skipped=made.skipped,
                answer=written.answer,
                fields=written.fields,
            )
            job.settle(case, outcome, written.fields)
        return job.ordered()

    def _log(self, job: _Job, outcomes: list[CaseOutcome]) -> list[CaseOutcome]:
        """Add the lines of a job, in the order of the cases; the job's lock is still held."""
        new = [place for place, each in enumerate(outcomes) if each.status in LOGGED and place not in job.logged]
        entries = [
            (job.cases[place], outcomes[place], job.fields[place], job.about.get(job.cases[place].id, {}))
            for place in new
        ]
        try:
            self.log.add(entries)
        except OSError as error:
            # A result file counts even without a line in the log; where the line is the result, there is no file.
            if self.results.line_is_result:
                for place in new:
                    self._fail(job, job.cases[place], error)
        job.logged.update(new)
        return job.ordered()

    def _fail(self, job: _Job, case: Case, error: Exception) -> None:
        reason = one_line(error, case.inputs[0])
        job.settle(case, CaseOutcome(id=case.id, status="failed", reason=reason, error=error))

    def _fail_all(self, job: _Job, error: Exception) -> list[CaseOutcome]:
        for case in job.cases:
            if not job.is_settled(case):
                self._fail(job, case, error)
        return job.ordered()

    # ------------------------------------------------------------------------------------------ other processes

    def _wait_for(self, job: _Job) -> list[CaseOutcome]:
        """Wait until another process has done its cases, or is gone; then they are done here."""
        start, pause, mentioned = time.monotonic(), 0.05, False
        while True:
            job.outcomes = {place: each for place, each in job.outcomes.items() if each.status != "elsewhere"}
            self.log.refresh()
            (outcomes,) = self._run([job])
            waited = time.monotonic() - start
            if not job.is_elsewhere or waited > PATIENCE_SECONDS:
                return outcomes
            if waited > QUIET_SECONDS and not mentioned:
                mentioned = True
                self.callbacks.note(f"waiting for {job.cases[0].id}, which {self.locks.holder(job.lock)} is doing")
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

"""One case after the other, three at a time: while one is in the network, the next is read and the last is written."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")
Read = TypeVar("Read")
Made = TypeVar("Made")
End = TypeVar("End")


@dataclass(frozen=True)
class Stages(Generic[Job, Read, Made, End]):
    """What happens to a job (a case, or several that go through the network together), in order.

    Each stage runs in a thread of its own, so each must be safe beside the others.

    ``admit``: an outcome where there is nothing to do, else None. ``read``, ``compute`` (in the calling thread),
    ``write``: hand on what they made. ``fail``: the outcome of an exception. ``finish``: called with every job and its
    outcome, one after the other and in order. ``close``: called once a job that was admitted is over, however it ended.
    """

    admit: Callable[[Job], End | None]
    read: Callable[[Job], Read]
    compute: Callable[[Job, Read], Made]
    write: Callable[[Job, Made], End]
    fail: Callable[[Job, Exception], End]
    close: Callable[[Job], None]
    finish: Callable[[Job, End], End] = lambda job, end: end


@dataclass
class _Begun(Generic[Read, End]):
    outcome: End | None = None
    read: list[Read] = field(default_factory=list)  # taken out when it is used, so that nothing holds a scan longer


def run_stages(jobs: Iterable[Job], stages: Stages[Job, Read, Made, End]) -> Iterator[End]:
    """The outcome of every job, in order. A job that fails is an outcome; the others go on.

    No more than one case is read ahead and one is being written, so memory holds three cases at most.
    """
    waiting = iter(jobs)
    ahead: deque[tuple[Job, Future[_Begun[Read, End]]]] = deque()
    behind: deque[Future[End]] = deque()
    with ThreadPoolExecutor(1, "resvox-read") as reader, ThreadPoolExecutor(1, "resvox-write") as writer:

        def read_ahead() -> None:
            for job in waiting:
                ahead.append((job, reader.submit(_begin, job, stages)))
                return

        read_ahead()
        while ahead:
            job, future = ahead.popleft()
            begun = future.result()
            read_ahead()
            behind.append(_compute(job, begun, stages, writer))
            while len(behind) > 1:
                yield behind.popleft().result()
        while behind:
            yield behind.popleft().result()


def _begin(job: Job, stages: Stages[Job, Read, Made, End]) -> _Begun[Read, End]:
    try:
        outcome = stages.admit(job)
    except Exception as error:  # the batch goes on; the error is kept in the outcome and shown
        return _Begun(outcome=stages.fail(job, error))
    if outcome is not None:
        return _Begun(outcome=outcome)
    try:
        return _Begun(read=[stages.read(job)])
    except Exception as error:
        stages.close(job)
        return _Begun(outcome=stages.fail(job, error))


def _compute(
    job: Job, begun: _Begun[Read, End], stages: Stages[Job, Read, Made, End], writer: ThreadPoolExecutor
) -> Future[End]:
    if begun.outcome is not None:
        return writer.submit(stages.finish, job, begun.outcome)
    try:
        made = stages.compute(job, begun.read.pop())
    except Exception as error:
        stages.close(job)
        return writer.submit(stages.finish, job, stages.fail(job, error))
    return writer.submit(_end, job, made, stages)


def _end(job: Job, made: Made, stages: Stages[Job, Read, Made, End]) -> End:
    try:
        try:
            end = stages.write(job, made)
        except Exception as error:
            end = stages.fail(job, error)
        return stages.finish(job, end)
    finally:
        stages.close(job)


def timed_call(seconds: dict[str, float], stage: str, work: Callable[..., Made], *arguments: Any) -> Made:
    """The result of ``work(*arguments)``; its seconds are noted under a stage."""
    start = time.perf_counter()
    made = work(*arguments)
    seconds[stage] = time.perf_counter() - start
    return made

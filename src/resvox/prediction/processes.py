"""Several processes over the same inputs; locks keep them from doing a case twice."""

from __future__ import annotations

import multiprocessing
import pickle
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from resvox.errors import InferenceError
from resvox.inference.engines.table import export_formats, runners_of
from resvox.machine import divided_threads
from resvox.prediction.batch import predict_cases
from resvox.prediction.cases import Work
from resvox.prediction.model_files import chosen_files
from resvox.prediction.options import Callbacks, PredictOptions
from resvox.prediction.outcomes import CaseOutcome, PredictResult

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

RANK = {"written": 0, "failed": 1, "present": 2, "elsewhere": 3}  # of a case's outcomes the first is reported


def predict_in_processes(options: PredictOptions, callbacks: Callbacks, work: Work) -> PredictResult:
    """Predict with ``options.processes`` processes, this one included.

    The cores that this process may use are divided among them, unless OMP_NUM_THREADS is set, which each process then
    uses; with several GPUs each process uses the next one.

    Raises:
        InferenceError: a process that ended without a result (killed, usually for memory).
    """
    with divided_threads(options.processes):
        results = _results(options, callbacks, work)
    merged = _merged(results)
    for outcome, own in zip(merged, results[0].cases, strict=True):
        if outcome is not own:
            callbacks.case(outcome)
    return PredictResult(cases=merged, out=options.out, engine=results[0].engine)


def _results(options: PredictOptions, callbacks: Callbacks, work: Work) -> list[PredictResult]:
    """The result of each process, that of this one first."""
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    started: list[tuple[BaseProcess, Connection]] = []
    for rank in range(1, options.processes):
        here, there = context.Pipe(duplex=False)
        child: BaseProcess = context.Process(target=_work, args=(_placed(options, rank), work, there), daemon=True)
        child.start()
        there.close()
        started.append((child, here))
    try:
        results = [predict_cases(_placed(options, 0), callbacks, work)]
        results += [_result_of(child, pipe) for child, pipe in started]
    finally:
        for child, _ in started:
            if child.is_alive():
                child.terminate()
            child.join()
    return results


def _placed(options: PredictOptions, rank: int) -> PredictOptions:
    """On the GPU of a rank, where there are several and none was named."""
    if options.device not in ("auto", "cuda"):
        return options
    import resvox.inference.engines.devices as devices

    count = devices.gpu_count()
    if count < 2 or not _computes_on_gpu(options):
        return options
    return replace(options, device=f"cuda:{rank % count}")


def _computes_on_gpu(options: PredictOptions) -> bool:
    """Whether an engine that runs the model supports GPUs; for exported networks not each one does."""
    exported = {file.format for file in chosen_files(options) if file.format in export_formats()}
    return all(any(row.computes_on("cuda") for row in runners_of(each)) for each in exported)


def _work(options: PredictOptions, work: Work, pipe: Connection) -> None:
    try:
        result = predict_cases(options, Callbacks(on_note=lambda text: None), work)
        # An outcome's exception stays here: not every one survives being sent.
        message: Any = replace(result, cases=tuple(replace(case, error=None) for case in result.cases))
    except Exception as error:
        message = _portable(error)
    pipe.send(message)
    pipe.close()


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return InferenceError(f"a process ended with {type(error).__name__}: {traceback.format_exc(limit=1)}")
    return error


def _result_of(child: BaseProcess, pipe: Connection) -> PredictResult:
    try:
        message = pipe.recv()
    except EOFError:
        child.join()
        raise InferenceError(
            f"a process that ended with exit code {child.exitcode} without a result",
            expected="a result from every process",
            fix="fewer --processes: memory may not suffice for all; what is written is whole",
        ) from None
    if isinstance(message, Exception):
        raise message
    assert isinstance(message, PredictResult)
    return message


def _merged(results: list[PredictResult]) -> tuple[CaseOutcome, ...]:
    """The outcome of every case in the process that predicted it."""
    rows = zip(*(result.cases for result in results), strict=True)
    return tuple(min(row, key=lambda outcome: RANK[outcome.status]) for row in rows)

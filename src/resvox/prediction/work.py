"""What a batch is to do, found once before any network is loaded, and the calls that make no sense."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from resvox.errors import InferenceError, WeightsError
from resvox.locks import Claims
from resvox.prediction.inputs import Case
from resvox.prediction.log import RunLog
from resvox.prediction.model_files import looks_like_model, model_files
from resvox.prediction.options import Callbacks, PredictOptions
from resvox.prediction.tasks import refuse_unused, row_of

OTHER_FILES = (".csv", ".json", ".jsonl", ".npz", ".zip", ".txt")  # endings that no folder of results has


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the processes of one call have in common.

    Args:
        cases: found once: a process that looks later would find what the others have written.
        since: what is older (seconds, the folder's clock) is to be done again.
    """

    cases: tuple[Case, ...]
    since: float = 0.0


def find_work(options: PredictOptions, callbacks: Callbacks) -> Work:
    """The cases of a batch; no network is loaded.

    Raises:
        WeightsError: a model that cannot be used. InferenceError: an option that cannot be.
    """
    _check_out(options.out)
    _check_order(options)
    card = model_files(options.model)[0].card
    refuse_unused(options, card.task)
    found = row_of(card.task).predictor_class().find(options, card, RunLog(options.out))
    for text in found.notes:
        callbacks.note(text)
    if not options.overwrite:
        return Work(cases=found.cases)
    return Work(cases=found.cases, since=Claims(options.out).clock())


def _check_out(out: Path) -> None:
    from resvox.volumes.formats import ending_of

    is_file = out.is_file() or bool(ending_of(out)) or out.suffix.lower() in OTHER_FILES
    if is_file and not out.is_dir():
        folder = out.parent if out.parent != Path() else Path("out")
        raise InferenceError(
            f"-o {out}, which is a file" + ("" if out.is_file() else " by its name"),
            expected="a folder: results are named like their scans",
            fix=f"-o {folder}",
        )


def _check_order(options: PredictOptions) -> None:
    """Refuse a model and scans that were given in the wrong order."""
    from resvox.volumes.formats import ending_of

    for model in map(Path, options.models):
        is_scan = ending_of(model) != "" or (model.is_dir() and not looks_like_model(model))
        models = [path for path in map(Path, options.input_paths) if looks_like_model(path)]
        if is_scan and models:
            raise WeightsError(
                f"not a model, but {models[0]} among the inputs is one",
                expected="the model first, then the scans",
                fix=f"resvox predict {models[0]} {model} -o {options.out}",
                path=model,
            )

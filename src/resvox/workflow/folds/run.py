"""Cross-validation from beginning to end: folds, trainings, predictions out of fold, scores, post-processing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resvox.errors import DatasetError, PlanError
from resvox.files import remove_leftovers, write_atomically
from resvox.training.plans.options import TrainOptions
from resvox.training.tasks import TASKS
from resvox.workflow.folds.assignment import assign_folds, dataset_of_fold
from resvox.workflow.folds.folder import Folds, FoldsFolder
from resvox.workflow.folds.training import FoldsJob, is_finished, train_folds

if TYPE_CHECKING:
    from resvox.evaluation.calibration.risk import RiskCoverage
    from resvox.evaluation.table import ScoreTable
    from resvox.training.plans.base import TrainingPlan
    from resvox.workflow.folds.choices import Choice

LEFTOVER_AGE_S = 3600.0  # a younger temporary file may be one that the job of another fold is writing


@dataclass(frozen=True, kw_only=True)
class FoldsResult:
    """Where a cross-validation ended.

    Args:
        folder: of the run; `predict` takes it as the mean of all folds.
        folds: fold of each case.
        left: folds that are not finished, where one fold alone was to be trained.
        validated: the best score of each finished fold's own validation, by fold.
        title: its name.
        scores: out of fold, on the grids of the scans; None where folds are left, or the task has no label maps.
        choice: the post-processing that these scores chose.
        risk: these scores against the doubt of each case.
    """

    folder: Path
    folds: Folds
    left: tuple[int, ...]
    validated: dict[int, float | None]
    title: str
    scores: ScoreTable | None = field(default=None, repr=False)
    choice: Choice | None = None
    risk: RiskCoverage | None = None

    @property
    def by_fold(self) -> dict[int, float | None]:
        """Mean Dice out of fold of each fold: of labels over its cases, then over labels."""
        from resvox.evaluation.table import ScoreTable

        if self.scores is None:
            return {}
        found = {}
        for fold in range(self.folds.count):
            own = {case: each for case, each in self.scores.scores.items() if self.folds.cases[case] == fold}
            found[fold] = ScoreTable(own).overall.dice
        return found


def saved_folds(out: Path) -> int | None:
    """How many folds an earlier call has begun in a folder; None if it has begun none."""
    found = FoldsFolder(out).read()
    return None if found is None else found.count


def cross_validate(
    dataset: Any, plan: TrainingPlan, out: Path, options: TrainOptions, *, say: Callable[[str], None]
) -> FoldsResult:
    """Train every fold that is not finished, then predict and score each case out of fold.

    Args:
        options: with ``folds``; ``fold`` trains that one alone, and does the rest where no other is left.
        say: called with a line of text now and then.

    Raises:
        DatasetError: fewer cases than folds, or a fold without which a class has no case to train on.
        PlanError: a folder that holds something else.
        RunStoppedError: a signal stopped a fold.
    """
    assert options.folds is not None
    _refuse_short(options)
    folder = FoldsFolder(out)
    cases = assign_folds(dataset.cases, options.folds, seed=plan.seed, source=dataset.source)
    folds = Folds(count=options.folds, cases=cases)
    check_splits(dataset, folds, plan)
    folder.begin(folds, options, say)
    remove_leftovers(folder.path, older_than_s=LEFTOVER_AGE_S)
    plan.save(folder.plan)
    colours = _colours(plan.task, dataset)
    job = FoldsJob(dataset=dataset, plan=plan, folder=folder, folds=folds, options=options, colours=colours)
    train_folds(job, say)
    left = _left(folder, folds, plan, options)
    result = FoldsResult(
        folder=out,
        folds=folds,
        left=left,
        validated={fold: _best_score(folder, fold, plan) for fold in range(folds.count) if fold not in left},
        title=_title(plan),
    )
    if left or not TASKS[plan.task].has_label_map:
        return result
    return _out_of_fold(job, result, say)


def _refuse_short(options: TrainOptions) -> None:
    if options.fold is not None and options.folds is not None and options.fold >= options.folds:
        raise PlanError(f"fold={options.fold} of {options.folds} folds", expected=f"0 to {options.folds - 1}")


def check_splits(dataset: Any, folds: Folds, plan: TrainingPlan) -> None:
    """Refuse a fold that could not begin, before others have trained for hours.

    Raises:
        DatasetError: a fold without which a class has no case to train on; it names the fold and the class.
    """
    for fold in range(folds.count):
        try:
            dataset_of_fold(dataset, folds.cases, fold).split(fraction=plan.validation_fraction, seed=plan.seed)
        except DatasetError as error:
            raise DatasetError(
                f"fold {fold}: {error.got}",
                expected=error.expected,
                fix="add cases of another patient (group), so that two folds have some, or leave the class out",
                path=error.path,
            ) from error


def _out_of_fold(job: FoldsJob, result: FoldsResult, say: Callable[[str], None]) -> FoldsResult:
    from dataclasses import replace

    from resvox.evaluation.calibration.risk import risk_coverage
    from resvox.evaluation.table import ScoreTable
    from resvox.workflow.folds.choices import choose_rules
    from resvox.workflow.folds.out_of_fold import doubts_of, predict_out_of_fold, score_out_of_fold, write_csv

    predicted = predict_out_of_fold(job.dataset, job.folder, job.folds, job.options, say)
    table = score_out_of_fold(job.dataset, predicted, say)
    choice = choose_rules(job.dataset, predicted, say)
    dice = {case: ScoreTable({case: own}).overall.dice for case, own in table.scores.items()}
    risk = risk_coverage(doubts_of(job.folder, job.folds), dice)
    result = replace(result, scores=table, choice=choice, risk=risk)
    for fold in range(job.folds.count):
        _write_rules(job.folder.run(fold).model, choice)
    write_csv(table, job.folds.cases, job.folder.csv)
    write_atomically(job.folder.json, json.dumps(_as_json(result), indent=2, ensure_ascii=False) + "\n")
    return result


def _as_json(result: FoldsResult) -> dict[str, Any]:
    from dataclasses import asdict

    from resvox.evaluation.rounding import rounded

    assert result.scores is not None
    assert result.choice is not None
    assert result.risk is not None
    summary = {label: _numbers(asdict(each)) for label, each in result.scores.summary.items()}
    return {
        **result.folds.to_dict(),
        "dice_by_fold": {str(fold): rounded(value) for fold, value in result.by_fold.items()},
        "summary": summary,
        "overall": _numbers(asdict(result.scores.overall)),
        "postprocessing": result.choice.to_dict(),
        "doubt": result.risk.to_dict(),
        "scores": result.scores.to_dict(),
    }


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    from resvox.evaluation.rounding import rounded

    return {name: rounded(value) if isinstance(value, float) else value for name, value in values.items()}


def _write_rules(model: Path, choice: Choice) -> None:
    """The rules in a model's card; a file that has them already is left as it is."""
    from resvox.cards.postprocessing import FIELD
    from resvox.weights import load_model, read_header, save_model

    metadata = dict(read_header(model).metadata)
    wanted = [rule.to_dict() for rule in choice.rules]
    if metadata.get(FIELD, []) == wanted:
        return
    metadata[FIELD] = wanted
    save_model(load_model(model), model, metadata=metadata)


def _left(folder: FoldsFolder, folds: Folds, plan: TrainingPlan, options: TrainOptions) -> tuple[int, ...]:
    """The folds that are not finished; those that this call has finished early, with ``finish``, are not among them."""
    early: Sequence[int] = ()
    if options.finish:
        early = range(folds.count) if options.fold is None else (options.fold,)
    return tuple(fold for fold in range(folds.count) if fold not in early and not is_finished(folder.run(fold), plan))


def _best_score(folder: FoldsFolder, fold: int, plan: TrainingPlan) -> float | None:
    """The score of a fold's own validation, of the weights in its model."""
    from resvox.training.checkpoints import is_readable, load_checkpoint
    from resvox.training.tasks import task_of

    best = folder.run(fold).best
    if not is_readable(best):
        return None
    found: float | None = load_checkpoint(best)["progress"].best.get(task_of(plan).shown)
    return found


def _title(plan: TrainingPlan) -> str:
    from resvox.training.tasks import task_of

    return task_of(plan).title


def _colours(task: str, dataset: Any) -> dict[str, str]:
    if not TASKS[task].has_label_map:
        return {}
    from resvox.viewer import label_colours

    colours: dict[str, str] = label_colours(dataset.labels)
    return colours

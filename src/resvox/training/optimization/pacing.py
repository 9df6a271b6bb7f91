"""Where a run is in its plan, and when it validates: by steps, or by the time where that is limited."""

from __future__ import annotations

from dataclasses import dataclass

from resvox.training.plans.base import TrainingPlan

TRAINING_PER_VALIDATION = 9  # training between two validations takes at least 9 times as long as a validation
FIRST = 1 / 40  # assumed duration of the first validation, as a fraction of the time limit


def place_in_plan(plan: TrainingPlan, step: int, seconds: float) -> float:
    """The step, or the same share of the plan's steps as of its time is spent, whichever is further.

    A run of limited time that cannot do all steps then ends with the learning rate that the plan ends with. Without
    this, a slow machine would stop while the learning rate is still high.

    Args:
        step: steps that are done.
        seconds: of training so far.
    """
    if plan.max_minutes is None:
        return step
    return max(step, plan.steps * min(1.0, seconds / (60 * plan.max_minutes)))


@dataclass
class ValidationTimes:
    """When a run validates: every ``plan.validation_interval`` steps.

    Where the time is limited, the intervals are those of `place_in_plan`, and a validation waits until training has
    taken `TRAINING_PER_VALIDATION` times as long as the one before.

    Step and time of the validation before are kept, not its place: a resumed run may have another limit of time, and
    with it other places.

    Args:
        step: of the validation before.
        began: seconds of training at its beginning.
        ended: seconds of training at its end.
        took: its seconds; None where there was none.
        place: in the plan of then, of a checkpoint that holds neither step nor beginning.
    """

    step: int = 0
    began: float = 0.0
    ended: float = 0.0
    took: float | None = None
    place: float | None = None

    def is_due(self, plan: TrainingPlan, step: int, seconds: float) -> bool:
        """Whether to validate after ``step`` steps and ``seconds`` of training."""
        if plan.max_minutes is None:
            return step % plan.validation_interval == 0
        before, now = self._place(plan, step, seconds), place_in_plan(plan, step, seconds)
        passed = now // plan.validation_interval > before // plan.validation_interval
        took = FIRST * 60 * plan.max_minutes if self.took is None else self.took
        return passed and seconds - self.ended >= TRAINING_PER_VALIDATION * took

    def note(self, step: int, *, began: float, took: float, ended: float) -> None:
        """A validation after ``step`` steps.

        Args:
            began, ended: seconds of training; the same where the validation does not count.
            took: seconds.
        """
        self.step, self.began, self.ended, self.took, self.place = step, began, ended, took, None

    def _place(self, plan: TrainingPlan, step: int, seconds: float) -> float:
        """The place of the validation before, in the plan of now; ``step`` and ``seconds`` are those of now."""
        if self.place is None:
            return place_in_plan(plan, self.step, self.began)
        self.place = min(self.place, place_in_plan(plan, step, seconds))  # more time than then makes each place earlier
        return self.place
